//! What is done at intervals.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::clock;
use crate::store::StoreError;

/// Until the process stops.
pub(crate) async fn run(app: Arc<App>) -> io::Result<()> {
    loop {
        tokio::select! {
            () = app.stopped() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        match app.store.heartbeat(clock::wall()).await {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(error = crate::causes::causes(&error), "the database does not answer");
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}
