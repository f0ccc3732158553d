//! `--follow`: stays, and shows what happens.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use dvx_proto::operator::{AuditEvent, Page};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

use super::TASK;
use super::table::Events;
use crate::client::{Client, ClientError, Request, with_query};
use crate::failure::{Failure, exit};
use crate::output::note;

/// How long one question waits for something to happen.
const WAIT_SECONDS: u32 = 20;

/// How much longer its answer may take.
const MARGIN: Duration = Duration::from_secs(10);

/// How often it is tried again while the control plane cannot be reached: a restart takes seconds.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is tried before giving up.
const MAX_RETRIES: u32 = 60;

/// How often it is looked whether anybody still reads.
const READER_PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn run(
    client: &mut Client,
    path: &str,
    after: Option<String>,
    events: &mut Events,
) -> Result<ExitCode, Failure> {
    tokio::select! {
        result = show_all(client, path, after, events) => result,
        () = interrupted() => Ok(ExitCode::SUCCESS),
        () = reader_gone() => Ok(ExitCode::SUCCESS),
    }
}

async fn show_all(
    client: &mut Client,
    path: &str,
    mut after: Option<String>,
    events: &mut Events,
) -> Result<ExitCode, Failure> {
    let mut retries = 0;
    loop {
        let page = match next(client, path, after.clone()).await {
            Ok(page) => page,
            Err(error) => {
                let failure = error.into_failure(TASK);
                if failure.exit() != exit::NOT_READY || retries == MAX_RETRIES {
                    return Err(failure);
                }
                if retries == 0 {
                    note("the control plane cannot be reached; trying again");
                }
                retries += 1;
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        retries = 0;
        if let Some(last) = page.items.last() {
            after = Some(last.number.to_string());
        }
        if !page.items.is_empty() && !events.show(&page.items)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

async fn next(
    client: &mut Client,
    path: &str,
    after: Option<String>,
) -> Result<Page<AuditEvent>, ClientError> {
    let query = [("after", after), ("wait_seconds", Some(WAIT_SECONDS.to_string()))];
    let patience = Duration::from_secs(WAIT_SECONDS.into()) + MARGIN;
    let answer = client.send(Request::get(with_query(path, &query)).with_patience(patience)).await?;
    client.parse(&answer)
}

/// Ctrl-C is how this is meant to end.
async fn interrupted() {
    let streams = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate)] = streams else { return pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Without it, `dvx audit list --follow | head -1` would stay until something else happens.
async fn reader_gone() {
    let mut pauses = interval(READER_PAUSE);
    loop {
        pauses.tick().await;
        let stdout = io::stdout();
        let mut source = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let looked = poll(&mut source, PollTimeout::ZERO);
        let happened = source.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if looked.is_ok() && happened.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            return;
        }
    }
}
