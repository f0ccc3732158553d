//! `dvx-control`
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Memory is wiped when it is given back, also what libraries copied into it: bodies of requests hold secrets.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    dvx_control::main()
}
