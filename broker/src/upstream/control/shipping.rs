//! Copies the audit log to the control plane.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::enclave::{AuditReceipt, Hello, MAX_AUDIT_LINES};

use super::backoff::Backoff;
use super::error::Trouble;
use super::link::{Channel, Endpoint};
use super::standing::Standing;
use crate::audit::{Batch, Feed, Known, Most, Reader};
use crate::causes::causes;

/// Lines are gathered for so long, so that many requests make few batches.
const GATHER: Duration = Duration::from_millis(200);

/// How long the control plane may take to store a batch.
const WAIT: Duration = Duration::from_secs(30);

/// Well below what is allowed, so that neither side has to hold much.
const MOST: Most = Most { lines: MAX_AUDIT_LINES, bytes: 512 * 1024 };

/// A log of which something is refused will not get better soon.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Sends what the control plane has not got, and goes on with what is written.
pub(super) async fn ship(
    endpoint: Arc<Endpoint>,
    session: &str,
    feed: Arc<Feed>,
    hello: &Hello,
    standing: &Standing<'_>,
) -> Infallible {
    let mut known = Some(Known { seq: hello.audit_seq, head: hello.audit_head.clone() });
    let mut channel = Channel::new(endpoint, session);
    let mut backoff = Backoff::new();
    let mut reader = feed.reader();
    loop {
        let batch;
        (reader, batch) = match next(reader, known.clone()).await {
            Ok(next) => next,
            Err(_) => return std::future::pending().await,
        };
        let batch = match batch {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                known = None;
                feed.news().await;
                tokio::time::sleep(GATHER).await;
                continue;
            }
            Err(error) => {
                standing.audit(Some(format!("the log cannot be read back: {error}")));
                tokio::time::sleep(backoff.longest()).await;
                continue;
            }
        };
        known = None;
        match send(&mut channel, batch).await {
            Ok(()) => {
                reader.taken();
                backoff.reset();
                standing.audit(None);
            }
            Err(error) => {
                standing.audit(Some(causes(&error)));
                let refused = matches!(error, Trouble::Status(400..500));
                tokio::time::sleep(if refused { REFUSED_PAUSE } else { backoff.pause() }).await;
            }
        }
    }
}

/// The next lines, read on another thread: a log can be long. It fails only when the runtime ends.
async fn next(
    mut reader: Reader,
    from: Option<Known>,
) -> Result<(Reader, io::Result<Option<Batch>>), tokio::task::JoinError> {
    let read = move || {
        let batch = from.map_or(Ok(()), |known| reader.seek(&known)).and_then(|()| reader.next(MOST));
        (reader, batch)
    };
    tokio::task::spawn_blocking(read).await
}

async fn send(channel: &mut Channel, batch: Batch) -> Result<(), Trouble> {
    let answer = channel.post("/v1/enclave/audit", "application/x-ndjson", batch.text.into(), WAIT).await?;
    let receipt: AuditReceipt = serde_json::from_slice(&answer)?;
    tracing::debug!(sent = batch.last_seq, stored = receipt.seq, "audit lines shipped");
    Ok(())
}
