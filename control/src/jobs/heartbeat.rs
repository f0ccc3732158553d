//! Says once a second that this process is alive, and takes over keys that are new.

use std::io;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::causes::causes;
use crate::clock;
use crate::store::{Announcement, StoreError};

const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked for what dead replicas have left behind.
const SWEEP: u32 = 2;

/// Ends only when this process cannot go on: its key was replaced while it did not look.
pub(super) async fn run(app: &App) -> io::Result<()> {
    let mut announcements = app.store.subscribe();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // A rekey waits for this.
            () = keys(&mut announcements) => {}
        }
        match app.store.heartbeat(clock::wall()).await {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(error = causes(&error), "the database does not take the heartbeat");
                continue;
            }
            Err(error) => return Err(io::Error::other(causes(&error).to_string())),
        }
        beats = beats.wrapping_add(1);
        if beats % SWEEP == 1
            && let Err(error) = app.store.end_sessions_of_the_dead().await
        {
            tracing::warn!(error = causes(&error), "sessions of dead replicas are not ended");
        }
    }
}

async fn keys(announcements: &mut tokio::sync::broadcast::Receiver<Announcement>) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match announcements.recv().await {
            Ok(Announcement::Keys) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
