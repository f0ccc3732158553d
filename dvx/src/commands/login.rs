//! `dvx login`: asks for what is missing, tries it, remembers it.

use std::env;
use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use dvx_proto::operator::Whoami;
use dvx_proto::{ControlAddress, Token};
use zeroize::Zeroizing;

use super::whoami;
use crate::cli::LoginArguments;
use crate::client::{Client, ClientError};
use crate::failure::{Failure, exit};
use crate::output::{self, note};
use crate::prompt;
use crate::settings::{FromEnvironment, Login, Settings, Store};

const TASK: &str = "cannot log in";

pub(crate) async fn run(arguments: LoginArguments) -> Result<ExitCode, Failure> {
    let lookup = |name: &str| env::var_os(name);
    let Some(store) = Store::at_home(&lookup) else {
        return Err(Failure::new("no place to store the login", "neither XDG_CONFIG_HOME nor HOME is set"));
    };
    let environment = FromEnvironment::read(&lookup)?;
    let address = match arguments.url.or(environment.address) {
        Some(address) => address,
        None => ask_address()?,
    };
    let ca_file = arguments.ca_file.or(environment.ca_file);
    let given = if arguments.token_stdin { Some(token_from_stdin()?) } else { environment.token };
    let settings = Settings {
        address: address.clone(),
        ca_file: ca_file.clone(),
        token: None,
        control_user: environment.control_user,
    };
    let client = Client::new(settings).map_err(|error| error.into_failure(TASK))?;
    let (whoami, token) = introduce(client, given).await?;
    store.save(&Login { address, ca_file, token })?;
    note(&format!("logged in; stored in {}", store.file().display()));
    output::answer(arguments.output.format, &whoami, whoami::table)
}

/// Finds out who the control plane takes us for: with the token that was given, without one where the kernel
/// names us, or with one that is asked for now.
async fn introduce(client: Client, given: Option<Token>) -> Result<(Whoami, Option<Token>), Failure> {
    let failed = |error: ClientError| error.into_failure(TASK);
    if let Some(token) = given {
        let mut client = client.with_token(&token);
        return Ok((client.get("/whoami").await.map_err(failed)?, Some(token)));
    }
    let mut client = client;
    // Also over TLS: a control plane that cannot be reached or trusted is told before a token is typed.
    match client.get("/whoami").await {
        Ok(whoami) => return Ok((whoami, None)),
        Err(error) if error.status() == Some(401) => {}
        Err(error) => return Err(failed(error)),
    }
    let token = ask_token()?;
    let mut client = client.with_token(&token);
    Ok((client.get("/whoami").await.map_err(failed)?, Some(token)))
}

fn ask_address() -> Result<ControlAddress, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new("no control plane", "there is nobody to ask for its address")
            .with_exit(exit::USAGE)
            .with_hint("--url says where it is"));
    }
    let question = format!("Control plane [{}]: ", ControlAddress::default());
    let answer = prompt::visible(&question).map_err(|error| Failure::io("cannot ask", &error))?;
    if answer.is_empty() {
        return Ok(ControlAddress::default());
    }
    answer.parse().map_err(|error| Failure::new("no control plane", error).with_exit(exit::USAGE))
}

fn ask_token() -> Result<Token, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new("no operator token", "there is nobody to ask for it")
            .with_exit(exit::USAGE)
            .with_hint("--token-stdin reads it from stdin; DVX_OPERATOR_TOKEN may have it"));
    }
    token(prompt::secret("Operator token (hidden): ", "the token")?)
}

fn token_from_stdin() -> Result<Token, Failure> {
    if io::stdin().is_terminal() {
        return ask_token();
    }
    let limit = Token::MAX_BYTES + 3;
    // As large as it can get from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    let read = io::stdin().lock().take(limit as u64).read_to_end(&mut text);
    read.map_err(|error| Failure::io("cannot read the token from stdin", &error))?;
    token(text)
}

fn token(text: Zeroizing<Vec<u8>>) -> Result<Token, Failure> {
    Token::try_from(text).map_err(|error| Failure::new("no operator token", error).with_exit(exit::USAGE))
}
