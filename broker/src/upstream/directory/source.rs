//! One source of a value, such as a token's file with the JSON beside it, from one look to the next. Pure: what
//! was seen and what was read come in, what to do and what to serve come out.

use std::sync::Arc;
use std::time::Duration;

use dvx_proto::{Fingerprint, ProviderName, SecretName};

use crate::clock::{Monotonic, Now};
use crate::keyring::{Credential, SecretEntry};

/// A file, or a pair of files, of an agent's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SourceName {
    /// `<provider>.token`, maybe with `<provider>.json`.
    Credential(ProviderName),
    /// `secrets/<name>`.
    Secret(SecretName),
    /// A file of another name, which nothing can come of.
    Odd(Box<str>),
}

/// What tells one state of a file from another without reading it. The kernel sets the time of the change
/// (ctime), so nobody can make a changed file look like the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: i64,
    pub(super) mode: u32,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

/// A file, as far as it could be looked at.
pub(super) type FileLook = Result<FileStamp, rustix::io::Errno>;

/// What tells one state of a source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The file with the value.
    pub(super) value: FileLook,
    /// The JSON beside it.
    pub(super) facts: Option<FileLook>,
}

/// What a source gives.
#[derive(Clone)]
pub(super) enum Value {
    Credential(Arc<Credential>),
    Secret(Arc<SecretEntry>),
}

/// A file that cannot be used, and why. Never its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) part: Part,
    pub(super) why: String,
}

/// One of the files of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Value,
    Facts,
}

/// What came of reading a source.
pub(super) enum Outcome {
    Good(Value),
    /// It stays bad until its stamp changes.
    Bad(Bad),
    /// It may be good the next time although its stamp is the same.
    Failed(Bad),
    /// It changed meanwhile.
    Changed,
}

/// What is to be done about a source after a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    Read,
    Remove,
}

/// A source and what is served from it.
pub(super) struct Source {
    /// What is served: the last good value, marked as frozen while the source is bad.
    value: Option<Value>,
    /// Why the state taken last is bad, if it is.
    bad: Option<Bad>,
    /// The state that `value` or `bad` is from; nothing before the first reading.
    taken: Option<Stamp>,
    /// The last look that found it good.
    good_at: Monotonic,
    /// Another state, not taken yet.
    pending: Option<Pending>,
    /// When to read it again although its stamp is the same.
    again_at: Option<Monotonic>,
}

#[derive(Clone, Copy)]
struct Pending {
    /// Nothing where the source is gone.
    stamp: Option<Stamp>,
    since: Monotonic,
    changing_since: Monotonic,
    restless: bool,
}

/// A new state counts when it has stood this long: who writes a file in place makes it empty first, and who
/// replaces it by hand removes it first.
pub(super) const SETTLE: Duration = Duration::from_millis(150);

/// A source that has not stood still for this long is bad.
const RESTLESS: Duration = Duration::from_secs(1);

/// When to try again what failed for a reason that its stamp does not show, such as a lack of memory.
const RETRY: Duration = Duration::from_secs(1);

/// File systems stamp with clocks that tick at worst every two seconds (FAT): a file that was changed so
/// recently can change again without a new stamp.
const YOUNG: Duration = Duration::from_secs(2);

impl Source {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { value: None, bad: None, taken: None, good_at: now, pending: None, again_at: None }
    }

    /// What is served.
    pub(super) fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// Why it is bad, if it is.
    pub(super) fn bad(&self) -> Option<(Part, &str)> {
        match (&self.pending, &self.bad) {
            (_, Some(bad)) => Some((bad.part, &bad.why)),
            (Some(Pending { restless: true, .. }), None) => Some((Part::Value, "it does not stop changing")),
            (_, None) => None,
        }
    }

    /// Takes note of a look. With `at_once` nothing has to settle: nothing is there yet that could be kept.
    pub(super) fn look(&mut self, stamp: Option<Stamp>, now: Monotonic, at_once: bool) -> Step {
        if stamp == self.taken {
            self.pending = None;
            if self.bad.is_none() {
                self.good_at = now;
            }
            return match stamp {
                None => Step::Remove,
                Some(_) if self.again_at.is_some_and(|at| at <= now) => Step::Read,
                Some(_) => Step::Keep,
            };
        }
        let changing_since = self.pending.map_or(now, |pending| pending.changing_since);
        let since = match self.pending {
            Some(pending) if pending.stamp == stamp => pending.since,
            _ => now,
        };
        let settled = at_once || now.since(since) >= SETTLE;
        let restless = !settled && now.since(changing_since) > RESTLESS;
        self.pending = Some(Pending { stamp, since, changing_since, restless });
        match stamp {
            _ if !settled => Step::Keep,
            Some(_) => Step::Read,
            None => Step::Remove,
        }
    }

    /// Takes in what came of [`Step::Read`]. Returns whether another value is served now.
    pub(super) fn read(&mut self, stamp: Stamp, outcome: Outcome, now: Now) -> bool {
        match outcome {
            Outcome::Changed => {
                // The next look sees another stamp, or this one has to settle once more.
                if let Some(pending) = &mut self.pending {
                    pending.since = now.mono;
                }
                false
            }
            Outcome::Failed(bad) => {
                self.take(stamp, Some(bad), now);
                self.again_at = Some(now.mono + RETRY);
                false
            }
            Outcome::Bad(bad) => {
                self.take(stamp, Some(bad), now);
                false
            }
            Outcome::Good(value) => {
                self.take(stamp, None, now);
                self.good_at = now.mono;
                let same = self.value.as_ref().is_some_and(|old| old.same_as(&value));
                if !same {
                    self.value = Some(value);
                }
                !same
            }
        }
    }

    fn take(&mut self, stamp: Stamp, bad: Option<Bad>, now: Now) {
        // What has settled is old enough for the next change to get another stamp, and so is a second reading.
        let settled = self.pending.is_some_and(|pending| now.mono.since(pending.since) >= SETTLE);
        let once_more = !settled && self.again_at.is_none() && stamp.is_young(now);
        self.again_at = once_more.then(|| now.mono + SETTLE);
        self.taken = Some(stamp);
        self.pending = None;
        self.bad = bad;
    }

    /// Marks the value as frozen, or no longer. Returns whether that was news.
    pub(super) fn mark(&mut self, unreadable: bool) -> bool {
        let frozen = unreadable || self.bad().is_some();
        let Some(value) = &self.value else { return false };
        if frozen == value.is_frozen() {
            return false;
        }
        self.value = Some(value.marked(frozen.then_some(self.good_at)));
        true
    }

    /// When to look again, where that is sooner than usual.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.pending.map_or(self.again_at, |pending| Some(pending.since + SETTLE))
    }
}

impl Stamp {
    fn is_young(&self, now: Now) -> bool {
        let wall = now.wall.as_nanosecond();
        let young = |look: FileLook| {
            look.is_ok_and(|file| {
                file.changed_ns.max(file.modified_ns) > wall - YOUNG.as_nanos().cast_signed()
            })
        };
        young(self.value) || self.facts.is_some_and(young)
    }
}

impl Value {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Credential(credential) => credential.fingerprint,
            Self::Secret(secret) => secret.fingerprint,
        }
    }

    fn is_frozen(&self) -> bool {
        match self {
            Self::Credential(credential) => credential.frozen_since.is_some(),
            Self::Secret(secret) => secret.frozen_since.is_some(),
        }
    }

    fn marked(&self, frozen_since: Option<Monotonic>) -> Self {
        match self {
            Self::Credential(credential) => Self::Credential(Arc::new(credential.marked(frozen_since))),
            Self::Secret(secret) => Self::Secret(Arc::new(secret.marked(frozen_since))),
        }
    }

    /// Whether both are served alike, freezing aside.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Credential(this), Self::Credential(other)) => this.same_as(other),
            (Self::Secret(this), Self::Secret(other)) => this.same_as(other),
            (Self::Credential(_), Self::Secret(_)) | (Self::Secret(_), Self::Credential(_)) => false,
        }
    }
}
