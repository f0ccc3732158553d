//! `dvx agent …`

mod state;
mod table;

use std::process::ExitCode;

use dvx_proto::AgentName;
use dvx_proto::operator::{Agent, CreateAgent};

use super::integration;
use super::secret::{self, Owner};
use crate::cli::{AgentCommand, AgentFilter, AgentSecretCommand, Group, NewAgent, OutputFormat};
use crate::client::{ClientError, Request, with_query};
use crate::delivery::Change;
use crate::failure::Failure;
use crate::{output, prompt};

pub(super) use table::{
    SOON, agents as table, expiry, integrations as integrations_table, state as state_cell,
};

pub(crate) async fn run(arguments: Group<AgentCommand>) -> Result<ExitCode, Failure> {
    let format = arguments.output.format;
    match arguments.command {
        AgentCommand::Create(agent) => create(agent, format).await,
        AgentCommand::List(filter) => list(&filter, format).await,
        AgentCommand::Get { agent } => get(&agent, format).await,
        AgentCommand::Delete { agent, confirmation } => {
            prompt::confirm(&format!("Delete the agent {agent} and its secrets?"), confirmation.yes)?;
            delete(&agent).await
        }
        AgentCommand::Isolate { change, reason } => state::isolate(&change, reason, format).await,
        AgentCommand::Restore { change } => state::restore(&change, format).await,
        AgentCommand::Revoke { change, reason } => state::revoke(&change, reason, format).await,
        AgentCommand::Reprovision { change } => state::reprovision(&change, format).await,
        AgentCommand::Secret(command) => secrets(command, format).await,
        AgentCommand::Integration(command) => integration::run(command, format).await,
    }
}

async fn create(agent: NewAgent, format: OutputFormat) -> Result<ExitCode, Failure> {
    let name = agent.name.clone();
    let failed = |error: ClientError| error.into_failure(&format!("cannot create the agent {name}"));
    let body = CreateAgent {
        selectors: agent.selectors(),
        name: agent.name,
        enclave: agent.enclave,
        unix_user: agent.unix_user,
        acts_as: agent.acts_as,
    };
    let mut client = super::client()?;
    let answer = client.send(Request::create("/agents", &body).map_err(failed)?).await.map_err(failed)?;
    let created: Agent = client.parse(&answer).map_err(failed)?;
    let revision = answer.revision.unwrap_or(created.revision);
    Change { revision, agent: Some(&name) }.await_connected(&mut client).await;
    output::answer(format, &created, |created| table(std::slice::from_ref(created)))
}

async fn list(filter: &AgentFilter, format: OutputFormat) -> Result<ExitCode, Failure> {
    let query = [
        ("enclave", filter.enclave.as_ref().map(ToString::to_string)),
        ("state", filter.state.map(|state| state.as_str().to_owned())),
    ];
    let mut client = super::client()?;
    let agents: Vec<Agent> = client
        .list(&with_query("/agents", &query))
        .await
        .map_err(|error| error.into_failure("cannot list the agents"))?;
    output::answer(format, &agents, |agents| table(agents))
}

async fn get(name: &AgentName, format: OutputFormat) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let agent: Agent = client
        .get(&format!("/agents/{name}"))
        .await
        .map_err(|error| error.into_failure(&format!("cannot get the agent {name}")))?;
    output::answer(format, &agent, table::properties)
}

async fn delete(name: &AgentName) -> Result<ExitCode, Failure> {
    let mut client = super::client()?;
    let answer = client
        .send(Request::delete(format!("/agents/{name}")))
        .await
        .map_err(|error| error.into_failure(&format!("cannot delete the agent {name}")))?;
    if let Some(revision) = answer.revision {
        Change { revision, agent: None }.await_connected(&mut client).await;
    }
    Ok(ExitCode::SUCCESS)
}

async fn secrets(command: AgentSecretCommand, format: OutputFormat) -> Result<ExitCode, Failure> {
    match command {
        AgentSecretCommand::List { agent } => secret::list(&Owner::Agent(agent), format).await,
        AgentSecretCommand::Set { agent, secret } => secret::set(&Owner::Agent(agent), secret, format).await,
        AgentSecretCommand::Delete { agent, name, confirmation } => {
            secret::delete(&Owner::Agent(agent), &name, confirmation).await
        }
    }
}
