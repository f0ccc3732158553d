//! Values sealed for one broker: the sending side of a stream's HPKE context (RFC 9180).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dvx_proto::enclave::SEAL_INFO;
use dvx_proto::without_trace;
use hpke::aead::{AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why nothing is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SealError {
    /// Not 32 bytes in base64url, or a point that agrees on the same secret with everybody.
    #[error("not an X25519 public key; expected 32 bytes in base64url without padding")]
    PublicKey,
    /// A context numbers its messages, and has no more numbers.
    #[error("the stream has used up its sealing context")]
    Exhausted,
}

/// A broker's public key, made for one connection.
pub(crate) struct PublicKey {
    key: <X25519HkdfSha256 as Kem>::PublicKey,
    session: String,
}

impl PublicKey {
    /// Reads the value of the header.
    pub(crate) fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::PublicKey)?;
        let key = Deserializable::from_bytes(&bytes).map_err(|_| SealError::PublicKey)?;
        let session = URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
        Ok(Self { key, session })
    }

    /// Names the connection: the hash of the key, since that is made for it.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }
}

/// The context of one stream. Each value is its next message, so a receiver notices one that is left out,
/// repeated or exchanged.
pub(crate) struct Sealer {
    context: AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>,
    encapsulated_key: String,
}

impl Sealer {
    /// Begins a context that only the owner of the key can follow.
    pub(crate) fn new(key: &PublicKey) -> Result<Self, SealError> {
        let (encapsulated, context) = hpke::setup_sender(&OpModeS::Base, &key.key, SEAL_INFO)
            // The only error: the key is a point of small order.
            .map_err(|_| SealError::PublicKey)?;
        Ok(Self { context, encapsulated_key: URL_SAFE_NO_PAD.encode(encapsulated.to_bytes()) })
    }

    /// What the receiver needs to follow.
    pub(crate) fn encapsulated_key(&self) -> &str {
        &self.encapsulated_key
    }

    /// The next message: ciphertext and tag in base64url.
    pub(crate) fn seal(&mut self, value: &[u8], aad: &[u8]) -> Result<String, SealError> {
        let sealed = without_trace(|| self.context.seal(value, aad)).map_err(|_| SealError::Exhausted)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }
}

#[cfg(test)]
mod tests {
    use hpke::OpModeR;

    use super::*;

    type Opener = hpke::aead::AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>;

    fn pair() -> (Sealer, Opener) {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        let key = PublicKey::parse(&URL_SAFE_NO_PAD.encode(public.to_bytes())).unwrap();
        let sealer = Sealer::new(&key).unwrap();
        let encapsulated = URL_SAFE_NO_PAD.decode(sealer.encapsulated_key()).unwrap();
        let encapsulated = Deserializable::from_bytes(&encapsulated).unwrap();
        let opener = hpke::setup_receiver(&OpModeR::Base, &private, &encapsulated, SEAL_INFO).unwrap();
        (sealer, opener)
    }

    fn open(opener: &mut Opener, sealed: &str, aad: &[u8]) -> Option<Vec<u8>> {
        opener.open(&URL_SAFE_NO_PAD.decode(sealed).unwrap(), aad).ok()
    }

    #[test]
    fn the_owner_of_the_key_opens_what_is_sealed_in_order() {
        let (mut sealer, mut opener) = pair();
        for value in [&b"one"[..], b"", b"two"] {
            let sealed = sealer.seal(value, b"aad").unwrap();
            assert_eq!(open(&mut opener, &sealed, b"aad").as_deref(), Some(value));
        }
    }

    #[test]
    fn a_value_does_not_open_out_of_order_twice_or_for_another_place() {
        let (mut sealer, mut opener) = pair();
        let (first, second) = (sealer.seal(b"one", b"a").unwrap(), sealer.seal(b"two", b"a").unwrap());
        assert_eq!(open(&mut opener, &second, b"a"), None);
        assert_eq!(open(&mut opener, &first, b"b"), None);
        assert_eq!(open(&mut opener, &first, b"a").as_deref(), Some(&b"one"[..]));
        assert_eq!(open(&mut opener, &first, b"a"), None);
        let (_, mut stranger) = pair();
        assert_eq!(open(&mut stranger, &second, b"a"), None);
    }

    #[test]
    fn keys_that_are_none_or_of_small_order_are_refused() {
        for bad in ["", "AAAA", "not base64!", &URL_SAFE_NO_PAD.encode([9; 33])] {
            assert_eq!(PublicKey::parse(bad).err(), Some(SealError::PublicKey), "{bad}");
        }
        let zero = PublicKey::parse(&URL_SAFE_NO_PAD.encode([0; 32])).unwrap();
        assert_eq!(Sealer::new(&zero).err(), Some(SealError::PublicKey));
    }
}
