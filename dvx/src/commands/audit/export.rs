//! `dvx audit export`: lines of JSON, passed on as they come.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::selection;
use crate::cli::AuditFilter;
use crate::client::{Client, Request, with_query};
use crate::failure::{Failure, exit};
use crate::output;

const TASK: &str = "cannot export the events";

/// How long the next piece may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest line; an event is far below.
const MAX_LINE_BYTES: usize = 1024 * 1024;

pub(super) async fn run(filter: &AuditFilter, format: &str) -> Result<ExitCode, Failure> {
    let mut client = crate::commands::client()?;
    let path = with_query("/audit/export", &[("format", Some(format.to_owned()))]);
    let request = Request::get(with_query(&path, &selection(filter)));
    let body = client.stream(&request).await.map_err(|error| error.into_failure(TASK))?;
    pass_on(&client, body).await
}

/// Passes on whole lines, so that whoever reads never gets a piece of one.
async fn pass_on(client: &Client, mut body: Incoming) -> Result<ExitCode, Failure> {
    let is_terminal = io::stdout().is_terminal();
    let mut pending: Vec<u8> = Vec::new();
    while let Some(data) = next(&mut body).await? {
        pending.extend_from_slice(&data);
        let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else {
            if pending.len() > MAX_LINE_BYTES {
                return Err(client.malformed("a line of it is too long").into_failure(TASK));
            }
            continue;
        };
        let rest = pending.split_off(end + 1);
        let lines = std::mem::replace(&mut pending, rest);
        let is_read = if is_terminal {
            output::write(output::harmless_json(&String::from_utf8_lossy(&lines)).as_bytes())?
        } else {
            output::write(&lines)?
        };
        if !is_read {
            return Ok(ExitCode::SUCCESS);
        }
    }
    match pending.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(broken("it ends in the middle of a line")),
    }
}

async fn next(body: &mut Incoming) -> Result<Option<bytes::Bytes>, Failure> {
    loop {
        let frame = timeout(PATIENCE, body.frame()).await;
        match frame.map_err(|_| broken("nothing more came within 30 s"))? {
            None => return Ok(None),
            Some(Err(_)) => return Err(broken("the connection broke off")),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn broken(why: &str) -> Failure {
    Failure::new("the export is not complete", why).with_exit(exit::NOT_READY)
}
