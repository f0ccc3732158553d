//! The key-encryption key, which is not in the database.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dvx_memory::{Arena, MemoryError, Slot, SlotMut};
use dvx_proto::without_trace;
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::Unreadable;

/// Names a KEK without telling anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KekId(Box<str>);

/// A key-encryption key. The one copy, which clones share, is in protected memory; ciphers get it for one operation.
#[derive(Clone)]
pub struct Kek(Arc<Inner>);

struct Inner {
    id: KekId,
    key: Slot,
    arena: Arena,
}

/// Why a file is not a KEK.
#[derive(Debug, Error)]
pub enum KekError {
    /// It is not there, or cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It belongs to somebody else.
    #[error("{} belongs to uid {owner}; expected root or the user that dvx-control runs as", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may read it, or more than its owner may write it.
    #[error("{} can be read or written by others (mode {mode:04o}); expected at most 0640", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} does not hold a key; expected 32 bytes in base64 on one line", .0.display())]
    Malformed(PathBuf),
    /// There is no memory for it.
    #[error("memory for keys")]
    Memory(#[from] MemoryError),
}

impl Kek {
    const BYTES: usize = 32;
    /// 32 bytes are 44 characters of base64.
    const TEXT_BYTES: usize = 44;
    const FORBIDDEN_MODE: u32 = 0o027;

    /// A new one.
    fn random(arena: &Arena) -> Result<Self, MemoryError> {
        let mut key = arena.allocate(Self::BYTES)?;
        random(key.as_mut());
        Ok(Self::new(key, arena))
    }

    /// A new one, in memory of its own.
    #[cfg(test)]
    pub(crate) fn generate() -> Self {
        Self::random(&Arena::new(false).unwrap()).unwrap()
    }

    fn new(key: SlotMut, arena: &Arena) -> Self {
        let mut id = [0; 16];
        without_trace(|| derive(key.expose_secret(), b"dvx kek id", &mut id));
        let id = KekId(id.iter().map(|byte| format!("{byte:02x}")).collect());
        Self(Arc::new(Inner { id, key: key.freeze(), arena: arena.clone() }))
    }

    /// Reads one from a file that others cannot read.
    pub fn read(path: &Path, arena: &Arena) -> Result<Self, KekError> {
        let failed = |source| KekError::Io { path: path.to_owned(), source };
        // Without O_NONBLOCK a FIFO at the path would hold the start for ever.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC | nix::libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(KekError::NotAFile(path.to_owned()));
        }
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(KekError::Owner { path: path.to_owned(), owner });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & Self::FORBIDDEN_MODE != 0 {
            return Err(KekError::Mode { path: path.to_owned(), mode });
        }
        // Of its final size, so that no copy is left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(Self::TEXT_BYTES + 2));
        file.take(46).read_to_end(&mut text).map_err(failed)?;
        let key = without_trace(|| Self::decode(&text, arena))?;
        key.ok_or_else(|| KekError::Malformed(path.to_owned()))
    }

    fn decode(text: &[u8], arena: &Arena) -> Result<Option<Self>, MemoryError> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // The decoder wants room for what the length of the text could mean.
        let mut key = arena.allocate(Self::BYTES + 3)?;
        if STANDARD.decode_slice(text, key.as_mut()) != Ok(Self::BYTES) {
            return Ok(None);
        }
        key.truncate(Self::BYTES);
        Ok(Some(Self::new(key, arena)))
    }

    /// Makes a new one in a new file, that only its owner may read and that is whole or not there.
    pub fn create(path: &Path, arena: &Arena) -> Result<Self, KekError> {
        let kek = Self::random(arena)?;
        let mut text = Zeroizing::new(String::with_capacity(Self::TEXT_BYTES + 1));
        STANDARD.encode_string(kek.0.key.expose_secret(), &mut text);
        text.push('\n');
        write_new(path, text.as_bytes()).map_err(|source| KekError::Io { path: path.to_owned(), source })?;
        Ok(kek)
    }

    /// Its name.
    pub fn id(&self) -> &KekId {
        &self.0.id
    }

    /// Encrypts: a random nonce, then ciphertext and tag.
    pub(crate) fn encrypt(&self, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        without_trace(|| encrypt(&cipher(self.0.key.expose_secret()), aad, plain))
    }

    pub(crate) fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        without_trace(|| decrypt(&cipher(self.0.key.expose_secret()), aad, sealed))
    }

    /// Protected memory beside this key, for another that comes from it.
    pub(super) fn protect(&self, key: &[u8]) -> Result<SlotMut, MemoryError> {
        let mut slot = self.0.arena.allocate(key.len())?;
        slot.as_mut().copy_from_slice(key);
        Ok(slot)
    }

    /// This one, encrypted under another.
    pub(crate) fn wrapped_under(&self, other: &Self) -> Vec<u8> {
        other.encrypt(&wrapping(self.id()), self.0.key.expose_secret())
    }

    /// Another one, if it is encrypted under this.
    pub(crate) fn unwrap_other(&self, id: &KekId, wrapped: &[u8]) -> Result<Option<Self>, MemoryError> {
        let Ok(bytes) = self.decrypt(&wrapping(id), wrapped) else { return Ok(None) };
        if bytes.len() != Self::BYTES {
            return Ok(None);
        }
        let kek = Self::new(self.protect(&bytes)?, &self.0.arena);
        Ok(Some(kek).filter(|kek| kek.id() == id))
    }

    /// What shows later that a key is this one.
    pub(crate) fn probe(&self) -> Vec<u8> {
        self.encrypt(b"dvx kek probe", b"dvx")
    }

    pub(crate) fn matches(&self, probe: &[u8]) -> bool {
        self.decrypt(b"dvx kek probe", probe).is_ok()
    }
}

fn wrapping(id: &KekId) -> Vec<u8> {
    format!("dvx kek {}", id.as_str()).into_bytes()
}

impl KekId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for KekId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const NONCE_BYTES: usize = 12;

/// For one operation: what the cipher makes of a key begins with the key. It is wiped when it is dropped.
#[expect(
    clippy::expect_used,
    reason = "keys are made with 32 bytes, and nowhere else than in this module's types"
)]
pub(super) fn cipher(key: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new_from_slice(key).expect("a key has 32 bytes")
}

pub(super) fn encrypt(cipher: &Aes256Gcm, aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; NONCE_BYTES];
    random(&mut sealed);
    let nonce: [u8; NONCE_BYTES] = sealed.as_slice().try_into().unwrap_or_default();
    // Fails only for more than 64 GiB.
    let ciphertext = cipher.encrypt(&Nonce::from(nonce), Payload { msg: plain, aad }).unwrap_or_default();
    sealed.extend_from_slice(&ciphertext);
    sealed
}

pub(super) fn decrypt(
    cipher: &Aes256Gcm,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Unreadable)?;
    let plain = cipher.decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad });
    plain.map(Zeroizing::new).map_err(|_| Unreadable)
}

/// Derives a key for one purpose.
pub(crate) fn derive(key: &[u8], purpose: &[u8], out: &mut [u8]) {
    // Fails only for outputs that are longer than 8160 bytes.
    if Hkdf::<Sha256>::new(None, key).expand(purpose, out).is_err() {
        out.fill(0);
    }
}

/// Fills a buffer from getrandom(2).
pub(crate) fn random(buffer: &mut [u8]) {
    let mut rest = buffer;
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => rest = rest.get_mut(length..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // The kernel has no random numbers for us: nothing that is made without them may be used.
            Err(_) => std::process::abort(),
        }
    }
}

/// Writes a file that was not there, for its owner alone, so that it is whole after a crash or not there.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut suffix = [0; 8];
    random(&mut suffix);
    let temporary = directory.join(format!(".kek-{:016x}", u64::from_ne_bytes(suffix)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        // Unlike rename(2), link(2) does not replace what is there.
        std::fs::hard_link(&temporary, path)?;
        std::fs::File::open(directory)?.sync_all()
    })();
    let removed = std::fs::remove_file(&temporary);
    written.and(removed)
}

#[cfg(test)]
mod tests;
