//! Drops what is too old: once after the start, then every few minutes.

use std::time::Duration;

use crate::app::App;
use crate::causes::causes;
use crate::clock;
use crate::store::{Pruned, Retention};

/// Changes are kept by number, so this also bounds how many there can be beyond it.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

pub(super) async fn run(app: &App) {
    let retention = Retention { audit: app.config.retention };
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        match app.store.prune(retention, clock::wall()).await {
            Ok(pruned) if pruned == Pruned::default() => {}
            Ok(Pruned { events, answers, changes }) => {
                tracing::info!(events, answers, changes, "dropped what was too old");
            }
            Err(error) => tracing::warn!(error = causes(&error), "what is too old is not dropped"),
        }
    }
}
