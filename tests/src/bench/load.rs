//! The load generator: one thread on one core, blocking sockets.

use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::target::{Answer, Target};
use super::{closed_loop, cores, open_loop};

/// Whether a connection serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Many.
    Kept,
    /// One; connecting is part of the latency.
    Once,
}

/// When the next request goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When the answer to the one before is there.
    Closed,
    /// So many a second, whatever the answers do. A latency counts from when the request was due, so a server
    /// that stops for a moment is charged for all that had to wait.
    Open(f64),
}

/// What to do to a server.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests that are under way at once.
    pub connections: usize,
    /// What a connection is for.
    pub connection: Use,
    /// When requests go out.
    pub pace: Pace,
    /// For how long.
    pub time: Duration,
    /// Where the generator runs.
    pub core: usize,
}

/// What came of it.
pub struct Sample {
    /// In nanoseconds.
    pub latencies: Histogram<u64>,
    /// How long it took in all.
    pub elapsed: Duration,
}

impl Sample {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency below which this part of all lies, in microseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        self.latencies.value_at_quantile(part) as f64 / 1000.0
    }
}

/// Three digits, up to a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

/// Puts a server under load.
pub fn drive(target: &Target, load: &Load) -> Sample {
    let target = match load.connection {
        Use::Kept => {
            assert!(matches!(target.answer, Answer::Http(_)), "this server closes after each answer");
            target.clone()
        }
        Use::Once => target.clone().once(),
    };
    let load = *load;
    // A thread of its own, so that what else this process does stays where it was.
    let run = move || {
        cores::pin_this_thread(load.core);
        match load.pace {
            Pace::Closed if load.connections == 1 => closed_loop::one(&target, &load),
            Pace::Closed => closed_loop::many(&target, &load),
            Pace::Open(rate) => open_loop::run(&target, &load, rate),
        }
    };
    thread::spawn(run).join().expect("the load generator has said why it failed")
}
