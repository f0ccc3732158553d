//! Agents, from their making to their end.

use dvx_proto::agent::AgentState;
use dvx_proto::operator::{Agent, CreateAgent, MAX_REASON_BYTES, Page, Reason};
use dvx_proto::{AgentName, EnclaveName};

use super::page::page;
use crate::domain::{AgentFilter, Changed};
use crate::http::answer::{self, Answer};
use crate::http::call::{Call, text};
use crate::http::error::Refusal;
use crate::http::idempotency::{self, Created};

/// The longest name of a user on whose behalf an agent acts: an e-mail address fits.
const MAX_USER_BYTES: usize = 255;

/// Which agents are wanted.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AgentQuery {
    /// Only those of this enclave.
    #[param(value_type = Option<EnclaveName>)]
    enclave: Option<EnclaveName>,
    /// Only those in this state.
    #[param(value_type = Option<AgentState>)]
    state: Option<AgentState>,
    /// How many elements at the most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only elements behind this one: the `next` of the page before.
    #[param(pattern = "^[!-~]{0,256}$")]
    after: Option<String>,
}

/// A page of the agents.
#[utoipa::path(
    get, path = "/api/v1/agents", operation_id = "list_agents", params(AgentQuery),
    responses((status = 200, body = Page<Agent>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let AgentQuery { enclave, state, limit, after } = call.query()?;
    let page = page(limit, after)?;
    let filter = AgentFilter { enclave, state };
    answer::json(&call.app().store.agents(call.org(), &filter, &page).await?)
}

/// Make an agent.
#[utoipa::path(
    post, path = "/api/v1/agents", operation_id = "create_agent", request_body = CreateAgent,
    responses((status = 201, body = Agent))
)]
pub(crate) async fn create(call: Call) -> Answer {
    call.no_query()?;
    let agent: CreateAgent = call.json()?;
    if let Some(user) = &agent.acts_as {
        text("acts_as", user, MAX_USER_BYTES)?;
    }
    let once = idempotency::once(&call);
    let store = &call.app().store;
    idempotency::answer(store.create_agent(&call.cause(), &agent, once.as_ref().map(Created::once)).await?)
}

/// An agent.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent}", operation_id = "get_agent",
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 200, body = Agent))
)]
pub(crate) async fn get(call: Call) -> Answer {
    call.no_query()?;
    answer::json(&call.app().store.agent(call.org(), &agent_name(&call)?).await?)
}

/// Delete an agent and its secrets. Its audit events stay.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent}", operation_id = "delete_agent",
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 204))
)]
pub(crate) async fn delete(call: Call) -> Answer {
    call.no_query()?;
    let changed = call.app().store.delete_agent(&call.cause(), &agent_name(&call)?).await?;
    Ok(answer::at(changed.revision, answer::no_content()))
}

/// Stop serving an agent until it is restored.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/isolate", operation_id = "isolate_agent", request_body = Reason,
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 200, body = Agent))
)]
pub(crate) async fn isolate(call: Call) -> Answer {
    let (name, reason) = (agent_name(&call)?, reason(&call)?);
    changed(call.app().store.isolate_agent(&call.cause(), &name, &reason).await?)
}

/// Serve an isolated agent again.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/restore", operation_id = "restore_agent",
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 200, body = Agent))
)]
pub(crate) async fn restore(call: Call) -> Answer {
    call.no_query()?;
    changed(call.app().store.restore_agent(&call.cause(), &agent_name(&call)?).await?)
}

/// Stop serving an agent for good: only provisioning it anew brings it back.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/revoke", operation_id = "revoke_agent", request_body = Reason,
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 200, body = Agent))
)]
pub(crate) async fn revoke(call: Call) -> Answer {
    let (name, reason) = (agent_name(&call)?, reason(&call)?);
    changed(call.app().store.revoke_agent(&call.cause(), &name, &reason).await?)
}

/// Serve an agent again, whatever its state.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent}/reprovision", operation_id = "reprovision_agent",
    params(("agent" = AgentName, Path, description = "Its name")), responses((status = 200, body = Agent))
)]
pub(crate) async fn reprovision(call: Call) -> Answer {
    call.no_query()?;
    changed(call.app().store.reprovision_agent(&call.cause(), &agent_name(&call)?).await?)
}

fn agent_name(call: &Call) -> Result<AgentName, Refusal> {
    call.name(0, "agent")
}

fn reason(call: &Call) -> Result<String, Refusal> {
    call.no_query()?;
    let Reason { reason } = call.json()?;
    text("reason", &reason, MAX_REASON_BYTES)?;
    Ok(reason)
}

fn changed(changed: Changed<Agent>) -> Answer {
    Ok(answer::at(changed.revision, answer::json(&changed.value)?))
}
