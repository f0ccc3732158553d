//! What takes the control plane a while, followed to its end.

use std::io::{self, IsTerminal};
use std::time::Duration;

use dvx_proto::operator::{Operation, OperationState};

use crate::client::{Client, ClientError, Request, with_query};
use crate::failure::Failure;
use crate::output::note;

/// How long each question waits for the end.
const STEP: Duration = Duration::from_secs(2);

/// How much longer than asked an answer may take.
const MARGIN: Duration = Duration::from_secs(10);

/// Waits until it has ended, and says on a terminal what is being done meanwhile. Gives the revision that has
/// what came of it. `what` is what failed if it fails.
pub(super) async fn follow(
    client: &mut Client,
    begun: Operation,
    revision: Option<u64>,
    what: &str,
) -> Result<Option<u64>, Failure> {
    let is_shown = io::stderr().is_terminal();
    let (mut operation, mut revision) = (begun, revision);
    let mut shown = String::new();
    loop {
        match operation.state {
            OperationState::Done => return Ok(revision),
            OperationState::Failed => return Err(failure(operation, what)),
            OperationState::Running => {}
        }
        let progress = match &operation.error {
            None => operation.progress.clone(),
            Some(error) => format!("{} ({error})", operation.progress),
        };
        if is_shown && progress != shown {
            note(&progress);
            shown = progress;
        }
        let query = [("wait_seconds", Some(STEP.as_secs().to_string()))];
        let path = with_query(&format!("/operations/{}", operation.id), &query);
        let request = Request::get(path).with_patience(STEP + MARGIN);
        let failed = |error: ClientError| {
            error.into_failure(&format!("it goes on, but how operation {} ends cannot be told", operation.id))
        };
        let answer = client.send(request).await.map_err(failed)?;
        let next: Operation = client.parse(&answer).map_err(failed)?;
        revision = answer.revision.or(revision);
        operation = next;
    }
}

/// The same as if the first request had waited for it.
fn failure(operation: Operation, what: &str) -> Failure {
    match operation.problem {
        Some(problem) => ClientError::problem(problem).into_failure(what),
        None => {
            let why = operation.error.unwrap_or_else(|| "the control plane gave up".to_owned());
            Failure::new(what, why).with_hint("dvx credential-provider debts lists what is left of it")
        }
    }
}
