//! `dvxir credentials list|get`

use std::borrow::Cow;

use dvx_proto::agent::Credential;
use dvx_proto::{ProviderName, Token};
use serde::Deserialize;

use crate::cli::{Credentials, OutputFormat};
use crate::client::{Client, ClientError};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::output;

/// One row. The kind is text here: one that this version does not know can still be shown.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    provider: Cow<'a, str>,
    #[serde(borrow)]
    auth_type: Cow<'a, str>,
    #[serde(borrow)]
    display_name: Cow<'a, str>,
}

pub(super) fn run(command: &Credentials, environment: &Environment) -> Result<Exit, Failure> {
    match command {
        Credentials::List { format } => list(format.output, environment)
            .map_err(|error| error.into_failure("cannot list the credentials")),
        Credentials::Get { provider } => {
            let token = Client::new(environment).and_then(|client| token(&client, provider));
            let token = token.map_err(|error| error.into_failure(&task(provider)))?;
            return output::answer(token.expose_secret());
        }
    }
    .and_then(|text| output::answer(text.as_bytes()))
}

/// A provider's token.
pub(super) fn token(client: &Client, provider: &ProviderName) -> Result<Token, ClientError> {
    let answer = client.get(&format!("/v1/agent/credentials/{provider}"))?;
    let credential: Credential = answer.json().map_err(|source| client.malformed(source))?;
    Ok(credential.token)
}

/// What is being done when a token is asked for, for messages.
pub(super) fn task(provider: &ProviderName) -> String {
    format!("cannot get the credential for {provider}")
}

#[cold]
fn list(format: OutputFormat, environment: &Environment) -> Result<String, ClientError> {
    let client = Client::new(environment)?;
    let answer = client.get("/v1/agent/credentials")?;
    let rows: Vec<Row<'_>> = answer.json().map_err(|source| client.malformed(source))?;
    if format == OutputFormat::Json {
        return super::as_json(&client, &answer);
    }
    let cell = |text: &str| Cow::Owned(output::harmless(text));
    let rows: Vec<_> =
        rows.iter().map(|row| [cell(&row.provider), cell(&row.auth_type), cell(&row.display_name)]).collect();
    Ok(output::table(&rows))
}
