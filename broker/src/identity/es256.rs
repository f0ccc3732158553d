//! ES256 for `jsonwebtoken`, over `p256`, and nothing else: a token with another algorithm finds no code.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result as JwtResult, new_error};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey, signature};
use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;
use zeroize::Zeroizing;

/// A key pair of this process.
pub(super) struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// No key could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum KeyError {
    #[error("the kernel gives no random bytes: {0}")]
    Random(#[from] rustix::io::Errno),
    #[error("the random bytes make no key")]
    Unusable,
}

impl Keys {
    pub(super) fn new() -> Result<Self, KeyError> {
        if PROVIDER.install_default().is_err() {
            // It is there already: a process can set it once, and this is the only place that does.
        }
        // All but one in 2^32 numbers are keys.
        for _ in 0..8 {
            let scalar = Zeroizing::new(random::<32>()?);
            if let Ok(key) = SigningKey::from_slice(&*scalar) {
                let public = key.verifying_key().to_sec1_point(false);
                return Ok(Self {
                    // What the bytes mean is between these lines and the provider below.
                    signing: EncodingKey::from_ec_der(&*scalar),
                    verifying: DecodingKey::from_ec_der(public.as_bytes()),
                });
            }
        }
        Err(KeyError::Unusable)
    }

    pub(super) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    pub(super) fn verifying(&self) -> &DecodingKey {
        &self.verifying
    }

    #[cfg(test)]
    pub(super) fn copy(&self) -> Self {
        Self { signing: self.signing.clone(), verifying: self.verifying.clone() }
    }
}

/// A name that nothing else has: 128 random bits.
pub(super) fn random_name() -> Result<String, KeyError> {
    Ok(format!("{:032x}", u128::from_ne_bytes(random()?)))
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole (getrandom(2)); one that was interrupted before its first is asked again.
    let filled = rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    if filled == N { Ok(bytes) } else { Err(KeyError::Unusable) }
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        require_es256(algorithm)?;
        let key = SigningKey::from_slice(key.as_bytes()).map_err(|_| bad_key())?;
        Ok(Box::new(Es256(key)))
    },
    verifier_factory: |algorithm, key| {
        require_es256(algorithm)?;
        let key = VerifyingKey::from_sec1_bytes(key.try_get_as_bytes()?).map_err(|_| bad_key())?;
        Ok(Box::new(Es256(key)))
    },
    // Of use for JWK only.
    key_utils: KeyUtils::new_unimplemented(),
};

struct Es256<K>(K);

impl Signer<Vec<u8>> for Es256<SigningKey> {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let made: Result<Signature, _> = signature::Signer::try_sign(&self.0, message);
        Ok(made.map_err(|_| SignatureError::new())?.to_vec())
    }
}

impl Verifier<Vec<u8>> for Es256<VerifyingKey> {
    fn verify(&self, message: &[u8], made: &Vec<u8>) -> Result<(), SignatureError> {
        let made = Signature::from_slice(made).map_err(|_| SignatureError::new())?;
        signature::Verifier::verify(&self.0, message, &made).map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for Es256<SigningKey> {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

impl JwtVerifier for Es256<VerifyingKey> {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

fn require_es256(algorithm: &Algorithm) -> JwtResult<()> {
    if *algorithm == Algorithm::ES256 { Ok(()) } else { Err(new_error(ErrorKind::UnsupportedAlgorithm)) }
}

fn bad_key() -> Error {
    new_error(ErrorKind::InvalidEcdsaKey)
}
