//! `dvxir secrets list|get`

use dvx_proto::agent::{SecretSummary, SecretValue};
use dvx_proto::{Secret, SecretName};

use crate::cli::{OutputFormat, Secrets};
use crate::client::{Client, ClientError};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::output;

pub(super) fn run(command: &Secrets, environment: &Environment) -> Result<Exit, Failure> {
    match command {
        Secrets::List { format } => {
            let names = list(format.output, environment);
            output::answer(names.map_err(|error| error.into_failure("cannot list the secrets"))?.as_bytes())
        }
        Secrets::Get { name } => {
            let value = get(name, environment);
            let value =
                value.map_err(|error| error.into_failure(&format!("cannot get the secret {name}")))?;
            output::answer(value.expose_secret())
        }
    }
}

fn get(name: &SecretName, environment: &Environment) -> Result<Secret, ClientError> {
    let client = Client::new(environment)?;
    let answer = client.get(&format!("/v1/agent/secrets/{name}"))?;
    let secret: SecretValue = answer.json().map_err(|source| client.malformed(source))?;
    Ok(secret.value)
}

#[cold]
fn list(format: OutputFormat, environment: &Environment) -> Result<String, ClientError> {
    let client = Client::new(environment)?;
    let answer = client.get("/v1/agent/secrets")?;
    let secrets: Vec<SecretSummary> = answer.json().map_err(|source| client.malformed(source))?;
    if format == OutputFormat::Json {
        return super::as_json(&client, &answer);
    }
    Ok(secrets.iter().map(|secret| format!("{}\n", secret.name)).collect())
}
