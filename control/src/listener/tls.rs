//! TLS: certificate and key, and how they are exchanged while connections are served.
//!
//! Clients prove who they are with each request, so there are no client certificates, and a resumed session
//! carries no more than an encryption key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dvx_memory::{Arena, MemoryError};
use dvx_proto::without_trace;
use nix::fcntl::OFlag;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use thiserror::Error;
use zeroize::Zeroizing;

use self::key::ProtectedKey;
use crate::config::TlsFiles;

mod key;

/// A chain of certificates is a few KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

const READABLE_BY_OTHERS: u32 = 0o007;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why there can be no TLS with these files.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    #[error("{} cannot be read", .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is larger than {MAX_FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("the key {} can be read by others (mode {mode:04o}); expected at most 0640: chmod o= it", .path.display())]
    Readable { path: PathBuf, mode: u32 },
    #[error("{} can be written by others (mode {mode:04o}); expected at most 0644: chmod go-w it", .path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} is not a certificate in PEM", .0.display())]
    Certificate(PathBuf, #[source] pem::Error),
    // Not with its cause: that could repeat a piece of the file.
    #[error("{} holds no private key in PEM", .0.display())]
    Key(PathBuf),
    #[error("certificate {} and key {} cannot be used together", .cert.display(), .key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("memory for the key")]
    Memory(#[from] MemoryError),
}

/// What connections are accepted with. The key is in the arena.
pub(crate) fn load(files: &TlsFiles, arena: &Arena) -> Result<Arc<ServerConfig>, TlsError> {
    let pair = |source| TlsError::Pair { cert: files.cert.clone(), key: files.key.clone(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(pair)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(without_trace(|| {
            let chain = certificates(&files.cert)?;
            let key = private_key(&files.key)?;
            // Also looks whether they belong together.
            let read = CertifiedKey::from_der(chain, key.clone_key(), &provider).map_err(pair)?;
            let schemes = provider.signature_verification_algorithms.supported_schemes();
            let key = ProtectedKey::new(&key, read.key.as_ref(), schemes, arena)?;
            Ok::<_, TlsError>(CertifiedKey::new(read.cert, Arc::new(key)))
        })?)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, 0)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|source| TlsError::Certificate(path.to_owned(), source))?;
    if chain.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, READABLE_BY_OTHERS)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Key(path.to_owned()))
}

/// Reads a file that has none of the `forbidden` permissions, and that nobody else can write.
fn read(path: &Path, forbidden: u32) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |error| TlsError::Io(path.to_owned(), error);
    // Without O_NONBLOCK a FIFO at the path would hold the start for ever.
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file: File = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TlsError::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(TlsError::Readable { path: path.to_owned(), mode });
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(TlsError::Writable { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        Ok(text)
    } else {
        Err(TlsError::TooLarge(path.to_owned()))
    }
}

#[cfg(test)]
mod tests;
