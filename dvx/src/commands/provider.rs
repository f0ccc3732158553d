//! `dvx credential-provider …`

use std::process::ExitCode;
use std::time::Duration;

use dvx_proto::operator::{
    CreateCredentialProvider, CredentialProvider, CredentialProviderStatus, Debt, RotateCredentialProvider,
};
use jiff::Timestamp;

use super::agent::expiry;
use crate::cli::{CredentialProviderCommand, Group, HiddenText, NewCredentialProvider, OutputFormat};
use crate::client::{ClientError, Request};
use crate::failure::{Failure, exit};
use crate::output::{self, Cell, Table};
use crate::{clock, prompt, times, value};

/// The control plane asks the provider for up to 30 seconds before it answers.
const PATIENCE: Duration = Duration::from_secs(75);

const PATH: &str = "/credential-providers";

pub(crate) async fn run(arguments: Group<CredentialProviderCommand>) -> Result<ExitCode, Failure> {
    let format = arguments.output.format;
    match arguments.command {
        CredentialProviderCommand::List => list(format).await,
        CredentialProviderCommand::Create(new) => create(new, format).await,
        CredentialProviderCommand::Rotate { id, token } => rotate(&id, token.as_ref(), format).await,
        CredentialProviderCommand::Delete { id, confirmation } => {
            prompt::confirm(&format!("Delete the credential provider {id}?"), confirmation.yes)?;
            delete(&id).await
        }
        CredentialProviderCommand::Debts => debts(format).await,
    }
}

async fn list(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let providers: Vec<CredentialProvider> = client
        .list(PATH)
        .await
        .map_err(|error| error.into_failure("cannot list the credential providers"))?;
    output::answer(format, &providers, |providers| table(providers, clock::wall()))
}

async fn create(new: NewCredentialProvider, format: OutputFormat) -> Result<ExitCode, Failure> {
    let NewCredentialProvider {
        provider,
        name,
        instance_url,
        token,
        group_id,
        provisioning_mode,
        rotate_every,
    } = new;
    let what = format!("cannot create the credential provider {name}");
    let failed = |error: ClientError| error.into_failure(&what);
    let mut client = super::client()?;
    let token = value::token(token.as_ref(), &format!("token for the credential provider {name}"))?;
    let rotate_every_seconds = rotate_every.seconds();
    let body = CreateCredentialProvider {
        name,
        provider,
        instance_url,
        token,
        group_id,
        provisioning_mode,
        rotate_every_seconds,
    };
    let request = Request::create(PATH, &body).map_err(failed)?;
    drop(body);
    let answer = client.send(request.with_patience(PATIENCE)).await.map_err(failed)?;
    let created: CredentialProvider = client.parse(&answer).map_err(failed)?;
    output::answer(format, &created, |created| table(std::slice::from_ref(created), clock::wall()))
}

async fn rotate(id: &str, token: Option<&HiddenText>, format: OutputFormat) -> Result<ExitCode, Failure> {
    let what = format!("cannot rotate the token of the credential provider {id}");
    let failed = |error: ClientError| error.into_failure(&what);
    let path = format!("{}/rotate", path(id)?);
    let mut client = super::client()?;
    let token = value::token(token, &format!("token for the credential provider {id}"))?;
    let body = RotateCredentialProvider { token };
    let request = Request::create(path, &body).map_err(failed)?;
    drop(body);
    let answer = client.send(request.with_patience(PATIENCE)).await.map_err(failed)?;
    let rotated: CredentialProvider = client.parse(&answer).map_err(failed)?;
    output::answer(format, &rotated, |rotated| table(std::slice::from_ref(rotated), clock::wall()))
}

async fn delete(id: &str) -> Result<ExitCode, Failure> {
    let request = Request::delete(path(id)?);
    let sent = super::client()?.send(request).await;
    sent.map_err(|error| error.into_failure(&format!("cannot delete the credential provider {id}")))?;
    Ok(ExitCode::SUCCESS)
}

async fn debts(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let debts: Vec<Debt> = client
        .list(&format!("{PATH}/debts"))
        .await
        .map_err(|error| error.into_failure("cannot list what is to be removed at providers"))?;
    output::answer(format, &debts, |debts| debts_table(debts, clock::wall()))
}

/// What cannot be an id or a name is not the id or name of anything.
fn path(id: &str) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id == "debts" || !id.bytes().all(plain) {
        return Err(Failure::new(format!("no credential provider {id}"), "there is no such id or name")
            .with_exit(exit::NOT_FOUND));
    }
    Ok(format!("{PATH}/{id}"))
}

fn table(providers: &[CredentialProvider], now: Timestamp) -> Table {
    let mut table = Table::new([
        "ID", "NAME", "PROVIDER", "INSTANCE", "GROUP", "MODE", "AGENTS", "ROTATES", "EXPIRES", "STATUS",
    ]);
    for provider in providers {
        table.push([
            Cell::new(&provider.id),
            Cell::new(&provider.name),
            Cell::new(provider.provider.as_str()),
            Cell::new(provider.instance_url.to_string()),
            Cell::number(provider.group_id),
            Cell::new(provider.provisioning_mode.as_str()),
            Cell::number(provider.agents),
            Cell::maybe(provider.next_rotation_at.map(times::shown)),
            expiry(provider.token_expires_at, now),
            match (provider.status, &provider.reason) {
                (CredentialProviderStatus::Active, _) => Cell::new("active").good(),
                (CredentialProviderStatus::Inactive, None) => Cell::new("inactive").bad(),
                (CredentialProviderStatus::Inactive, Some(why)) => {
                    Cell::new(format!("inactive: {why}")).bad()
                }
            },
        ]);
    }
    table
}

fn debts_table(debts: &[Debt], now: Timestamp) -> Table {
    let mut table =
        Table::new(["WHAT", "NAME", "AGENT", "CREDENTIAL PROVIDER", "SINCE", "TRIED", "NEXT", "WHY"]);
    for debt in debts {
        table.push([
            Cell::new(&debt.kind),
            Cell::new(&debt.name),
            Cell::new(&debt.agent),
            Cell::new(&debt.credential_provider),
            Cell::new(format!("{} ago", times::distance(debt.since, now))),
            Cell::number(debt.attempts),
            Cell::new(format!("in {}", times::distance(now, debt.next_at))),
            Cell::maybe(debt.error.as_deref()).warning(),
        ]);
    }
    table
}
