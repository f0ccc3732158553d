//! What a running broker says of itself.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::client::{ClientError, get};
use crate::admin::status::{AgentStatus, MemoryStatus, Status, UpstreamStatus};
use crate::upstream::Degraded;

/// Why nothing is known about a broker.
#[derive(Debug, Error)]
pub(super) enum StatusError {
    #[error("cannot ask the broker at {}", .socket.display())]
    Unreachable { socket: PathBuf, source: ClientError },
    #[error("what answers at {} is not a broker of this kind", .socket.display())]
    Unreadable { socket: PathBuf, source: serde_json::Error },
}

/// The answer of `GET /status`, as it came and as it is understood.
pub(super) struct Report {
    json: String,
    status: Status,
}

/// Asks the broker whose admin socket this is.
pub(super) fn ask(socket: &Path) -> Result<Report, StatusError> {
    let body = get(socket, "/status")
        .map_err(|source| StatusError::Unreachable { socket: socket.to_owned(), source })?;
    let status = serde_json::from_slice(&body)
        .map_err(|source| StatusError::Unreadable { socket: socket.to_owned(), source })?;
    let mut json = String::from_utf8_lossy(&body).into_owned();
    if !json.ends_with('\n') {
        json.push('\n');
    }
    Ok(Report { json, status })
}

impl Report {
    pub(super) fn is_ready(&self) -> bool {
        self.status.ready
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let status = &self.status;
        let mut text = String::new();
        let ready = match (status.ready, &status.reason) {
            (true, _) => "ready".to_owned(),
            (false, None) => "not ready".to_owned(),
            (false, Some(reason)) => format!("not ready: {reason}"),
        };
        line(&mut text, "broker", &format!("{} for enclave {}, {ready}", status.version, status.enclave));
        let UpstreamStatus { kind, connected, revision, age_seconds, max_stale_seconds, .. } =
            &status.upstream;
        let connected = match connected {
            None => "",
            Some(true) => ", connected",
            Some(false) => ", not connected",
        };
        let age = match age_seconds {
            Some(age) => {
                format!("revision {revision}, confirmed {age} s ago (max_stale {max_stale_seconds} s)")
            }
            None => "never read".to_owned(),
        };
        line(&mut text, "upstream", &format!("{kind}{connected}, {age}"));
        let MemoryStatus { protection, capacity_bytes, used_bytes } = &status.memory;
        line(&mut text, "memory", &format!("{protection}, {used_bytes} of {capacity_bytes} bytes used"));
        let audit = if status.audit.ok { "ok" } else { "cannot be written" };
        line(&mut text, "audit", &format!("{}, {audit}", status.audit.sink));
        line(&mut text, "unix", &status.listen.unix.to_string_lossy());
        let tcp = status.listen.tcp.map_or_else(|| "none".to_owned(), |address| address.to_string());
        line(&mut text, "tcp", &tcp);
        line(&mut text, "admin", &status.listen.admin.to_string_lossy());
        line(&mut text, "connections", &status.connections.open.to_string());
        for Degraded { what, why } in &status.degraded {
            line(&mut text, "degraded", &format!("{what}: {why}"));
        }
        agents(&mut text, &status.agents);
        text
    }
}

fn agents(text: &mut String, agents: &[AgentStatus]) {
    let header = ["AGENT", "UID", "STATE", "CREDENTIALS", "SECRETS"].map(str::to_owned);
    let rows = agents.iter().map(|agent| {
        [
            agent.name.to_string(),
            agent.uid.to_string(),
            agent.state.as_str().to_owned(),
            agent.credentials.to_string(),
            agent.secrets.to_string(),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    text.push('\n');
    for row in &rows {
        let padded: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("    ").trim_end());
        text.push('\n');
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    writeln!(text, "{name:<11}    {}", printable(value)).unwrap_or_default();
}

/// File names can hold anything, and a terminal obeys some of it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"version":"0.1.0","enclave":"lab-1","ready":false,"reason":"the upstream has not been
        read yet","upstream":{"kind":"directory","revision":3,"age_seconds":12,"max_stale_seconds":3600,"synchronised":false,"new":1},
        "memory":{"protection":"secretmem","capacity_bytes":65536,"used_bytes":512},"listen":{"unix":"/u","tcp":null,
        "admin":"/a","agents":"/t"},"agents":[{"name":"a","uid":1001,"state":"active","credentials":1,"secrets":0},
        {"name":"longer","uid":5,"state":"isolated","credentials":20,"secrets":3}],"connections":{"open":7},
        "degraded":[{"what":"/u/\u001b[2J","why":"bad"}],"audit":{"sink":"stderr","ok":true}}"#;

    #[test]
    fn the_overview_is_for_people() {
        let json = ANSWER.replace("\n        ", " ");
        let report = Report { status: serde_json::from_str(&json).unwrap(), json };
        assert!(!report.is_ready());
        assert_eq!(
            report.table(),
            "\
broker         0.1.0 for enclave lab-1, not ready: the upstream has not been read yet
upstream       directory, revision 3, confirmed 12 s ago (max_stale 3600 s)
memory         secretmem, 512 of 65536 bytes used
audit          stderr, ok
unix           /u
tcp            none
admin          /a
connections    7
degraded       /u/\u{fffd}[2J: bad

AGENT     UID     STATE       CREDENTIALS    SECRETS
a         1001    active      1              0
longer    5       isolated    20             3
"
        );
    }
}
