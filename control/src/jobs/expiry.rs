//! Says which credentials come to their end: once after the start, then every few minutes.

use std::time::Duration;

use crate::app::App;
use crate::causes::causes;
use crate::clock;

/// It is about days.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

pub(super) async fn run(app: &App) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        match app.store.warn_of_expiry(clock::wall()).await {
            Ok(0) => {}
            Ok(credentials) => tracing::warn!(credentials, "credentials come to their end"),
            Err(error) => tracing::warn!(error = causes(&error), "what comes to its end is not looked for"),
        }
    }
}
