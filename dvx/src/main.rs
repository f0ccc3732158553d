//! `dvx`, the operator's command line.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod commands;
mod failure;
mod prompt;
mod signals;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, KeeperArguments};
use crate::failure::Failure;

fn main() -> ExitCode {
    let is_keeper = env::args_os().next().is_some_and(|name| name == cli::KEEPER);
    let result =
        if is_keeper { commands::dev::keep(KeeperArguments::parse()) } else { run(Cli::parse().command) };
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
    }
}

/// Tells the user. A stderr that cannot be written to leaves the exit status to speak.
fn report(failure: &Failure) {
    io::stderr().lock().write_all(failure.to_string().as_bytes()).ok();
}
