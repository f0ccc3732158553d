//! `dvxir init`

mod exports;
mod gitconfig;
mod token_link;

use std::io::ErrorKind;
use std::path::PathBuf;

use dvx_proto::BrokerAddress;
use dvx_proto::agent::Whoami;

use crate::client::{Client, ClientError};
use crate::environment::{Environment, TokenFile};
use crate::error::{Exit, Failure};
use crate::link::{Instance, instances};
use crate::output;

/// Sets the agent's account up. Everything is asked before anything is changed, and the lines for the shell
/// come last: who runs `eval "$(dvxir init)"` gets all of it or none.
#[cold]
pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let task = "cannot set this account up";
    let client = Client::new(environment).map_err(|error| error.into_failure(task))?;
    let (me, instances) = ask(&client).map_err(|error| error.into_failure(task))?;
    let home = environment
        .home()
        .ok_or_else(|| Failure::new(Exit::Other, task, "there is no home directory; HOME is not set"))?;

    let target = match environment.token_file() {
        Some(TokenFile::Named(path)) => std::path::absolute(&path).unwrap_or(path),
        Some(TokenFile::Usual(_)) | None => usual_token(client.address(), &me),
    };
    let mut notes = Vec::new();
    if token_link::set(&home.join(".dvx"), &target).map_err(|error| error.into_failure())? {
        notes.push(Note::new(format!("linked ~/.dvx/token to {}", target.display())));
    }
    if std::fs::metadata(&target).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        notes.push(Note {
            text: format!("there is no token at {} yet", target.display()),
            hint: Some(
                "where the broker keeps it elsewhere, name it in DVX_TOKEN_FILE and run dvxir init again",
            ),
        });
    }
    notes.extend(gitconfig::set(&instances)?);
    // Only now: a failure says one thing.
    for note in notes {
        output::note(&note.text, note.hint);
    }
    output::answer(exports::lines(client.address(), environment).as_bytes())
}

/// Something that was done, or that a person should look at.
struct Note {
    text: String,
    hint: Option<&'static str>,
}

impl Note {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }
}

fn ask(client: &Client) -> Result<(Whoami, Vec<Instance>), ClientError> {
    let me = client.get("/v1/agent/whoami")?.json().map_err(|source| client.malformed(source))?;
    let listing = client.get("/v1/agent/credentials")?;
    Ok((me, instances(listing.links())))
}

/// Where the broker keeps an agent's token: beside its socket, by default `/run/dvx/agents/<agent>/token`.
fn usual_token(address: &BrokerAddress, me: &Whoami) -> PathBuf {
    let default = BrokerAddress::default();
    let socket = match (address, &default) {
        (BrokerAddress::Unix(path), _) | (BrokerAddress::Loopback(_), BrokerAddress::Unix(path)) => {
            path.as_path()
        }
        (BrokerAddress::Loopback(_), BrokerAddress::Loopback(_)) => BrokerAddress::DEFAULT_SOCKET.as_ref(),
    };
    socket.with_file_name("agents").join(me.agent.as_str()).join("token")
}
