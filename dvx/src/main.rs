//! `dvx`, the operator's command line.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod clock;
mod commands;
mod delivery;
mod failure;
mod output;
mod prompt;
mod settings;
mod signals;
mod times;
mod value;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use nix::sys::prctl;
use tokio::runtime;

use crate::cli::{Command, KeeperArguments};
use crate::failure::Failure;

/// Memory is wiped when it is given back, also what libraries copied into it.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let is_keeper = env::args_os().next().is_some_and(|name| name == cli::KEEPER);
    let result = if is_keeper {
        commands::dev::keep(KeeperArguments::parse())
    } else {
        run(cli::parse(env::args_os()).unwrap_or_else(|error| error.exit()).command)
    };
    match result {
        Ok(status) => status,
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.exit())
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Dev(arguments) => commands::dev::run(arguments),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::Man { page } => commands::man::run(page.as_deref()),
        Command::Login(arguments) => wait_for(commands::login::run(arguments)),
        Command::Whoami(output) => wait_for(commands::whoami::run(output.format)),
        Command::Status(output) => wait_for(commands::status::run(output.format)),
        Command::Enclave(arguments) => wait_for(commands::enclave::run(arguments)),
        Command::Operator(arguments) => wait_for(commands::operator::run(arguments)),
        Command::Agent(arguments) => wait_for(commands::agent::run(arguments)),
        Command::Secret(arguments) => wait_for(commands::secret::run(arguments)),
        Command::CredentialProvider(arguments) => wait_for(commands::provider::run(arguments)),
        Command::Audit(arguments) => wait_for(commands::audit::run(arguments.command)),
    }
}

/// Runs what talks to the control plane, on this thread.
fn wait_for<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // Our memory may hold tokens and values: no process of the same user is to read them, and no core file.
    prctl::set_dumpable(false).map_err(|errno| Failure::io("cannot protect our memory", &errno.into()))?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start", &error))?;
    let result = runtime.block_on(task);
    // A look-up of a name that hangs is no reason to stay.
    runtime.shutdown_background();
    result
}

/// Tells the user. A stderr that cannot be written to leaves the exit status to speak.
fn report(failure: &Failure) {
    io::stderr().lock().write_all(failure.to_string().as_bytes()).ok();
}
