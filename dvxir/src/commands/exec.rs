//! `dvxir exec`

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dvx_proto::{ProviderName, Token};

use super::credentials::{task, token};
use crate::cli::Assignment;
use crate::client::Client;
use crate::environment::Environment;
use crate::error::{Exit, Failure, io_cause};

/// What is set when the command line does not say it: what GitLab's own tools read.
const DEFAULT_VARIABLE: &str = "GITLAB_TOKEN";
const DEFAULT_PROVIDER: &str = "gitlab";

/// Becomes the command. Returns only when that fails.
#[cold]
pub(super) fn run(
    mut assignments: Vec<Assignment>,
    command: &[OsString],
    environment: &Environment,
) -> Result<Exit, Failure> {
    if assignments.is_empty() {
        let provider = DEFAULT_PROVIDER.parse::<ProviderName>();
        let variable = DEFAULT_VARIABLE.to_owned();
        assignments.extend(provider.ok().map(|provider| Assignment { variable, provider }));
    }
    let [program, arguments @ ..] = command else {
        return Err(Failure::new(Exit::Usage, "exec", "no command is given"));
    };
    let mut tokens: HashMap<ProviderName, Token> = HashMap::new();
    let mut process = Command::new(program);
    process.args(arguments);
    for Assignment { variable, provider } in assignments {
        if !tokens.contains_key(&provider) {
            let fetched = Client::new(environment).and_then(|client| token(&client, &provider));
            tokens.insert(provider.clone(), fetched.map_err(|error| error.into_failure(&task(&provider)))?);
        }
        if let Some(token) = tokens.get(&provider) {
            process.env(variable, OsStr::from_bytes(token.expose_secret()));
        }
    }
    let error = process.exec();
    let cause = match error.kind() {
        io::ErrorKind::NotFound => "command not found".to_owned(),
        _ => io_cause(&error),
    };
    Err(Failure::new(Exit::Other, format!("cannot run {}", program.to_string_lossy()), cause))
}
