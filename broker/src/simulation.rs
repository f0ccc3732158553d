//! What simulations have in common: a run is a function of its seed, and a failure says which. Seeds are run on all
//! cores.
//!
//! `DVX_SIM_SEED=7` runs that one, `DVX_SIM_SEEDS=100000` the first so many, `DVX_SIM_SEEDS=5000..6000` those.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Random numbers that are the same for every run of a seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn between(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True so often in a hundred.
    pub(crate) fn percent(&mut self, often: usize) -> bool {
        self.below(100) < often
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The last that has happened in a run.
#[derive(Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    count: usize,
}

impl Trace {
    const KEPT: usize = 40;

    pub(crate) fn note(&mut self, line: String) {
        if self.lines.len() == Self::KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:5} {line}", self.count));
        self.count += 1;
    }

    fn show(&self) -> String {
        self.lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// The seeds that are to be run, each once, by as many threads as there are.
pub(crate) struct Seeds {
    test: &'static str,
    all: Range<u64>,
    next: AtomicU64,
}

impl Seeds {
    /// Those that the environment names, or the usual number.
    pub(crate) fn new(test: &'static str, usual: u64) -> Self {
        let all = chosen(usual);
        Self { test, next: AtomicU64::new(all.start), all }
    }

    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.all.end - self.all.start).unwrap()
    }

    /// Calls `worker` on each core; it is to run seeds until there is none left, or one has failed. What lasts for
    /// longer than one of them it makes itself.
    pub(crate) fn share(&self, worker: impl Fn() + Sync) {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            for _ in 0..cores.min(self.count()) {
                scope.spawn(&worker);
            }
        });
    }

    /// Runs a seed; none is left where this is false.
    pub(crate) fn run(&self, run: impl FnOnce(u64, &mut Trace) -> Result<(), String>) -> bool {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        if seed >= self.all.end {
            return false;
        }
        let mut trace = Trace::default();
        let watched = Watched { seeds: self, seed };
        let result = run(seed, &mut trace);
        if let Err(what) = result {
            panic!("seed {seed}: {what}\n{}", trace.show());
        }
        drop(watched);
        true
    }
}

fn chosen(usual: u64) -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("DVX_SIM_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("DVX_SIM_SEEDS") {
        Ok(seeds) => match seeds.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&seeds),
        },
        Err(_) => 0..usual,
    }
}

/// Names the seed when it fails, or the code under test panics, and ends the others.
struct Watched<'s> {
    seeds: &'s Seeds,
    seed: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let (seed, test) = (self.seed, self.seeds.test);
            self.seeds.next.store(self.seeds.all.end, Ordering::Relaxed);
            eprintln!("again: DVX_SIM_SEED={seed} cargo test -p dvx-broker {test}");
        }
    }
}
