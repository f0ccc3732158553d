//! What takes several calls of a provider.

use std::time::Duration;

use axum::body::Body;
use dvx_proto::operator::{MAX_WAIT_SECONDS, Operation, OperationState};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::domain::{self, OperationId, OperationStatus};
use crate::http::answer::{self, Answer};
use crate::http::call::Call;

/// How often to look whether an operation has gone on.
const POLL: Duration = Duration::from_millis(250);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationQuery {
    /// Answer only when it has ended, at the latest after so many seconds: at most 30 count.
    #[serde(default)]
    wait_seconds: u32,
}

/// How far an operation is.
#[utoipa::path(
    get, path = "/api/v1/operations/{operation}", operation_id = "get_operation",
    params(("operation" = String, Path, description = "Its id"), OperationQuery),
    responses((status = 200, body = Operation))
)]
pub(crate) async fn get(call: Call) -> Answer {
    let query: OperationQuery = call.query()?;
    let id = OperationId::from(call.name::<String>(0, "operation")?);
    let wait = Duration::from_secs(query.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    loop {
        let status = call.app().integrations.operation(call.org(), &id).await?;
        let is_running = status.state == domain::OperationState::Running;
        if !is_running || deadline.is_elapsed() {
            return answer(status, StatusCode::OK);
        }
        tokio::select! {
            () = &mut deadline => {}
            () = tokio::time::sleep(POLL) => {}
            () = call.app().stopped() => return answer(status, StatusCode::OK),
        }
    }
}

/// What has begun, or has ended already.
pub(super) fn begun(status: OperationStatus) -> Answer {
    let code = match status.state {
        domain::OperationState::Running => StatusCode::ACCEPTED,
        domain::OperationState::Done | domain::OperationState::Failed => StatusCode::OK,
    };
    answer(status, code)
}

fn answer(status: OperationStatus, code: StatusCode) -> Answer {
    let OperationStatus { id, kind, agent, state, progress, problem, revision, created_at } = status;
    let operation = Operation {
        id: id.to_string(),
        kind: kind.as_str().to_owned(),
        agent,
        state: match state {
            domain::OperationState::Running => OperationState::Running,
            domain::OperationState::Done => OperationState::Done,
            domain::OperationState::Failed => OperationState::Failed,
        },
        progress,
        error: problem.as_ref().map(|problem| problem.detail.to_string()),
        problem,
        created_at,
    };
    let answer: Response<Body> = answer::json_with(code, &operation)?;
    Ok(match revision {
        Some(revision) => answer::at(revision, answer),
        None => answer,
    })
}
