//! The audit log: events of the control plane and decisions of brokers, in the order in which they arrived.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dvx_proto::AgentName;
use dvx_proto::operator::{AuditEvent, MAX_WAIT_SECONDS, Page};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::page;
use crate::app::App;
use crate::audit::ocsf;
use crate::domain::{AuditQuery, OrgId};
use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::hub::{Cut, Lines, Pen};
use crate::store::Announcement;

/// How often to look for events that other replicas have stored.
const POLL: Duration = Duration::from_secs(1);

/// How many events an export reads at a time.
const EXPORT_PAGE: u32 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only about this agent.
    agent: Option<AgentName>,
    /// Only at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only behind this number.
    #[serde(default)]
    after: u64,
    /// How many events at the most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Where there is none: answer when there is one, at the latest after so many seconds; at most 30 count.
    #[serde(default)]
    wait_seconds: u32,
}

/// A page of the audit log.
#[utoipa::path(
    get, path = "/api/v1/audit", operation_id = "list_audit_events", params(ListQuery),
    responses((status = 200, body = Page<AuditEvent>))
)]
pub(crate) async fn list(call: Call) -> Answer {
    let query: ListQuery = call.query()?;
    let limit = page::page(query.limit, None)?.limit;
    let wait = Duration::from_secs(query.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let ListQuery { agent, since, until, after, .. } = query;
    // One more tells whether there is another page.
    let wanted = AuditQuery { agent, since, until, after, limit: limit.saturating_add(1) };
    let mut announcements = call.app().store.subscribe();
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    loop {
        let events = call.app().store.events(call.org(), &wanted).await?;
        let page = cut(events, limit);
        if !page.items.is_empty() {
            return answer::json(&page);
        }
        tokio::select! {
            biased;
            () = announced(&mut announcements, call.org()) => {}
            () = &mut deadline => return answer::json(&page),
            () = call.app().stopped() => return answer::json(&page),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn announced(announcements: &mut broadcast::Receiver<Announcement>, org: &OrgId) {
    loop {
        match announcements.recv().await {
            Ok(Announcement::Audit(of) | Announcement::Changes(of)) if of == *org => return,
            Ok(Announcement::Everything) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The page, and where the next one begins.
fn cut(mut items: Vec<AuditEvent>, limit: u32) -> Page<AuditEvent> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|event| event.number.to_string());
    Page { items, next }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// `jsonl`: the events as they are listed; `ocsf`: as the Open Cybersecurity Schema Framework has them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    format: Format,
    /// Only about this agent.
    agent: Option<AgentName>,
    /// Only at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Jsonl,
    Ocsf,
}

/// The audit log as lines, up to what there is now.
#[utoipa::path(
    get, path = "/api/v1/audit/export", operation_id = "export_audit_events", params(ExportQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson"))
)]
pub(crate) async fn export(call: Call) -> Answer {
    let ExportQuery { format, agent, since, until } = call.query()?;
    let newest = call.app().store.newest_event(call.org()).await?;
    let query = AuditQuery { agent, since, until, after: 0, limit: EXPORT_PAGE };
    let organisation = call.actor().organisation.clone();
    let export = Export { app: call.app().clone(), org: call.org().clone(), organisation, format, newest };
    let mut answer = Response::new(Body::new(Lines::new(|pen| export.write(pen, query))));
    let lines = HeaderValue::from_static("application/x-ndjson");
    answer.headers_mut().insert(CONTENT_TYPE, lines);
    Ok(answer)
}

struct Export {
    app: Arc<App>,
    org: OrgId,
    organisation: String,
    format: Format,
    newest: u64,
}

impl Export {
    async fn write(self, pen: Pen, mut query: AuditQuery) -> Result<(), Cut> {
        loop {
            if *self.app.stopping.borrow() {
                return Err(Cut("the control plane is stopping"));
            }
            let page = self.app.store.events(&self.org, &query).await.map_err(|error| {
                tracing::warn!(error = crate::causes::causes(&error), "an export is cut");
                Cut("the database failed")
            })?;
            let Some(last) = page.last() else { return Ok(()) };
            query.after = last.number;
            let is_last = page.len() < EXPORT_PAGE as usize;
            let mut lines = Vec::new();
            for event in page.iter().filter(|event| event.number <= self.newest) {
                self.line(event, &mut lines).map_err(|_| Cut("an event cannot be written"))?;
            }
            if !lines.is_empty() {
                pen.put(Bytes::from(lines)).await;
            }
            if is_last || query.after >= self.newest {
                return Ok(());
            }
        }
    }

    fn line(&self, event: &AuditEvent, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self.format {
            Format::Jsonl => serde_json::to_writer(&mut *lines, event)?,
            Format::Ocsf => serde_json::to_writer(&mut *lines, &ocsf::event(event, &self.organisation))?,
        }
        lines.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dvx_proto::operator::LineDetails;

    use super::*;

    fn event(number: u64) -> AuditEvent {
        AuditEvent {
            number,
            time: Timestamp::UNIX_EPOCH,
            actor: "system".to_owned(),
            role: None,
            action: "audit.gap".to_owned(),
            subject: None,
            agent: None,
            decision: "denied".to_owned(),
            reason: None,
            request_id: None,
            enclave: None,
            seq: None,
            line: LineDetails::default(),
        }
    }

    #[test]
    fn a_page_says_where_the_next_one_begins_if_there_is_one() {
        let page = |count: u64, limit| cut((1..=count).map(event).collect(), limit);
        assert_eq!((page(3, 2).items.len(), page(3, 2).next.as_deref()), (2, Some("2")));
        assert_eq!((page(2, 2).items.len(), page(2, 2).next), (2, None));
        assert_eq!(page(0, 2).next, None);
    }
}
