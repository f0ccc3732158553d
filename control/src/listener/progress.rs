//! What every connection is waiting for, and an end to those that wait too long.
//!
//! One task looks at all connections once a second. Arming a timer for each of them, let alone for each
//! request, would cost more than the request does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::clock;

/// How often connections are looked at; a limit may be overrun by this much.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a connection is waiting for, each with a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request on a kept connection.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The handler.
    Handler,
    /// More of the answer's body; for a stream that can be ever so long.
    Stream,
    /// The end of the answer on its way out.
    Answer,
}

impl Phase {
    /// How long a connection may stay in this phase.
    ///
    /// A head is a packet or two, so five seconds is ample; an idle connection costs a descriptor, so a
    /// minute is generous; the handler's own limits (for a body, for a change that is waited for) end well
    /// before its minute. Streams are open for as long as both sides like: see [`WRITE_LIMIT`].
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Idle | Self::Handler => Some(Duration::from_secs(60)),
            Self::Head => Some(Duration::from_secs(5)),
            Self::Stream => None,
            Self::Answer => Some(WRITE_LIMIT),
        }
    }
}

/// How long a client may leave a write waiting. One that does not read is cut off and has to come again.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The phase of one connection, shared by its stream, its handler and the sweeper.
pub(super) struct Progress {
    state: Mutex<State>,
    nudge: Notify,
    /// Whether the buffer of requests is so large that the last one stays in it.
    roomy: AtomicBool,
}

struct State {
    phase: Phase,
    since: Instant,
    /// Since when a write waits for the client.
    blocked: Option<Instant>,
}

impl Progress {
    /// Enters a phase.
    pub(super) fn enter(&self, phase: Phase, now: Instant) {
        let mut state = self.state();
        state.phase = phase;
        state.since = now;
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Enters [`Phase::Answer`], if there was an answer.
    pub(super) fn streamed(&self, now: Instant) {
        if self.phase() == Phase::Stream {
            self.enter(Phase::Answer, now);
        }
    }

    /// A write waits for the client.
    pub(super) fn block(&self, now: Instant) {
        self.state().blocked.get_or_insert(now);
    }

    /// The client has taken something.
    pub(super) fn unblock(&self) {
        self.state().blocked = None;
    }

    /// Whether the connection has been in its phase for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let state = self.state();
        let is_above = |since, limit| now.saturating_duration_since(since) > limit;
        state.phase.limit().is_some_and(|limit| is_above(state.since, limit))
            || state.blocked.is_some_and(|since| is_above(since, WRITE_LIMIT))
    }

    /// Tells whether the last request stays in the buffer for as long as the connection is kept.
    pub(super) fn set_roomy(&self, roomy: bool) {
        self.roomy.store(roomy, Ordering::Relaxed);
    }

    /// What was set last.
    pub(super) fn is_roomy(&self) -> bool {
        self.roomy.load(Ordering::Relaxed)
    }

    /// Until the sweeper has something to say: that the connection is overdue, or that the process stops.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Knows all connections.
#[derive(Clone, Default)]
pub(super) struct Sweeper(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<Progress>>,
}

/// A connection that the sweeper knows, until this is dropped.
pub(super) struct Watched {
    pub(super) progress: Arc<Progress>,
    number: u64,
    sweeper: Sweeper,
}

impl Sweeper {
    /// Takes on a connection that was just accepted: its first request is due.
    pub(super) fn watch(&self, now: Instant) -> Watched {
        let progress = Arc::new(Progress {
            state: Mutex::new(State { phase: Phase::Head, since: now, blocked: None }),
            nudge: Notify::new(),
            roomy: AtomicBool::new(false),
        });
        let mut connections = self.connections();
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, progress.clone());
        Watched { progress, number, sweeper: self.clone() }
    }

    /// Looks at the connections for as long as there is a process, and wakes them all when it stops.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut told = false;
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping), if !told => {
                    told = true;
                    self.nudge(|_| true);
                }
                () = tokio::time::sleep(INTERVAL) => {
                    let now = clock::monotonic();
                    self.nudge(|progress| progress.is_overdue(now));
                }
            }
        }
    }

    fn nudge(&self, which: impl Fn(&Progress) -> bool) {
        for progress in self.connections().open.values().filter(|progress| which(progress)) {
            progress.nudge.notify_one();
        }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.sweeper.connections().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(clock::monotonic);
        *START + Duration::from_secs(seconds)
    }

    #[test]
    fn each_phase_has_its_own_patience() {
        let watched = Sweeper::default().watch(at(0));
        let limits = [(Phase::Head, 5), (Phase::Handler, 60), (Phase::Answer, 10), (Phase::Idle, 60)];
        for (phase, patience) in limits {
            watched.progress.enter(phase, at(100));
            assert!(!watched.progress.is_overdue(at(100 + patience)), "{phase:?}");
            assert!(watched.progress.is_overdue(at(101 + patience)), "{phase:?}");
        }
    }

    #[test]
    fn a_stream_may_be_open_for_long_but_not_unread() {
        let watched = Sweeper::default().watch(at(0));
        watched.progress.enter(Phase::Stream, at(1));
        assert!(!watched.progress.is_overdue(at(100_000)));
        watched.progress.block(at(100_000));
        watched.progress.block(at(100_009));
        assert!(!watched.progress.is_overdue(at(100_010)));
        assert!(watched.progress.is_overdue(at(100_011)));
        watched.progress.unblock();
        assert!(!watched.progress.is_overdue(at(100_011)));
    }

    #[test]
    fn only_open_connections_are_known() {
        let sweeper = Sweeper::default();
        let first = sweeper.watch(at(0));
        let second = sweeper.watch(at(0));
        drop(first);
        assert_eq!(sweeper.connections().open.keys().copied().collect::<Vec<_>>(), [second.number]);
    }

    #[tokio::test]
    async fn a_nudge_is_not_lost_on_a_connection_that_is_busy() {
        let sweeper = Sweeper::default();
        let watched = sweeper.watch(at(0));
        sweeper.nudge(|_| true);
        watched.progress.nudged().await;
    }
}
