//! `dvxir status`

use dvx_proto::agent::{Discovery, SERVICE};
use serde::Serialize;

use crate::cli::OutputFormat;
use crate::client::{Client, ClientError, InvalidAnswer};
use crate::environment::Environment;
use crate::error::{Exit, Failure};
use crate::output;

/// The state of the broker, as this agent sees it.
#[derive(Serialize)]
struct Status {
    broker: String,
    version: String,
    api: Vec<String>,
    transports: Vec<String>,
    revision: Option<u64>,
    age_seconds: Option<u64>,
}

#[cold]
pub(super) fn run(format: OutputFormat, environment: &Environment) -> Result<Exit, Failure> {
    let status = status(environment).map_err(|error| error.into_failure("the broker serves nothing here"))?;
    let text = match format {
        OutputFormat::Json => serde_json::to_string(&status).unwrap_or_default() + "\n",
        OutputFormat::Table => status.table(),
    };
    output::answer(output::harmless_json(&text).as_bytes())
}

fn status(environment: &Environment) -> Result<Status, ClientError> {
    let client = Client::new(environment)?;
    let answer = client.get("/v1/agent/discover")?;
    let discovery: Discovery = answer.json().map_err(|source| client.malformed(source))?;
    if discovery.service != SERVICE {
        return Err(client.malformed(InvalidAnswer::Json));
    }
    // Answered only while what it says is fresh enough to be served.
    let listing = client.get("/v1/agent/credentials")?;
    Ok(Status {
        broker: client.address().to_string(),
        version: discovery.version,
        api: discovery.api,
        transports: discovery.transports.iter().map(|transport| transport.as_str().to_owned()).collect(),
        revision: listing.revision(),
        age_seconds: listing.age_seconds(),
    })
}

impl Status {
    fn table(&self) -> String {
        let or_unknown = |number: Option<u64>, unit: &str| {
            number.map_or_else(|| "unknown".to_owned(), |number| format!("{number}{unit}"))
        };
        let shown = |text: &str| output::harmless(text).into();
        output::table(&[
            ["broker".into(), shown(&self.broker)],
            ["version".into(), shown(&self.version)],
            ["api".into(), shown(&self.api.join(" "))],
            ["transports".into(), shown(&self.transports.join(" "))],
            ["revision".into(), or_unknown(self.revision, "").into()],
            ["age".into(), or_unknown(self.age_seconds, " s").into()],
        ])
    }
}
