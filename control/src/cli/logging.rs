//! Log lines on standard error.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `RUST_LOG`, which is `info` unless given.
pub(super) fn start() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = match wanted.parse::<Targets>() {
        Ok(targets) if !wanted.is_empty() => targets,
        _ => Targets::new().with_default(tracing::Level::INFO),
    };
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    // The journal has its own time (systemd.exec(5), JOURNAL_STREAM).
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
    if let Err(error) = started {
        super::complain(&error);
    }
    std::panic::set_hook(Box::new(panicked));
}

/// Says where, but not with which values: those could be anybody's.
fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(tracing::field::display);
    let message = panic.payload().downcast_ref::<&'static str>();
    tracing::error!(place, message, "a bug: dvx-control panicked");
}
