//! The control plane as an upstream.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dvx_proto::enclave::API_KEY_PREFIX;
use dvx_proto::{ControlAddress, Fingerprint, Secret, without_trace};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::Cause;
use super::reader::{Section, Value};
use super::trust;
use super::values::{self, Kind};

/// How the control plane is reached, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlConfig {
    pub(crate) url: ControlAddress,
    pub(crate) api_key_file: PathBuf,
    pub(crate) api_key: ApiKey,
    /// Where the certificates below are from.
    pub(crate) ca_file: Option<PathBuf>,
    /// Trusted besides those of the system.
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// What an enclave authenticates with.
#[derive(Clone)]
pub(crate) struct ApiKey {
    /// Until it has been moved to where it stays.
    text: Option<Arc<Secret>>,
    fingerprint: Fingerprint,
}

impl ApiKey {
    /// Takes the text of a file; one line end is dropped.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        /// Ours have 48; nothing that is not a key is sent to anybody.
        const MAX_BYTES: usize = 512;
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = line.strip_prefix(API_KEY_PREFIX.as_bytes())?;
        let usable = !rest.is_empty() && line.len() <= MAX_BYTES && line.iter().all(u8::is_ascii_graphic);
        usable.then(|| Self {
            text: Some(Arc::new(Secret::from(line.to_vec()))),
            fingerprint: Fingerprint::of(line),
        })
    }

    /// The key. Empty after [`forget`](Self::forget).
    pub(crate) fn expose_secret(&self) -> &[u8] {
        self.text.as_ref().map(|text| text.expose_secret()).unwrap_or_default()
    }

    /// Keeps no more than is needed to tell it from another one.
    pub(crate) fn forget(&mut self) {
        self.text = None;
    }
}

/// For telling at a reload that it has changed. Both are the operator's own.
impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for ApiKey {}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

/// The keys of this kind of upstream. What their files hold is looked at as well.
pub(super) fn read(section: &mut Section<'_, '_>) -> Option<ControlConfig> {
    let url = section.required("url", Kind::CONTROL, url);
    let key = section.required("api_key_file", Kind::PATH, api_key);
    let ca = section.optional("ca_file", Kind::PATH, certificates);
    let (ca_file, roots) = ca.unzip();
    let (api_key_file, api_key) = key?;
    Some(ControlConfig { url: url?, api_key_file, api_key, ca_file, roots: roots.unwrap_or_default() })
}

fn url(value: &Value<'_, '_>, kind: Kind) -> Result<ControlAddress, Cause> {
    const MAX_SOCKET_BYTES: usize = 107;
    let address: ControlAddress = value.text(kind)?.parse().map_err(|_| value.invalid(kind))?;
    match &address {
        ControlAddress::Unix(path) if path.as_os_str().len() > MAX_SOCKET_BYTES => Err(value.invalid(kind)),
        ControlAddress::Unix(_) | ControlAddress::Https { .. } => Ok(address),
    }
}

fn api_key(value: &Value<'_, '_>, kind: Kind) -> Result<(PathBuf, ApiKey), Cause> {
    let path = values::path(value, kind)?;
    let text = without_trace(|| trust::read_secret(&path))
        .map_err(|cause| Cause::Named { path: path.clone(), cause })?;
    let key = ApiKey::parse(&text).ok_or_else(|| Cause::NotAKey(path.clone()))?;
    Ok((path, key))
}

type Certificates = (PathBuf, Vec<CertificateDer<'static>>);

fn certificates(value: &Value<'_, '_>, kind: Kind) -> Result<Certificates, Cause> {
    let path = values::path(value, kind)?;
    let text = trust::read_config(&path).map_err(|cause| Cause::Named { path: path.clone(), cause })?;
    let roots = parse_certificates(&path, text.as_bytes())?;
    Ok((path, roots))
}

fn parse_certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let unusable = |why: String| Cause::Certificates { path: path.to_owned(), why };
    let roots: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    let mut store = rustls::RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("there is none in it".to_owned())) } else { Ok(roots) }
}
