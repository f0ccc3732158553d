//! Writers of all manners at real directories, and a worker that looks at them on a clock of its own.
//!
//! Every text that is ever written has a number of its own, so what is served says which writing it is from. Two
//! writings that follow each other differ in length: between looks no real time passes, and a file system's own
//! clock would not tell them apart.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::worker::Worker;
use super::*;
use crate::clock::{Monotonic, Now};
use crate::simulation::{Dice, Seeds, Trace};

/// What an agent has: of `volume` all files change together, as Kubernetes does it.
const AGENTS: [&str; 2] = ["plain", "volume"];
const FILES: [&str; 4] = ["gitlab.token", "forge.token", "secrets/KEY", "secrets/OTHER"];

/// A change that was seen by one look is served by a look that comes this much later.
const SETTLED: Duration = Duration::from_millis(150);

struct Simulation<'t> {
    dice: Dice,
    trace: &'t mut Trace,
    directory: tempfile::TempDir,
    keyring: Arc<Keyring>,
    arena: Arena,
    worker: Worker,
    now: Monotonic,
    number: u64,
    files: BTreeMap<(&'static str, &'static str), File>,
    /// The generation of the volume.
    generation: u64,
    /// Where the root is away, or open to everybody.
    root: Trouble,
    /// Since when nothing at all has been confirmed.
    confirmed: Monotonic,
}

/// What is true of one file.
struct File {
    is: Content,
    /// The last look that found it otherwise, and the first one after that.
    changed: Monotonic,
    seen: Option<Monotonic>,
    /// What was written whole, ever.
    written: Vec<u64>,
    served: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Nothing,
    Good(u64),
    /// Half of this is there. The other half follows before it could be mistaken for the whole.
    Half(u64),
    Bad,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    None,
    Away,
    Open,
}

fn text(number: u64) -> String {
    format!("glpat-{number}-{}", "x".repeat(10 + usize::try_from(number % 89).unwrap()))
}

fn number_in(text: &str) -> Option<u64> {
    let number = text.strip_prefix("glpat-")?.split('-').next()?.parse().ok()?;
    (self::text(number) == text).then_some(number)
}

impl<'t> Simulation<'t> {
    fn new(seed: u64, arena: &Arena, trace: &'t mut Trace) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for agent in AGENTS {
            fs::create_dir_all(directory.path().join("root").join(agent).join("secrets")).unwrap();
        }
        let keyring = Arc::new(Keyring::new());
        let settings = DirectorySettings {
            path: directory.path().join("root"),
            allow_mode: None,
            agents: AGENTS.map(|name| name.parse().unwrap()).into(),
        };
        let worker = Worker::new(settings, keyring.clone(), arena.clone());
        let now = Monotonic::since_boot(Duration::from_secs(1000));
        let file = |agent, name| {
            let nothing = Content::Nothing;
            ((agent, name), File { is: nothing, changed: now, seen: None, written: Vec::new(), served: None })
        };
        let files = AGENTS.iter().flat_map(|agent| FILES.iter().map(move |name| file(*agent, *name)));
        Self {
            dice: Dice::new(seed),
            trace,
            directory,
            keyring,
            arena: arena.clone(),
            worker,
            now,
            number: 0,
            files: files.collect(),
            generation: 0,
            root: Trouble::None,
            confirmed: now,
        }
    }

    fn path(&self, agent: &str, name: &str) -> PathBuf {
        let root = if self.root == Trouble::Away { "away" } else { "root" };
        self.directory.path().join(root).join(agent).join(name)
    }

    fn run(&mut self, steps: usize) -> Result<(), String> {
        self.look(0)?;
        for _ in 0..steps {
            match self.dice.below(16) {
                0..6 => self.write(),
                6..8 => self.publish(),
                8 => self.trouble(),
                _ => {
                    let milliseconds = self.dice.pick(&[1, 50, 100, 149, 150, 500, 500, 3000]);
                    self.look(milliseconds)?;
                }
            }
        }
        self.heal()
    }

    /// Somebody does something to one file of the plain agent.
    fn write(&mut self) {
        let name = self.dice.pick(&FILES);
        let path = self.path("plain", name);
        self.number += 1;
        let number = self.number;
        let content = match self.dice.below(10) {
            0..4 => {
                put(&path, text(number));
                Content::Good(number)
            }
            4..6 => {
                in_place(&path, &text(number));
                Content::Good(number)
            }
            6 => {
                in_place(&path, &text(number)[..12]);
                Content::Half(number)
            }
            7 => {
                drop(fs::remove_file(&path));
                Content::Nothing
            }
            8 if path.exists() => {
                fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
                Content::Bad
            }
            _ => {
                // No text, so neither a token nor a secret; not always of one length.
                put(&path, vec![0xff; 20 + usize::try_from(number % 7).unwrap()]);
                Content::Bad
            }
        };
        self.is("plain", name, content);
    }

    fn is(&mut self, agent: &'static str, name: &'static str, content: Content) {
        self.trace.note(format!("{agent}/{name} is {content:?}"));
        let file = self.files.get_mut(&(agent, name)).unwrap();
        file.is = content;
        (file.changed, file.seen) = (self.now, None);
        if let Content::Good(number) = content {
            file.written.push(number);
        }
    }

    /// The volume gets a new generation.
    fn publish(&mut self) {
        self.generation += 1;
        let (volume, name) = (self.path("volume", ""), format!("..generation-{}", self.generation));
        let mut contents = Vec::new();
        fs::create_dir_all(volume.join(&name).join("secrets")).unwrap();
        for file in FILES {
            self.number += 1;
            let content = if self.dice.percent(80) { Content::Good(self.number) } else { Content::Nothing };
            if let Content::Good(number) = content {
                in_place(&volume.join(&name).join(file), &text(number));
            }
            contents.push((file, content));
        }
        symlink(&name, volume.join("..tmp")).unwrap();
        fs::rename(volume.join("..tmp"), volume.join("..data")).unwrap();
        for visible in ["gitlab.token", "forge.token", "secrets"] {
            if self.generation == 1 {
                let place = volume.join(visible);
                drop(fs::remove_dir(&place));
                symlink(Path::new("..data").join(visible), place).unwrap();
            }
        }
        if self.generation > 1 {
            fs::remove_dir_all(volume.join(format!("..generation-{}", self.generation - 1))).unwrap();
        }
        contents.into_iter().for_each(|(name, content)| self.is("volume", name, content));
    }

    /// The root goes away, is opened to everybody, or is as it was again.
    fn trouble(&mut self) {
        let (root, away) = (self.directory.path().join("root"), self.directory.path().join("away"));
        match self.root {
            Trouble::Away => fs::rename(away, root).unwrap(),
            Trouble::Open => fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap(),
            Trouble::None if self.dice.percent(50) => {
                fs::rename(root, away).unwrap();
                self.root = Trouble::Away;
                return;
            }
            Trouble::None => {
                fs::set_permissions(root, Permissions::from_mode(0o777)).unwrap();
                self.root = Trouble::Open;
                return;
            }
        }
        self.root = Trouble::None;
    }

    /// Half a file never stands for long.
    fn finish_halves(&mut self) {
        let half = |((agent, name), file): (&(&'static str, &'static str), &File)| match file.is {
            Content::Half(number) => Some((*agent, *name, number)),
            Content::Nothing | Content::Good(_) | Content::Bad => None,
        };
        let halves: Vec<_> = self.files.iter().filter_map(half).collect();
        for (agent, name, number) in halves {
            in_place(&self.path(agent, name), &text(number));
            self.is(agent, name, Content::Good(number));
        }
    }

    fn look(&mut self, milliseconds: u64) -> Result<(), String> {
        let since_half = |file: &File| matches!(file.is, Content::Half(_)) && file.seen.is_some();
        if self.files.values().any(since_half) {
            self.finish_halves();
        }
        self.now = self.now + Duration::from_millis(milliseconds);
        self.worker.look(Now { mono: self.now, wall: clock::wall() });
        self.trace.note(format!("a look after {milliseconds} ms, the root is {:?}", self.root));
        if self.root == Trouble::None {
            self.confirmed = self.now;
            for file in self.files.values_mut().filter(|file| file.seen.is_none()) {
                file.seen = Some(self.now);
            }
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), String> {
        let view = self.keyring.load();
        for ((agent, name), file) in &mut self.files {
            let entry = &view.snapshot.agents[*agent];
            let (body, frozen) = match name.strip_prefix("secrets/") {
                Some(secret) => {
                    let entry = entry.secrets.get(secret);
                    (entry.map(|entry| entry.body.clone()), entry.and_then(|entry| entry.frozen_since))
                }
                None => {
                    let entry = entry.credentials.get(name.trim_end_matches(".token"));
                    (entry.map(|entry| entry.body.clone()), entry.and_then(|entry| entry.frozen_since))
                }
            };
            let fail = |what: String| Err(format!("{agent}/{name} is {:?}: {what}", file.is));
            let served = match body {
                None => None,
                Some(body) => {
                    let body: serde_json::Value = serde_json::from_slice(body.expose_secret()).unwrap();
                    let text = body.get("token").or_else(|| body.get("value")).unwrap().as_str().unwrap();
                    let number = number_in(text).filter(|number| file.written.contains(number));
                    match number {
                        Some(number) => Some(number),
                        None => return fail(format!("{text:?} is served, which was never written whole")),
                    }
                }
            };
            if served < file.served && served.is_some() {
                return fail(format!("{served:?} is served after {:?}", file.served));
            }
            let settled =
                self.root == Trouble::None && file.seen.is_some_and(|seen| self.now.since(seen) >= SETTLED);
            let expected = match file.is {
                Content::Good(number) => Some(number),
                Content::Nothing => None,
                Content::Half(_) | Content::Bad => file.served,
            };
            if settled && served != expected {
                return fail(format!("{served:?} is served, not {expected:?}"));
            }
            let is_good = matches!(file.is, Content::Good(_));
            if settled && served.is_some() && is_good == frozen.is_some() {
                return fail(format!("frozen since {frozen:?}"));
            }
            // Frozen since a look at which it was good, or it would be served as fresh when it is not.
            if frozen.is_some_and(|since| since > file.changed && !is_good) {
                return fail(format!("frozen since {frozen:?}, though bad since {:?}", file.changed));
            }
            file.served = served.or(file.served.filter(|_| file.is != Content::Nothing));
        }
        if view.confirmed() != Some(self.confirmed) {
            return Err(format!("confirmed at {:?}, not {:?}", view.confirmed(), self.confirmed));
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        if self.root != Trouble::None {
            self.trouble();
        }
        self.finish_halves();
        for milliseconds in [0, 150, 500] {
            self.look(milliseconds)?;
        }
        let served = |view: &crate::keyring::Snapshot| -> usize {
            view.agents.values().map(|entry| entry.credentials.len() + entry.secrets.len()).sum()
        };
        // What is served is in memory once, and nothing else is.
        let view = self.keyring.load().snapshot.clone();
        let bodies = |slot: &dvx_memory::Slot| slot.expose_secret().len().next_multiple_of(64);
        let credentials = view.agents.values().flat_map(|entry| entry.credentials.values());
        let secrets = view.agents.values().flat_map(|entry| entry.secrets.values());
        let expected = credentials.map(|it| bodies(&it.body) + bodies(&it.git_body)).sum::<usize>()
            + secrets.map(|it| bodies(&it.body)).sum::<usize>();
        let used = self.arena.usage().used_bytes;
        if used != expected {
            return Err(format!(
                "{used} bytes of protected memory for {} values, not {expected}",
                served(&view)
            ));
        }
        Ok(())
    }
}

/// Replaces a file at once, as a careful writer does.
fn put(path: &Path, text: impl AsRef<[u8]>) {
    let temporary = path.with_file_name(".temporary");
    fs::write(&temporary, text).unwrap();
    fs::set_permissions(&temporary, Permissions::from_mode(0o640)).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// Writes in place, as a careless one does.
fn in_place(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn whoever_writes_how_ever_what_is_served_was_written_whole_and_is_the_newest() {
    let seeds = Seeds::new("whoever_writes", 100);
    seeds.share(|| {
        let arena = Arena::new(false).unwrap();
        let run = |seed: u64, trace: &mut Trace| {
            let mut simulation = Simulation::new(seed, &arena, trace);
            simulation.run(150)?;
            drop(simulation);
            let used = arena.usage().used_bytes;
            if used == 0 { Ok(()) } else { Err(format!("{used} bytes of protected memory are left behind")) }
        };
        while seeds.run(run) {}
    });
}
