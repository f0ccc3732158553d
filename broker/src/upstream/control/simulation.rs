//! The broker under a control plane and a network that do to it whatever they can, on a clock of their own.
//!
//! The broker's parts are the real ones: the reading of lines, opening of sealed values, commits, the swap of
//! snapshots and rules, a request's way from the caller's facts to the answer and its audit line. The control
//! plane is a model ([`plane`]) that behaves as its hub does, over a database of which every revision is kept
//! ([`truth`]); from that [`judge`] says what the broker may do. Requests also fall into the middle of commits.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dvx_memory::Arena;
use dvx_proto::AgentName;
use jiff::Timestamp;

use self::asking::Waiting;
use self::broker::{Asked, Broker, Rest, poll};
use self::callers::{CALLERS, Caller, make_late_user};
use self::judge::{Got, Known, expect};
use self::pace::Pace;
use self::plane::{Backup, Line, Meaning, ON_THE_WAY, Plane};
use self::truth::{AGENTS, HOSTS, NAMES, Outcome, Question, Target, operate};
use super::worker;
use crate::api::Answer;
use crate::clock::{self, Monotonic, Now};
use crate::identity::Issuer;
use crate::simulation::{Dice, Seeds, Trace};

mod asking;
mod broker;
mod callers;
mod judge;
mod network;
mod pace;
mod plane;
mod regressions;
mod truth;

const PROVIDERS: [&str; 3] = ["gitlab", "github", "forge"];

/// What lasts for longer than one run.
struct Machine {
    arena: Arena,
    issuer: Arc<Issuer>,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

struct Simulation<'m> {
    machine: &'m Machine,
    dice: Dice,
    trace: &'m mut Trace,
    now: Monotonic,
    max_stale: Duration,
    plane: Plane,
    backup: Option<Backup>,
    /// The database was once taken back.
    went_back: bool,
    broker: Broker,
    /// The session of the broker's connection, and what is still to come on it.
    session: Option<String>,
    lines: VecDeque<Line>,
    /// Frames since the last commit.
    open: usize,
    /// The control plane and the broker stand at this stream's first commit.
    committed: bool,
    acks: VecDeque<(String, u64)>,
    known: Option<Known>,
    seen: judge::Seen,
    pace: Pace,
    waiting: Vec<Waiting>,
    held: Vec<(Bytes, Vec<u8>)>,
    values: u64,
    /// What each value was set for, and the newest that was served of it.
    owners: BTreeMap<u64, Target>,
    newest: BTreeMap<Target, u64>,
    tally: Tally,
}

/// What has happened: a run in which nothing does finds nothing.
#[derive(Default, Debug)]
struct Tally {
    commits: usize,
    changes_of_rules: usize,
    refused_streams: usize,
    values: usize,
    refusals: usize,
    held_back: usize,
    limited: usize,
    promises: u64,
}

impl<'m> Simulation<'m> {
    fn new(seed: u64, machine: &'m Machine, trace: &'m mut Trace, per_second: Option<u32>) -> Self {
        let mut dice = Dice::new(seed);
        let max_stale = Duration::from_secs(dice.pick(&[3, 10, 60, 600]));
        make_late_user(false);
        let broker = Broker::new(machine, max_stale, per_second);
        let mut simulation = Self {
            machine,
            dice,
            trace,
            now: Monotonic::since_boot(Duration::from_secs(1000)),
            max_stale,
            plane: Plane::new(),
            backup: None,
            went_back: false,
            broker,
            session: None,
            lines: VecDeque::new(),
            open: 0,
            committed: false,
            acks: VecDeque::new(),
            known: None,
            seen: judge::Seen::default(),
            pace: Pace::new(per_second),
            waiting: Vec::new(),
            held: Vec::new(),
            values: 0,
            owners: BTreeMap::new(),
            newest: BTreeMap::new(),
            tally: Tally::default(),
        };
        simulation.pass(Duration::ZERO);
        simulation
    }

    fn wall(&self) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()
            + self.now.since(Monotonic::since_boot(Duration::ZERO))
    }

    fn clocks(&self) -> Now {
        Now { mono: self.now, wall: self.wall() }
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        clock::make_up(Some(self.clocks()));
        self.machine.runtime.block_on(tokio::time::advance(time));
    }

    fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..self.dice.below(40) {
            self.operate();
        }
        for _ in 0..steps {
            self.step()?;
            let promised = self.plane.promised;
            self.plane.promise(self.now);
            self.tally.promises += self.plane.promised.saturating_sub(promised);
            self.check()?;
        }
        self.heal()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.below(200) {
            0..24 => self.operate(),
            24..60 => self.pump(),
            60..94 => return self.deliver_some(),
            94..101 => return self.sleep(),
            101..123 => self.connect(),
            123..126 => return self.cut(),
            126 => self.lose_feed(),
            127..132 => {
                let replica = self.dice.below(2);
                self.plane.notice(replica);
            }
            132..142 => self.send_ack(),
            142..150 => self.take_ack(),
            150..154 => self.release(),
            154..156 => self.rare(),
            156..158 => return self.settle(),
            _ => return self.ask(),
        }
        Ok(())
    }

    /// What must hold at each moment.
    fn check(&mut self) -> Result<(), String> {
        if self.seen.is_news(&self.broker, self.known.as_ref()) {
            judge::everything(&self.broker, self.known.as_ref())?;
            judge::rules(&self.broker, self.known.as_ref())?;
        }
        let intact = self.held.iter().all(|(body, copy)| body == copy);
        expect(intact, || "an answer changed while it was being written".to_owned())?;
        drop(self.broker.host.moments());
        if self.open == 0 && self.held.is_empty() && self.waiting.is_empty() {
            judge::memory(&self.machine.arena, self.known.as_ref())?;
        }
        Ok(())
    }

    /// In the end everything works again, and what is served is what was said last.
    fn heal(&mut self) -> Result<(), String> {
        if self.plane.deleted {
            self.disconnect();
            self.pass(self.max_stale + Duration::from_millis(1));
            return self.ask_everything();
        }
        while self.known.as_ref().is_some_and(|known| known.revision >= self.plane.database.revision()) {
            self.operate();
        }
        for _ in 0..4 {
            self.settle()?;
            self.pass(Duration::from_secs(16));
        }
        self.settle()?;
        let (told, said) = (self.known.as_ref().map(|known| known.revision), self.plane.database.revision());
        expect(told == Some(said), || format!("the broker has {told:?}, and not {said}"))?;
        self.pass(Duration::from_secs(11));
        self.poll_waiting(None)?;
        self.held.clear();
        self.check()?;
        self.ask_everything()
    }
}

impl Tally {
    fn add(&mut self, run: &Self) {
        self.commits += run.commits;
        self.changes_of_rules += run.changes_of_rules;
        self.refused_streams += run.refused_streams;
        self.values += run.values;
        self.refusals += run.refusals;
        self.held_back += run.held_back;
        self.limited += run.limited;
        self.promises += run.promises;
    }

    fn is_worth_it(&self, runs: usize) -> bool {
        let promises = usize::try_from(self.promises).unwrap();
        let often = [(self.commits, 5), (self.changes_of_rules, 2), (self.values, 12), (promises, 10)];
        // A few runs may be of another kind.
        runs < 100
            || often.iter().all(|(count, least)| *count > least * runs)
                && self.held_back > runs / 4
                && self.limited > runs
    }
}

impl Machine {
    fn new() -> Self {
        Self {
            arena: Arena::new(false).unwrap(),
            issuer: Arc::new(Issuer::new("lab-1".parse().unwrap()).unwrap()),
            directory: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap(),
        }
    }

    fn log(&self) -> std::path::PathBuf {
        let path: &Path = self.directory.path();
        let log = path.join("audit.jsonl");
        drop(std::fs::remove_file(&log));
        log
    }
}

#[test]
fn no_interleaving_serves_what_is_not_to_be_served() {
    let (seeds, all) = (Seeds::new("no_interleaving", 200), Mutex::new(Tally::default()));
    seeds.share(|| {
        let machine = Machine::new();
        let _context = machine.runtime.enter();
        let run = |seed: u64, trace: &mut Trace| {
            let per_second = Dice::new(!seed).pick(&[None, None, None, Some(1), Some(5), Some(25)]);
            let mut simulation = Simulation::new(seed, &machine, trace, per_second);
            simulation.run(250)?;
            all.lock().unwrap().add(&simulation.tally);
            drop(simulation);
            let used = machine.arena.usage().used_bytes;
            expect(used == 0, || format!("{used} bytes of protected memory are left behind"))?;
            judge::blank(&machine.arena)
        };
        while seeds.run(run) {}
    });
    let (runs, all) = (seeds.count(), all.into_inner().unwrap());
    println!("{runs} runs: {all:?}");
    assert!(all.is_worth_it(runs), "{all:?}");
}
