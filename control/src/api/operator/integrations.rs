//! The links of agents to providers.

use dvx_proto::AgentName;
use dvx_proto::operator::{Integration, Page};

use super::page::PageQuery;
use crate::http::answer::{self, Answer};
use crate::http::call::Call;

/// A page of an agent's integrations.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent}/integrations", operation_id = "list_integrations",
    params(("agent" = AgentName, Path, description = "Whose"), PageQuery),
    responses((status = 200, body = Page<Integration>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let page = call.query::<PageQuery>()?.page()?;
    let agent: AgentName = call.name(0, "agent")?;
    let mut items = call.app().store.integrations(call.org(), &agent).await?;
    // An agent has one for each provider at the most, so all of them are at hand.
    items.retain(|item| page.after.as_deref().is_none_or(|after| item.provider.as_str() > after));
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let is_cut = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| is_cut).map(|item| item.provider.to_string());
    answer::json(&Page { items, next })
}
