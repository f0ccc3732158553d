//! The session's broker: asked where it listens, and whether it has what it is to serve.

use std::process::{Command, Stdio};

use serde::Deserialize;

use super::place::Place;
use super::programs::Programs;
use super::service::{Kind, log_tail};
use crate::failure::{Failure, cause, exit};
use crate::signals;

/// The part of `dvx-broker status -o json` that matters here.
#[derive(Deserialize)]
struct Status {
    ready: bool,
    reason: Option<String>,
    listen: Listen,
    agents: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Listen {
    tcp: Option<String>,
}

/// How far a broker is that runs.
pub(crate) enum State {
    /// It has everything; its listener on loopback, whose port it chose itself, has this URL.
    Serving { url: String },
    /// It has not got everything from the control plane, or not written the agent's token.
    Waiting { why: String },
}

pub(crate) fn state(programs: &Programs, place: &Place) -> Result<State, Failure> {
    let failed = |why: String| {
        Failure::new("cannot ask the broker for its address", why)
            .with_log(log_tail(place, Kind::Broker))
            .with_exit(exit::NOT_READY)
    };
    let mut command = Command::new(programs.broker());
    command.args(["status", "-o", "json", "--socket"]).arg(place.admin_socket());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = signals::spawn(&mut command).map_err(|error| failed(cause(&error)))?;
    let output = child.wait_with_output().map_err(|error| failed(cause(&error)))?;
    // One that is not ready answers as well, and says so by its exit status.
    let status: Status = match serde_json::from_slice(&output.stdout) {
        Ok(status) => status,
        Err(_) if !output.status.success() => {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let waiting = |why: &str| Ok(State::Waiting { why: why.to_owned() });
    if !status.ready {
        return waiting(status.reason.as_deref().unwrap_or("it is not ready"));
    }
    if status.agents.is_empty() || !place.token_file().exists() {
        return waiting("it does not serve the agent");
    }
    let address = status.listen.tcp.ok_or_else(|| failed("it does not listen on loopback".to_owned()))?;
    Ok(State::Serving { url: format!("http://{address}") })
}
