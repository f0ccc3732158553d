//! `dvxir`: the client that agents use inside the enclave.
#![cfg_attr(not(all(target_env = "gnu", not(test))), forbid(unsafe_code))]
#![cfg_attr(all(target_env = "gnu", not(test)), deny(unsafe_code), no_main)] // startup.rs says why

mod cli;
mod client;
mod clock;
mod commands;
mod environment;
mod error;
mod git;
mod link;
mod output;
#[cfg(test)]
mod pages;
mod shell;
#[cfg(all(target_env = "gnu", not(test)))]
mod startup;

use error::Exit;

/// Memory is wiped when it is given back, also what libraries copied into it.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    run().code().into()
}

/// Does what the arguments say, and tells what went wrong.
fn run() -> Exit {
    let environment = environment::Environment::of_process();
    let outcome = cli::command(std::env::args_os()).and_then(|command| command.run(&environment));
    outcome.unwrap_or_else(|failure| failure.report())
}
