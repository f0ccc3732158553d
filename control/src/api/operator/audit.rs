//! The audit log.

use dvx_proto::operator::{AuditEvent, Page};

use crate::http::answer::Answer;
use crate::http::call::Call;
use crate::http::error::Refusal;

/// A page of the audit log.
#[utoipa::path(
    get, path = "/api/v1/audit", operation_id = "list_audit_events",
    responses((status = 200, body = Page<AuditEvent>))
)]
pub(crate) async fn list(_call: Call) -> Answer {
    Err(Refusal::not_found("event"))
}

/// The audit log as lines.
#[utoipa::path(
    get, path = "/api/v1/audit/export", operation_id = "export_audit_events",
    responses((status = 200, body = String, content_type = "application/x-ndjson"))
)]
pub(crate) async fn export(_call: Call) -> Answer {
    Err(Refusal::not_found("event"))
}
