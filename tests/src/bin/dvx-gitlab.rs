//! The GitLab simulator: `dvx-gitlab --directory DIR [--seed FILE] [--http|--https|--admin ADDRESS]`.
//!
//! Repositories lie in `DIR/repositories`, the certificate of its authority in `DIR/ca.pem`, and once it serves,
//! its addresses in `DIR/ready.json`.

fn main() {
    dvx_tests::serve_gitlab(std::env::args().skip(1));
}
