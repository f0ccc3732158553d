//! `dvx-control`
fn main() {}
