//! `dvx secret …` and `dvx agent secret …`: set, listed, deleted, and never read back.

use std::process::ExitCode;

use dvx_proto::operator::{SecretInfo, SetSecret};
use dvx_proto::{AgentName, RemoteUrl, SecretName};

use super::agent::expiry;
use crate::cli::{Confirmation, Group, NewSecret, OutputFormat, SecretCommand};
use crate::client::{ClientError, Request};
use crate::delivery::Change;
use crate::failure::{Failure, exit};
use crate::output::{self, Cell, Table};
use crate::{clock, prompt, times, value};

/// Whose a secret is.
pub(super) enum Owner {
    Organisation,
    Agent(AgentName),
}

impl Owner {
    fn path(&self) -> String {
        match self {
            Self::Organisation => "/secrets".to_owned(),
            Self::Agent(agent) => format!("/agents/{agent}/secrets"),
        }
    }

    fn agent(&self) -> Option<&AgentName> {
        match self {
            Self::Organisation => None,
            Self::Agent(agent) => Some(agent),
        }
    }

    /// In messages, after what it has.
    fn possessive(&self) -> String {
        match self {
            Self::Organisation => "of the organisation".to_owned(),
            Self::Agent(agent) => format!("of the agent {agent}"),
        }
    }
}

pub(crate) async fn run(arguments: Group<SecretCommand>) -> Result<ExitCode, Failure> {
    let format = arguments.output.format;
    match arguments.command {
        SecretCommand::List => list(&Owner::Organisation, format).await,
        SecretCommand::Set { secret } => set(&Owner::Organisation, secret, format).await,
        SecretCommand::Delete { name, confirmation } => {
            delete(&Owner::Organisation, &name, confirmation).await
        }
    }
}

pub(super) async fn list(owner: &Owner, format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let secrets: Vec<SecretInfo> = client
        .list(&owner.path())
        .await
        .map_err(|error| error.into_failure(&format!("cannot list the secrets {}", owner.possessive())))?;
    output::answer(format, &secrets, |secrets| table(secrets))
}

pub(super) async fn set(owner: &Owner, secret: NewSecret, format: OutputFormat) -> Result<ExitCode, Failure> {
    check_metadata(&secret)?;
    let name = &secret.name;
    let failed = |error: ClientError| {
        error.into_failure(&format!("cannot set the secret {name} {}", owner.possessive()))
    };
    // First: nobody is to be asked for a value that cannot be sent anyway.
    let mut client = super::client()?;
    let body = SetSecret {
        value: value::obtain(&secret)?,
        agent_accessible: !secret.no_agent_accessible,
        display_name: secret.display_name.clone(),
        auth_type: secret.auth_type,
        instance_url: secret.instance_url.clone(),
        expires_at: secret.expires_at,
    };
    let request = Request::put_json(format!("{}/{name}", owner.path()), &body).map_err(failed)?;
    drop(body);
    let answer = client.send(request).await.map_err(failed)?;
    let info: SecretInfo = client.parse(&answer).map_err(failed)?;
    if let Some(revision) = answer.revision {
        Change { revision, agent: owner.agent() }.await_connected(&mut client).await;
    }
    output::answer(format, &info, |info| table(std::slice::from_ref(info)))
}

pub(super) async fn delete(
    owner: &Owner,
    name: &SecretName,
    confirmation: Confirmation,
) -> Result<ExitCode, Failure> {
    prompt::confirm(&format!("Delete the secret {name} {}?", owner.possessive()), confirmation.yes)?;
    let mut client = super::client()?;
    let answer = client.send(Request::delete(format!("{}/{name}", owner.path()))).await.map_err(|error| {
        error.into_failure(&format!("cannot delete the secret {name} {}", owner.possessive()))
    })?;
    if let Some(revision) = answer.revision {
        Change { revision, agent: owner.agent() }.await_connected(&mut client).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is about a credential goes with a credential only.
fn check_metadata(secret: &NewSecret) -> Result<(), Failure> {
    let is_credential = secret.name.provider().is_some() && secret.no_agent_accessible;
    let given = [
        ("--display-name", secret.display_name.is_some()),
        ("--auth-type", secret.auth_type.is_some()),
        ("--instance-url", secret.instance_url.is_some()),
        ("--expires-at", secret.expires_at.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) if !is_credential => Err(Failure::new(
            format!("{flag} does not go with {}", secret.name),
            "it is about credentials: <provider>:token with --no-agent-accessible",
        )
        .with_exit(exit::USAGE)),
        _ => Ok(()),
    }
}

fn table(secrets: &[SecretInfo]) -> Table {
    let mut table =
        Table::new(["NAME", "SCOPE", "ACCESSIBLE", "VERSION", "UPDATED", "IDENTITY", "INSTANCE", "EXPIRES"]);
    for secret in secrets {
        table.push([
            Cell::new(secret.name.as_str()),
            Cell::new(secret.scope.as_str()),
            Cell::new(if secret.agent_accessible { "yes" } else { "no" }),
            Cell::number(secret.version),
            Cell::new(times::shown(secret.updated_at)),
            Cell::maybe(secret.display_name.as_deref()),
            Cell::maybe(secret.instance_url.as_ref().map(RemoteUrl::to_string)),
            expiry(secret.expires_at, clock::wall()),
        ]);
    }
    table
}
