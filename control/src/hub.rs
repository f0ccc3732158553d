//! Tells brokers what has changed.

use std::io;

use tokio::sync::watch;

use crate::store::Store;

/// One for the process.
#[derive(Clone)]
pub(crate) struct Hub;

impl Hub {
    pub(crate) fn new(_store: Store) -> Self {
        Self
    }

    /// Until the process stops.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
        stopping.wait_for(|stopping| *stopping).await.map(drop).map_err(io::Error::other)
    }
}
