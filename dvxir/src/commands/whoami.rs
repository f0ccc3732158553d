//! `dvxir whoami`

use dvx_proto::agent::Whoami;

use crate::cli::OutputFormat;
use crate::client::{Client, ClientError};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::output;

#[cold]
pub(super) fn run(format: OutputFormat, environment: &Environment) -> Result<Exit, Failure> {
    let text = whoami(format, environment);
    output::answer(text.map_err(|error| error.into_failure("cannot tell who this is"))?.as_bytes())
}

fn whoami(format: OutputFormat, environment: &Environment) -> Result<String, ClientError> {
    let client = Client::new(environment)?;
    let answer = client.get("/v1/agent/whoami")?;
    let me: Whoami = answer.json().map_err(|source| client.malformed(source))?;
    if format == OutputFormat::Json {
        return super::as_json(&client, &answer);
    }
    Ok(output::table(&[
        ["agent".into(), me.agent.as_str().into()],
        ["enclave".into(), me.enclave.as_str().into()],
        ["uid".into(), me.uid.to_string().into()],
        ["transport".into(), me.transport.as_str().into()],
        ["state".into(), me.state.as_str().into()],
    ]))
}
