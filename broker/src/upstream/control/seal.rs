//! Opening sealed values, straight into protected memory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dvx_memory::{Arena, MemoryError, SlotMut};
use dvx_proto::enclave::SEAL_INFO;
use dvx_proto::limits::MAX_SECRET_BYTES;
use hpke::aead::{AeadCtxR, AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use thiserror::Error;

/// The length of the tag behind every ciphertext.
const TAG_BYTES: usize = 16;

/// The keys of one connection. The private one is wiped when this is dropped.
pub(super) struct Recipient {
    private: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: String,
}

/// Opens the values of one connection, in the order in which they were sealed.
pub(super) struct Opener(AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>);

/// Why a value does not open.
#[derive(Debug, Error)]
pub(super) enum SealError {
    #[error("the encapsulated key is not one")]
    Key,
    #[error("it is not base64url without padding")]
    Base64,
    #[error("it is not as long as a sealed value can be")]
    Length,
    #[error("it is not the next value that was sealed for this broker under this name")]
    Open,
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Recipient {
    pub(super) fn new() -> Self {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        Self { private, public: URL_SAFE_NO_PAD.encode(public.to_bytes()) }
    }

    /// What values have to be sealed to.
    pub(super) fn public(&self) -> &str {
        &self.public
    }

    /// The other end has made this encapsulated key for the public one.
    pub(super) fn opener(&self, encapsulated_key: &str) -> Result<Opener, SealError> {
        let mut bytes = [0; 32];
        let length =
            URL_SAFE_NO_PAD.decode_slice(encapsulated_key, &mut bytes).map_err(|_| SealError::Key)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        let key = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(bytes).map_err(|_| SealError::Key)?;
        let context = hpke::setup_receiver(&OpModeR::Base, &self.private, &key, SEAL_INFO);
        context.map(Opener).map_err(|_| SealError::Key)
    }
}

impl Opener {
    /// Opens the next value. After an error nothing more can be opened.
    pub(super) fn open(&mut self, sealed: &str, aad: &[u8], arena: &Arena) -> Result<SlotMut, SealError> {
        let room = base64::decoded_len_estimate(sealed.len());
        if room > MAX_SECRET_BYTES + TAG_BYTES + 3 {
            return Err(SealError::Length);
        }
        let mut slot = arena.allocate(room)?;
        let length = URL_SAFE_NO_PAD.decode_slice(sealed, slot.as_mut()).map_err(|_| SealError::Base64)?;
        slot.truncate(length);
        let value = length.checked_sub(TAG_BYTES).ok_or(SealError::Length)?;
        let (ciphertext, tag) = slot.as_mut().split_at_mut_checked(value).ok_or(SealError::Length)?;
        let tag = AeadTag::from_bytes(tag).map_err(|_| SealError::Length)?;
        self.0.open_inout_detached(InOutBuf::from(ciphertext), aad, &tag).map_err(|_| SealError::Open)?;
        slot.truncate(value);
        Ok(slot)
    }
}
