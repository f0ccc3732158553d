//! Whom to trust.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Certificates that cannot be trusted because they are none.
#[derive(Debug, Error)]
pub enum InvalidRoots {
    /// The text is not PEM, or a part of it is damaged.
    #[error("the certificates are not PEM")]
    Pem(#[source] pem::Error),
    /// The text has no certificate.
    #[error("there is no certificate in it")]
    Empty,
    /// TLS cannot be set up with them.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 by ring, HTTP/1.1 only.
pub(super) fn client_config(extra_roots: Option<&[u8]>) -> Result<ClientConfig, InvalidRoots> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "cannot read all certificate authorities of the system");
    }
    // A system's store may have odd certificates; the others are still good.
    let (_, ignored) = roots.add_parsable_certificates(system.certs);
    if ignored > 0 {
        tracing::debug!(ignored, "certificate authorities of the system that cannot be read");
    }
    if let Some(pem) = extra_roots {
        let mut any = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(InvalidRoots::Pem)?)?;
            any = true;
        }
        if !any {
            return Err(InvalidRoots::Empty);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
