//! What the control plane does by itself. Where several replicas run, each piece is done by one at a time.

mod expiry;
mod heartbeat;
mod prune;

use std::io;
use std::sync::Arc;

use crate::app::App;

/// Works until the process stops.
pub(crate) async fn run(app: Arc<App>) -> io::Result<()> {
    tokio::select! {
        () = app.stopped() => {}
        () = prune::run(&app) => {}
        () = expiry::run(&app) => {}
        ended = heartbeat::run(&app) => return ended,
    }
    Ok(())
}
