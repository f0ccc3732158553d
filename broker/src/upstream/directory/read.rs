//! Reading a source: from the file straight into protected memory, judged by the open handle.

use std::error::Error;
use std::os::fd::OwnedFd;

use dvx_memory::SlotMut;
use dvx_proto::limits::MAX_SECRET_BYTES;
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{Errno, read, retry_on_intr};

use super::facts;
use super::scan::{AgentLook, Scanner};
use super::source::{Bad, FileLook, FileStamp, Outcome, Part, SourceName, Stamp, Value};
use crate::keyring::{Credential, CredentialFacts, SecretEntry, ValueError};

/// Why a file cannot be used.
enum Trouble {
    /// Until it changes.
    Bad(String),
    /// For now.
    Failed(String),
    /// It is not what was seen.
    Changed,
}

const OTHERS: u32 = 0o006;

const ODD: &str = "the name is none of <provider>.token, <provider>.json and secrets/<name>";

impl Scanner {
    /// Reads a source in the state that was seen.
    pub(super) fn read(&self, look: &AgentLook, name: &SourceName, stamp: Stamp) -> Outcome {
        let dir = match name {
            SourceName::Credential(_) => &look.agent_dir,
            SourceName::Secret(_) => &look.secrets_dir,
            SourceName::Odd(_) => return Trouble::Bad(ODD.to_owned()).of(Part::Value),
        };
        let Some(dir) = dir else { return Outcome::Changed };
        self.value(dir, name, stamp).map_or_else(|outcome| outcome, Outcome::Good)
    }

    fn value(&self, dir: &OwnedFd, name: &SourceName, stamp: Stamp) -> Result<Value, Outcome> {
        let text = |part: Part, look: FileLook| {
            self.text(dir, &name.file(part), look).map_err(|trouble| trouble.of(part))
        };
        let unusable = |error: ValueError| Trouble::from(error).of(Part::Value);
        match name {
            SourceName::Credential(provider) => {
                let facts = match stamp.facts {
                    None => CredentialFacts::defaults(provider.clone()),
                    Some(look) => {
                        let text = text(Part::Facts, look)?;
                        facts::parse(provider.clone(), text.expose_secret())
                            .map_err(|why| Trouble::Bad(why).of(Part::Facts))?
                    }
                };
                let text = text(Part::Value, stamp.value)?;
                let credential = Credential::new(facts, text.expose_secret(), &self.arena);
                Ok(Value::Credential(credential.map_err(unusable)?.into()))
            }
            SourceName::Secret(name) => {
                let text = text(Part::Value, stamp.value)?;
                let secret = SecretEntry::new(name.clone(), text.expose_secret(), &self.arena);
                Ok(Value::Secret(secret.map_err(unusable)?.into()))
            }
            SourceName::Odd(_) => Err(Trouble::Bad(ODD.to_owned()).of(Part::Value)),
        }
    }

    /// The text of a file, if it is in the state that was seen from before the reading until after it.
    fn text(&self, dir: &OwnedFd, name: &str, look: FileLook) -> Result<SlotMut, Trouble> {
        let stamp = look?;
        // Opening a device or a FIFO can do things to it, so that is judged by the look already.
        self.check(stamp)?;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::empty())?;
        let unchanged = || fs::fstat(&file).map(|stat| FileStamp::of(&stat) == stamp);
        let size = usize::try_from(stamp.size).unwrap_or(usize::MAX);
        if !unchanged()? {
            return Err(Trouble::Changed);
        }
        // With room for one byte more, so that a file that has grown is noticed.
        let mut slot = self.arena.allocate(size.saturating_add(1)).map_err(ValueError::from)?;
        if fill(&file, slot.as_mut())? != size || !unchanged()? {
            return Err(Trouble::Changed);
        }
        slot.truncate(size);
        Ok(slot)
    }

    fn check(&self, stamp: FileStamp) -> Result<(), Trouble> {
        let mode = stamp.mode & 0o7777;
        let why = if FileType::from_raw_mode(stamp.mode) != FileType::RegularFile {
            "not a regular file".to_owned()
        } else if mode & OTHERS & !self.allow_mode != 0 {
            format!(
                "other users may read or write it (mode {mode:04o}); expected {:04o} or less",
                mode & !OTHERS | mode & self.allow_mode
            )
        } else if stamp.size == 0 {
            "the file is empty".to_owned()
        } else if usize::try_from(stamp.size).map_or(true, |size| size > MAX_SECRET_BYTES) {
            format!("the file has {} bytes; expected at most {MAX_SECRET_BYTES}", stamp.size)
        } else {
            return Ok(());
        };
        Err(Trouble::Bad(why))
    }
}

/// Reads to the end of the file or of the memory.
fn fill(file: &OwnedFd, mut memory: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    loop {
        let count = retry_on_intr(|| read(file, &mut *memory))?;
        length += count;
        match memory.get_mut(count..) {
            Some(rest) if count > 0 && !rest.is_empty() => memory = rest,
            _ => return Ok(length),
        }
    }
}

impl Trouble {
    fn of(self, part: Part) -> Outcome {
        match self {
            Self::Bad(why) => Outcome::Bad(Bad { part, why }),
            Self::Failed(why) => Outcome::Failed(Bad { part, why }),
            Self::Changed => Outcome::Changed,
        }
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        if error == Errno::NOENT { Self::Changed } else { Self::Failed(error.to_string()) }
    }
}

impl From<ValueError> for Trouble {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Token(_) | ValueError::NotText | ValueError::TooLong => Self::Bad(error.to_string()),
            ValueError::Memory(error) => Self::Failed(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }
}
