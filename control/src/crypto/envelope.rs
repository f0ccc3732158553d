//! Values under keys of their own, which are encrypted under the KEK.

use dvx_memory::{MemoryError, Slot};
use dvx_proto::{Secret, without_trace};
use thiserror::Error;
use zeroize::Zeroizing;

use super::kek::{Kek, KekId, cipher, decrypt, encrypt, random};

/// A value as it is stored: nothing of it can be read without the KEK, and it opens only together with what it
/// was bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The KEK that the data key is encrypted under.
    pub(crate) kek: KekId,
    /// The data key, encrypted.
    pub(crate) wrapped_key: Vec<u8>,
    /// The value, encrypted under the data key.
    pub(crate) value: Vec<u8>,
}

/// A stored value that does not open: it or something that it is bound to is not what was stored. More is not to
/// be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored value does not open: it, or something that it is bound to, was changed")]
pub struct Unreadable;

/// What a value is bound to. No two lists of parts give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aad(Vec<u8>);

/// A key that encrypts one value, or from which an organisation's heads are authenticated: for as long as it is used.
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

/// A data key that is kept, in protected memory. Clones share it.
#[derive(Clone)]
pub(crate) struct KeptKey(Slot);

impl Aad {
    pub(crate) fn new(purpose: &str) -> Self {
        Self(Vec::with_capacity(256)).text(purpose)
    }

    pub(crate) fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    pub(crate) fn optional(self, part: Option<&str>) -> Self {
        match part {
            Some(part) => self.text("some").text(part),
            None => self.text("none"),
        }
    }

    pub(crate) fn number(self, part: i64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    fn bytes(mut self, part: &[u8]) -> Self {
        // Parts come from the database, whose largest texts are shorter by far.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the data key of a value, which no value can then be taken for.
    fn of_key(&self) -> Self {
        self.clone().text("key")
    }
}

impl DataKey {
    pub(crate) fn generate() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut_slice());
        Self(key)
    }

    pub(crate) fn wrapped_under(&self, kek: &Kek, aad: &Aad) -> Vec<u8> {
        kek.encrypt(aad.as_bytes(), self.0.as_slice())
    }

    pub(crate) fn unwrap(kek: &Kek, aad: &Aad, wrapped: &[u8]) -> Result<Self, Unreadable> {
        let bytes = kek.decrypt(aad.as_bytes(), wrapped)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(Some(bytes.as_slice()).filter(|bytes| bytes.len() == 32).ok_or(Unreadable)?);
        Ok(Self(key))
    }
}

impl KeptKey {
    pub(crate) fn unwrap(
        kek: &Kek,
        aad: &Aad,
        wrapped: &[u8],
    ) -> Result<Result<Self, Unreadable>, MemoryError> {
        without_trace(|| match DataKey::unwrap(kek, aad, wrapped) {
            Ok(key) => Ok(Ok(Self(kek.protect(key.0.as_slice())?.freeze()))),
            Err(Unreadable) => Ok(Err(Unreadable)),
        })
    }

    pub(crate) fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl Envelope {
    /// Encrypts a value.
    pub(crate) fn seal(kek: &Kek, aad: &Aad, value: &[u8]) -> Self {
        without_trace(|| {
            let key = DataKey::generate();
            let wrapped_key = key.wrapped_under(kek, &aad.of_key());
            let value = encrypt(&cipher(key.0.as_slice()), aad.as_bytes(), value);
            Self { kek: kek.id().clone(), wrapped_key, value }
        })
    }

    /// Decrypts the value.
    pub(crate) fn open(&self, kek: &Kek, aad: &Aad) -> Result<Secret, Unreadable> {
        without_trace(|| {
            let key = DataKey::unwrap(kek, &aad.of_key(), &self.wrapped_key)?;
            let mut value = decrypt(&cipher(key.0.as_slice()), aad.as_bytes(), &self.value)?;
            Ok(Secret::from(std::mem::take(&mut *value)))
        })
    }

    /// The data key, encrypted under another KEK. The value stays as it is.
    pub(crate) fn rewrapped(&self, from: &Kek, to: &Kek, aad: &Aad) -> Result<Vec<u8>, Unreadable> {
        without_trace(|| {
            let key = DataKey::unwrap(from, &aad.of_key(), &self.wrapped_key)?;
            Ok(key.wrapped_under(to, &aad.of_key()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aad() -> Aad {
        Aad::new("test").text("a").optional(None).number(1)
    }

    #[test]
    fn a_value_opens_only_with_its_key_and_what_it_is_bound_to() {
        let kek = Kek::generate();
        let envelope = Envelope::seal(&kek, &aad(), b"glpat-1");
        assert_eq!(envelope.open(&kek, &aad()).unwrap().expose_secret(), b"glpat-1");
        assert!(envelope.open(&Kek::generate(), &aad()).is_err());
        let others = [
            Aad::new("test").text("a").optional(None).number(2),
            Aad::new("test").text("a").optional(Some("")).number(1),
            Aad::new("test").text("").text("a").optional(None).number(1),
            Aad::new("tes").text("ta").optional(None).number(1),
        ];
        for other in others {
            assert!(envelope.open(&kek, &other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn no_bit_of_an_envelope_can_be_changed_nor_a_byte_be_missing() {
        let kek = Kek::generate();
        let envelope = Envelope::seal(&kek, &aad(), b"glpat-1");
        for index in 0..envelope.value.len() {
            let mut edited = envelope.clone();
            edited.value[index] ^= 1;
            assert_eq!(edited.open(&kek, &aad()).unwrap_err(), Unreadable, "byte {index}");
            let mut cut = envelope.clone();
            cut.value.truncate(index);
            assert_eq!(cut.open(&kek, &aad()).unwrap_err(), Unreadable, "cut at {index}");
        }
        for index in 0..envelope.wrapped_key.len() {
            let mut edited = envelope.clone();
            edited.wrapped_key[index] ^= 1;
            assert_eq!(edited.open(&kek, &aad()).unwrap_err(), Unreadable, "byte {index}");
        }
    }

    #[test]
    fn a_rewrapped_envelope_opens_under_the_new_key_alone() {
        let (old, new) = (Kek::generate(), Kek::generate());
        let mut envelope = Envelope::seal(&old, &aad(), b"glpat-1");
        envelope.wrapped_key = envelope.rewrapped(&old, &new, &aad()).unwrap();
        assert!(envelope.open(&old, &aad()).is_err());
        assert_eq!(envelope.open(&new, &aad()).unwrap().expose_secret(), b"glpat-1");
    }
}
