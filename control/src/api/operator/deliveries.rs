//! How far changes have come.

use std::time::Duration;

use dvx_proto::AgentName;
use dvx_proto::operator::{Delivery, MAX_WAIT_SECONDS, MissingDelivery};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use crate::clock;
use crate::domain::Revision;
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::error::Refusal;
use crate::store::Announcement;

/// How often to look whether brokers have confirmed what nobody has announced.
const POLL: Duration = Duration::from_secs(1);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryQuery {
    /// Only about the enclave of this agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// Answer only when every broker has confirmed, at the latest after so many seconds: at most 30 count.
    #[serde(default)]
    wait_seconds: u32,
}

/// How far a change has come.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{revision}", operation_id = "get_delivery",
    params(("revision" = u64, Path, description = "The revision"), DeliveryQuery),
    responses((status = 200, body = Delivery))
)]
pub(crate) async fn get(call: Call) -> Answer {
    let query: DeliveryQuery = call.query()?;
    let revision = Revision(call.name(0, "revision")?);
    if revision > call.app().store.revision(call.org()).await? {
        return Err(Refusal::not_found("revision"));
    }
    let wait = Duration::from_secs(query.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let mut announcements = call.app().store.subscribe();
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    loop {
        let delivery = look(&call, revision, query.agent.as_ref()).await?;
        if delivery.complete {
            return answer::json(&delivery);
        }
        let confirmed = async {
            loop {
                match announcements.recv().await {
                    Ok(Announcement::Acks(org)) if org == *call.org() => return,
                    Ok(Announcement::Everything) | Err(RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    Err(RecvError::Closed) => std::future::pending::<()>().await,
                }
            }
        };
        tokio::select! {
            biased;
            () = confirmed => {}
            () = &mut deadline => return answer::json(&delivery),
            () = call.app().stopped() => return answer::json(&delivery),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn look(call: &Call, revision: Revision, agent: Option<&AgentName>) -> Result<Delivery, Refusal> {
    let now = clock::wall();
    let enclaves = call.app().store.deliveries(call.org(), revision, agent, now).await?;
    let missing: Vec<MissingDelivery> = enclaves
        .into_iter()
        .filter(|enclave| enclave.missing(revision, now))
        .map(|enclave| MissingDelivery {
            enclave: enclave.name,
            connected: enclave.connected,
            seen_at: enclave.seen_at,
        })
        .collect();
    Ok(Delivery { revision: revision.0, complete: missing.is_empty(), missing })
}
