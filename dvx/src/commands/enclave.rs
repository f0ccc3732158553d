//! `dvx enclave create|list|delete`

use std::process::ExitCode;

use dvx_proto::enclave::Degraded;
use dvx_proto::operator::{CreateEnclave, CreatedEnclave, Enclave};
use dvx_proto::{EnclaveName, Secret};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::cli::{EnclaveCommand, Group, OutputFormat};
use crate::client::{ClientError, Request};
use crate::failure::Failure;
use crate::output::{self, Cell, Table};
use crate::{clock, prompt, times};

pub(crate) async fn run(arguments: Group<EnclaveCommand>) -> Result<ExitCode, Failure> {
    let format = arguments.output.format;
    match arguments.command {
        EnclaveCommand::Create { name } => create(&name, format).await,
        EnclaveCommand::List => list(format).await,
        EnclaveCommand::Delete { name, confirmation } => {
            let question = format!("Delete the enclave {name}, its agents and their secrets?");
            prompt::confirm(&question, confirmation.yes)?;
            delete(&name).await
        }
    }
}

async fn create(name: &EnclaveName, format: OutputFormat) -> Result<ExitCode, Failure> {
    let failed = |error: ClientError| error.into_failure(&format!("cannot create the enclave {name}"));
    let mut client = super::client()?;
    let request = Request::create("/enclaves", &CreateEnclave { name: name.clone() }).map_err(failed)?;
    let answer = client.send(request).await.map_err(failed)?;
    let created: CreatedEnclave = client.parse(&answer).map_err(failed)?;
    shown_once(format, &created, &created.api_key)
}

/// Prints what is shown this once: alone, or with all that goes with it.
pub(super) fn shown_once<T: serde::Serialize>(
    format: OutputFormat,
    created: &T,
    secret: &Secret,
) -> Result<ExitCode, Failure> {
    if format == OutputFormat::Json {
        return output::print(output::json(created)?.as_bytes());
    }
    let mut line = Zeroizing::new(Vec::with_capacity(secret.expose_secret().len() + 1));
    line.extend_from_slice(secret.expose_secret());
    line.push(b'\n');
    output::print(&line)
}

async fn list(format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let enclaves: Vec<Enclave> =
        client.list("/enclaves").await.map_err(|error| error.into_failure("cannot list the enclaves"))?;
    output::answer(format, &enclaves, |enclaves| table(enclaves, clock::wall()))
}

async fn delete(name: &EnclaveName) -> Result<ExitCode, Failure> {
    let sent = super::client()?.send(Request::delete(format!("/enclaves/{name}"))).await;
    sent.map_err(|error| error.into_failure(&format!("cannot delete the enclave {name}")))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(enclaves: &[Enclave], now: Timestamp) -> Table {
    let mut table = Table::new(["NAME", "CONNECTED", "BEHIND", "LAST SEEN", "AGENTS", "DEGRADED"]);
    for enclave in enclaves {
        let connected = if enclave.connected { Cell::new("yes").good() } else { Cell::new("no").warning() };
        let lag = Cell::number(enclave.lag);
        let seen = enclave.seen_at.map(|seen| format!("{} ago", times::distance(seen, now)));
        let degraded = Cell::new(degraded(&enclave.degraded));
        table.push([
            Cell::new(enclave.name.as_str()),
            connected,
            if enclave.lag == 0 { lag } else { lag.warning() },
            Cell::maybe(seen.or_else(|| Some("never".to_owned()))),
            Cell::number(enclave.agents),
            if enclave.degraded.is_empty() { degraded } else { degraded.bad() },
        ]);
    }
    table
}

/// What is degraded and why, in one cell.
fn degraded(degraded: &[Degraded]) -> String {
    let each: Vec<String> = degraded.iter().map(|one| format!("{}: {}", one.what, one.why)).collect();
    each.join("; ")
}
