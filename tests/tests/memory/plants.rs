//! The values that are planted: which of them are in force, and which have been taken away.

use dvx_tests::{Findings, Hit, Marker, Needles, Place, at_rest, random_alphanumeric, search_memory, within};

use crate::report::Row;

/// How long the parts of a program that tidy up may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The name of what is no secret.
const CANARY: &str = "canary";

/// Values by their names. What replaces one of the same name, removes it.
pub(crate) struct Plants {
    live: Vec<Marker>,
    removed: Vec<Marker>,
    needles: Option<Needles>,
    /// Something that is no secret and lies in the program's memory.
    canary: Marker,
}

impl Plants {
    /// `canary` is no secret, and in memory for as long as the program runs.
    pub(crate) fn new(canary: &str) -> Self {
        let canary = Marker::new(CANARY, canary.as_bytes());
        Self { live: Vec::new(), removed: Vec::new(), needles: None, canary }
    }

    /// A new token.
    pub(crate) fn token(&mut self, name: &str) -> String {
        let random = random_alphanumeric(20);
        self.set(name, &random);
        format!("glpat-{random}")
    }

    /// A new value with something to escape in it.
    pub(crate) fn text(&mut self, name: &str) -> String {
        let text = format!("{}\"\\\n%\u{e9}{}", random_alphanumeric(20), random_alphanumeric(20));
        self.set(name, &text);
        text
    }

    /// A new value of nearly 64 KiB.
    pub(crate) fn large(&mut self, name: &str) -> String {
        let piece = random_alphanumeric(40);
        // All that there is of it are pieces of two of these.
        self.set(name, piece.repeat(2));
        piece.repeat(1500)
    }

    /// A value that somebody else made.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.live.push(Marker::new(name, value.as_ref()));
        self.needles = None;
    }

    /// A value that somebody else made, and whether it is in force now.
    pub(crate) fn note(&mut self, name: &str, value: &str, is_live: bool) {
        let has = |markers: &[Marker]| markers.iter().any(|marker| marker.name() == name);
        if !has(&self.live) && !has(&self.removed) {
            self.set(name, value);
        }
        if !is_live && has(&self.live) {
            self.remove(name);
        }
    }

    /// It is in force no longer.
    pub(crate) fn remove(&mut self, name: &str) {
        let (gone, kept) =
            std::mem::take(&mut self.live).into_iter().partition(|marker| marker.name() == name);
        self.live = kept;
        let gone: Vec<Marker> = gone;
        self.removed.extend(gone);
        self.needles = None;
    }

    /// What lies in a process now.
    pub(crate) fn search(&mut self, pid: u32) -> Findings {
        let mut findings = search_memory(pid, self.needles());
        let found = findings.places.len();
        findings.places.retain(|place| place.hit.marker != CANARY);
        assert!(findings.places.len() < found, "the search finds what is there");
        // What the kernel keeps to itself, and what this is about.
        let known = |line: &String| ["[vvar", "/secretmem"].iter().any(|name| line.contains(name));
        assert!(findings.hidden.iter().all(known), "this could not be read: {:#?}", findings.hidden);
        findings
    }

    /// What of the values lies in a text.
    pub(crate) fn find(&mut self, text: &[u8]) -> Vec<Hit> {
        let mut hits = self.needles().find(text);
        hits.retain(|hit| hit.marker != CANARY);
        hits
    }

    fn needles(&mut self) -> &Needles {
        let markers = self.live.iter().chain(&self.removed).chain([&self.canary]);
        self.needles.get_or_insert_with(|| Needles::new(markers))
    }

    /// Looks through a process that has nothing to do, and says what was found. What the process was still about is
    /// given a moment to end.
    pub(crate) fn look(&mut self, pid: u32, path: &str) -> Row {
        let mut looks = 0;
        let mut findings = None;
        let clean = within(PATIENCE, || {
            at_rest(pid);
            looks += 1;
            let found = findings.insert(self.search(pid));
            found.places.is_empty().then_some(())
        });
        let findings = findings.expect("it was looked at once at least");
        assert_eq!(clean.is_some(), findings.places.is_empty());
        Row { looks, ..self.row(path, findings) }
    }

    /// The row of a table.
    pub(crate) fn row(&self, path: &str, findings: Findings) -> Row {
        let is_live = |place: &&Place| self.live.iter().any(|marker| marker.name() == place.hit.marker);
        let live = findings.places.iter().filter(is_live).count();
        Row {
            path: path.to_owned(),
            live,
            removed: findings.places.len() - live,
            values: (self.live.len(), self.removed.len()),
            bytes: findings.bytes,
            looks: 1,
            places: findings.places,
        }
    }
}
