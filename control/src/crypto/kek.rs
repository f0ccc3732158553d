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
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::Unreadable;

/// Names a KEK without telling anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KekId(Box<str>);

/// A key-encryption key. Clones share the one copy in memory.
#[derive(Clone)]
pub struct Kek(Arc<Inner>);

struct Inner {
    id: KekId,
    key: Zeroizing<[u8; Kek::BYTES]>,
    cipher: Aes256Gcm,
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
}

impl Kek {
    const BYTES: usize = 32;
    /// 32 bytes are 44 characters of base64.
    const TEXT_BYTES: usize = 44;
    const FORBIDDEN_MODE: u32 = 0o027;

    /// A new one.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; Self::BYTES]);
        random(key.as_mut_slice());
        Self::new(key)
    }

    fn new(key: Zeroizing<[u8; Self::BYTES]>) -> Self {
        let mut id = [0; 16];
        derive(key.as_slice(), b"dvx kek id", &mut id);
        let id = KekId(id.iter().map(|byte| format!("{byte:02x}")).collect());
        let cipher = Aes256Gcm::new((&*key).into());
        Self(Arc::new(Inner { id, key, cipher }))
    }

    /// Reads one from a file that others cannot read.
    pub fn read(path: &Path) -> Result<Self, KekError> {
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
        Self::decode(&text).ok_or_else(|| KekError::Malformed(path.to_owned()))
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut key = Zeroizing::new([0; Self::BYTES]);
        // The decoder wants room for what the length of the text could mean.
        let mut room = Zeroizing::new([0; Self::BYTES + 3]);
        let length = STANDARD.decode_slice(text, room.as_mut_slice()).ok()?;
        key.copy_from_slice(room.get(..length).filter(|bytes| bytes.len() == Self::BYTES)?);
        Some(Self::new(key))
    }

    /// Makes a new one in a new file, that only its owner may read and that is whole or not there.
    pub fn create(path: &Path) -> Result<Self, KekError> {
        let kek = Self::generate();
        let mut text = Zeroizing::new(String::with_capacity(Self::TEXT_BYTES + 1));
        STANDARD.encode_string(kek.0.key.as_slice(), &mut text);
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
        encrypt(&self.0.cipher, aad, plain)
    }

    pub(crate) fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        decrypt(&self.0.cipher, aad, sealed)
    }

    /// This one, encrypted under another.
    pub(crate) fn wrapped_under(&self, other: &Self) -> Vec<u8> {
        other.encrypt(&wrapping(self.id()), self.0.key.as_slice())
    }

    /// Another one, which is encrypted under this.
    pub(crate) fn unwrap_other(&self, id: &KekId, wrapped: &[u8]) -> Result<Self, Unreadable> {
        let bytes = self.decrypt(&wrapping(id), wrapped)?;
        let mut key = Zeroizing::new([0; Self::BYTES]);
        key.copy_from_slice(
            Some(bytes.as_slice()).filter(|bytes| bytes.len() == Self::BYTES).ok_or(Unreadable)?,
        );
        let kek = Self::new(key);
        if kek.id() == id { Ok(kek) } else { Err(Unreadable) }
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
