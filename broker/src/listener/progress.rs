//! What every connection is waiting for, and an end to those that wait too long.
//!
//! One task looks at all connections once a second. Arming a timer for each of them, let alone for each
//! request, would cost more than the request does, and so would reading the clock at each step of one: how long a
//! step takes is counted in looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::watch;

use crate::ticks::Ticks;

/// How often connections are looked at; a limit may be overrun by this much.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What a connection is waiting for, each with a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request on a kept connection.
    Idle = 0,
    /// The rest of a request's head.
    Head = 1,
    /// The handler.
    Handler = 2,
    /// The client, which has to take the answer.
    Answer = 3,
}

impl Phase {
    /// How many seconds a connection may stay in this phase.
    ///
    /// A head is a packet or two, so five seconds is ample; an idle connection costs a descriptor, so a
    /// minute is generous; the handler's own limits (for a body, for a newer token) end well before its half
    /// minute.
    const fn limit(self) -> u32 {
        match self {
            Self::Idle => 60,
            Self::Head => 5,
            Self::Handler => 30,
            Self::Answer => 10,
        }
    }
}

/// The phase of one connection, shared by its stream, its handler and the sweeper.
pub(super) struct Progress {
    /// A [`Phase`] and what the sweeper has noted about it.
    state: AtomicU8,
    /// The broker stops, and the connection has not heard of it yet.
    stopping: AtomicBool,
    /// Whether the buffer of requests is so large that the last one stays in it.
    roomy: AtomicBool,
    /// Wakes the connection's task, so that it looks at what was noted.
    task: OnceLock<Waker>,
}

/// The part of the state that is the phase.
const PHASE: u8 = 0b11;
/// The sweeper has seen the connection in this phase.
const SEEN: u8 = 0b100;
/// The sweeper has seen it too often.
const OVERDUE: u8 = 0b1000;

impl Progress {
    fn new(stopping: bool) -> Self {
        Self {
            state: AtomicU8::new(Phase::Head as u8),
            stopping: AtomicBool::new(stopping),
            roomy: AtomicBool::new(false),
            task: OnceLock::new(),
        }
    }

    /// Enters a phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.state.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state.load(Ordering::Relaxed) & PHASE {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Handler,
            _ => Phase::Answer,
        }
    }

    /// Whether the connection has been in its phase for too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.state.load(Ordering::Relaxed) & OVERDUE != 0
    }

    /// Tells whether the last request stays in the buffer for as long as the connection is kept.
    pub(super) fn set_roomy(&self, roomy: bool) {
        self.roomy.store(roomy, Ordering::Relaxed);
    }

    /// What was set last.
    pub(super) fn is_roomy(&self) -> bool {
        self.roomy.load(Ordering::Relaxed)
    }

    /// Whether the broker stops; said once.
    pub(super) fn takes_stop(&self) -> bool {
        // Loaded first, since that is all there is to it nearly always.
        self.stopping.load(Ordering::Relaxed) && self.stopping.swap(false, Ordering::Relaxed)
    }

    /// Has the task woken when the sweeper has something to say. It is the same one each time.
    pub(super) fn wakes(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    fn wake(&self) {
        // A task that has not run yet will look by itself.
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

/// Knows all connections.
#[derive(Clone, Default)]
pub(super) struct Sweeper(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, Open>,
    /// Who comes now hears it from the start.
    stopping: bool,
}

struct Open {
    progress: Arc<Progress>,
    /// For how many looks it has been in its phase, after the one that saw it there first.
    seconds: u32,
}

impl Open {
    /// Looks at the connection once a second.
    fn look(&mut self) {
        let before = self.progress.state.fetch_or(SEEN, Ordering::Relaxed);
        self.seconds = if before & SEEN == 0 { 0 } else { self.seconds.saturating_add(1) };
        if self.seconds >= self.progress.phase().limit() {
            self.progress.state.fetch_or(OVERDUE, Ordering::Relaxed);
            self.progress.wake();
        }
    }
}

/// A connection that the sweeper knows, until this is dropped.
pub(super) struct Watched {
    pub(super) progress: Arc<Progress>,
    number: u64,
    sweeper: Sweeper,
}

impl Sweeper {
    /// Takes on a connection that was just accepted: its first request is due.
    pub(super) fn watch(&self) -> Watched {
        let mut connections = self.connections();
        let progress = Arc::new(Progress::new(connections.stopping));
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, Open { progress: progress.clone(), seconds: 0 });
        Watched { progress, number, sweeper: self.clone() }
    }

    /// Looks at the connections for as long as there is a broker, and wakes them all when it stops.
    pub(super) async fn run(self, ticks: Ticks, mut stopping: watch::Receiver<bool>) {
        let mut told = false;
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping), if !told => {
                    told = true;
                    self.stop();
                }
                () = ticks.next() => self.look(),
            }
        }
    }

    fn look(&self) {
        self.connections().open.values_mut().for_each(Open::look);
    }

    fn stop(&self) {
        let mut connections = self.connections();
        connections.stopping = true;
        for open in connections.open.values() {
            open.progress.stopping.store(true, Ordering::Relaxed);
            open.progress.wake();
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
    use std::task::Poll;

    use super::*;

    #[test]
    fn each_phase_has_its_own_patience() {
        let sweeper = Sweeper::default();
        let watched = sweeper.watch();
        let limits = [(Phase::Head, 5), (Phase::Handler, 30), (Phase::Answer, 10), (Phase::Idle, 60)];
        for (phase, patience) in limits {
            watched.progress.enter(phase);
            // The first look may come at once.
            for _ in 0..patience {
                sweeper.look();
                assert!(!watched.progress.is_overdue(), "{phase:?}");
            }
            sweeper.look();
            assert!(watched.progress.is_overdue(), "{phase:?}");
            assert_eq!(watched.progress.phase(), phase);
        }
    }

    #[test]
    fn who_enters_a_phase_again_has_all_of_its_time_again() {
        let sweeper = Sweeper::default();
        let watched = sweeper.watch();
        for _ in 0..20 {
            watched.progress.enter(Phase::Head);
            (0..5).for_each(|_| sweeper.look());
            assert!(!watched.progress.is_overdue());
        }
    }

    #[test]
    fn only_open_connections_are_known() {
        let sweeper = Sweeper::default();
        let first = sweeper.watch();
        let second = sweeper.watch();
        drop(first);
        assert_eq!(sweeper.connections().open.keys().copied().collect::<Vec<_>>(), [second.number]);
    }

    #[tokio::test]
    async fn every_connection_hears_once_that_the_broker_stops() {
        let sweeper = Sweeper::default();
        let (busy, waiting) = (sweeper.watch(), sweeper.watch());
        let waits = tokio::spawn(async move {
            std::future::poll_fn(|cx| {
                waiting.progress.wakes(cx.waker());
                if waiting.progress.takes_stop() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        tokio::task::yield_now().await;
        sweeper.stop();
        waits.await.unwrap();
        busy.progress.enter(Phase::Answer);
        assert!(busy.progress.takes_stop());
        assert!(!busy.progress.takes_stop());
        assert!(sweeper.watch().progress.takes_stop(), "one that was accepted at the last moment");
    }
}
