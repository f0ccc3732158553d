//! What simulations have in common: a run is a function of its seed, and a failure says which.
//!
//! `DVX_SIM_SEED=7` runs that one, `DVX_SIM_SEEDS=100000` the first so many, `DVX_SIM_SEEDS=5000..6000` those.

use std::collections::VecDeque;
use std::ops::Range;

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

/// Runs every seed, until one fails, and says how many there were.
pub(crate) fn seeds(
    test: &str,
    usual: u64,
    mut run: impl FnMut(u64, &mut Trace) -> Result<(), String>,
) -> usize {
    let seeds = chosen(usual);
    for seed in seeds.clone() {
        let mut trace = Trace::default();
        let watched = Watched { seed, test };
        let result = run(seed, &mut trace);
        drop(watched);
        if let Err(what) = result {
            panic!(
                "seed {seed}: {what}\n{}again: DVX_SIM_SEED={seed} cargo test -p dvx-broker {test}",
                trace.show()
            );
        }
    }
    seeds.count()
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

/// Names the seed when the code under test panics.
struct Watched<'t> {
    seed: u64,
    test: &'t str,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}: a panic; again: DVX_SIM_SEED={} cargo test -p dvx-broker {}",
                self.seed, self.seed, self.test
            );
        }
    }
}
