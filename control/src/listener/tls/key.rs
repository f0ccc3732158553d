//! The private key of the certificate: in protected memory, and in the library's for one signature at a time.

use std::fmt;
use std::sync::Arc;

use dvx_memory::{Arena, MemoryError, Slot};
use dvx_proto::without_trace;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// A key as the library would hold it, but for where it lies. With each signature the library reads it anew, which
/// costs a tenth of a handshake for keys on P-256 and less for RSA.
pub(super) struct ProtectedKey {
    text: Arc<Text>,
    algorithm: SignatureAlgorithm,
    /// Those that the key can be used with, the best first.
    schemes: Vec<SignatureScheme>,
}

/// The key's text.
struct Text {
    der: Slot,
    form: Form,
}

/// How a private key is written down.
#[derive(Clone, Copy)]
enum Form {
    Pkcs1,
    Sec1,
    Pkcs8,
}

/// One signature to come.
struct Pending {
    text: Arc<Text>,
    scheme: SignatureScheme,
}

impl ProtectedKey {
    /// Takes over a key that the library has read. `known` are the schemes that there are.
    pub(super) fn new(
        der: &PrivateKeyDer<'_>,
        read: &dyn SigningKey,
        known: Vec<SignatureScheme>,
        arena: &Arena,
    ) -> Result<Self, MemoryError> {
        let form = match der {
            PrivateKeyDer::Pkcs1(_) => Form::Pkcs1,
            PrivateKeyDer::Sec1(_) => Form::Sec1,
            _ => Form::Pkcs8,
        };
        let mut slot = arena.allocate(der.secret_der().len())?;
        slot.as_mut().copy_from_slice(der.secret_der());
        let schemes = known.into_iter().filter(|scheme| read.choose_scheme(&[*scheme]).is_some()).collect();
        let text = Arc::new(Text { der: slot.freeze(), form });
        Ok(Self { text, algorithm: read.algorithm(), schemes })
    }
}

impl SigningKey for ProtectedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(Pending { text: Arc::clone(&self.text), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl Text {
    fn der(&self) -> PrivateKeyDer<'_> {
        let der = self.der.expose_secret();
        match self.form {
            Form::Pkcs1 => PrivatePkcs1KeyDer::from(der).into(),
            Form::Sec1 => PrivateSec1KeyDer::from(der).into(),
            Form::Pkcs8 => PrivatePkcs8KeyDer::from(der).into(),
        }
    }
}

impl Signer for Pending {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        without_trace(|| {
            let key = any_supported_type(&self.text.der())?;
            // It was there when the key was loaded.
            let signer = key.choose_scheme(&[self.scheme]);
            signer.ok_or_else(|| Error::General("no signer for the key".to_owned()))?.sign(message)
        })
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for ProtectedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}
