//! Whether an agent is served: changes that are in force everywhere when the command returns.

use std::process::ExitCode;

use dvx_proto::operator::{Agent, Reason};

use crate::cli::{ConfirmedChange, OutputFormat};
use crate::client::{ClientError, Request};
use crate::commands::client;
use crate::delivery::Change;
use crate::failure::Failure;
use crate::output;

/// What is to become of an agent, in the words of path and messages.
struct Transition {
    /// In the path, and in `cannot … the agent`.
    verb: &'static str,
    /// In `agent a is …`.
    done: &'static str,
}

pub(super) async fn isolate(
    change: &ConfirmedChange,
    reason: String,
    format: OutputFormat,
) -> Result<ExitCode, Failure> {
    make(change, &Transition { verb: "isolate", done: "isolated" }, Some(Reason { reason }), format).await
}

pub(super) async fn restore(change: &ConfirmedChange, format: OutputFormat) -> Result<ExitCode, Failure> {
    make(change, &Transition { verb: "restore", done: "restored" }, None, format).await
}

pub(super) async fn revoke(
    change: &ConfirmedChange,
    reason: String,
    format: OutputFormat,
) -> Result<ExitCode, Failure> {
    make(change, &Transition { verb: "revoke", done: "revoked" }, Some(Reason { reason }), format).await
}

pub(super) async fn reprovision(change: &ConfirmedChange, format: OutputFormat) -> Result<ExitCode, Failure> {
    make(change, &Transition { verb: "reprovision", done: "reprovisioned" }, None, format).await
}

async fn make(
    change: &ConfirmedChange,
    transition: &Transition,
    reason: Option<Reason>,
    format: OutputFormat,
) -> Result<ExitCode, Failure> {
    let ConfirmedChange { agent, timeout } = change;
    let Transition { verb, done } = transition;
    let failed = |error: ClientError| error.into_failure(&format!("cannot {verb} the agent {agent}"));
    let path = format!("/agents/{agent}/{verb}");
    let request = match reason {
        Some(reason) => Request::post_json(path, &reason).map_err(failed)?,
        None => Request::post(path),
    };
    let mut client = client()?;
    let answer = client.send(request).await.map_err(failed)?;
    let changed: Agent = client.parse(&answer).map_err(failed)?;
    let revision = answer.revision.unwrap_or(changed.revision);
    Change { revision, agent: Some(agent) }
        .confirm(&mut client, *timeout, &format!("agent {agent} is {done}"))
        .await?;
    output::answer(format, &changed, |changed| super::table(std::slice::from_ref(changed)))
}
