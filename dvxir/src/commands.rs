//! One module for each command.
//!
//! `credentials get` runs thousands of times a day, and most of its time goes into mapping the pages that its
//! code lies in. What runs seldom is marked `cold`, which keeps it out of the way of what runs often.

mod credentials;
mod exec;
mod git_credential;
mod init;
mod secrets;
mod status;
mod whoami;

use crate::cli::Command;
use crate::client::{Answer, Client, ClientError, InvalidAnswer};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::output;

impl Command {
    /// Does what the command says.
    pub(crate) fn run(self, environment: &Environment) -> Result<Exit, Failure> {
        match self {
            Self::Credentials(command) => credentials::run(&command, environment),
            Self::Secrets(command) => secrets::run(&command, environment),
            Self::GitCredential { operation } => git_credential::run(&operation, environment),
            Self::Init => init::run(environment),
            Self::Exec { assignments, command } => exec::run(assignments, &command, environment),
            Self::Whoami { format } => whoami::run(format.output, environment),
            Self::Status { format } => status::run(format.output, environment),
            Self::Completions { shell } => output::answer(shell.completions().as_bytes()),
            Self::Man { page } => output::answer(page.text().as_bytes()),
        }
    }
}

/// What the broker said, on a line.
fn as_json(client: &Client, answer: &Answer) -> Result<String, ClientError> {
    let text = str::from_utf8(answer.body()).map_err(|_| client.malformed(InvalidAnswer::Json))?;
    Ok(format!("{}\n", output::harmless_json(text.trim_end())))
}
