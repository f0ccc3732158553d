//! Tokens of operators and keys of enclaves. Only their hashes are stored.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dvx_proto::enclave::API_KEY_PREFIX;
use dvx_proto::operator::OPERATOR_TOKEN_PREFIX;
use dvx_proto::{Secret, without_trace};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::kek::random;

/// A token as its owner has it.
#[derive(Debug)]
pub struct PlainToken(Secret);

/// What is stored of a token. A hash without salt or stretching is enough for 256 random bits, and it can be
/// looked up: nothing is compared whose timing would tell.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedToken([u8; 32]);

impl PlainToken {
    /// Random bytes of a token.
    const BYTES: usize = 32;

    /// A new operator token.
    pub fn operator() -> Self {
        Self::generate(OPERATOR_TOKEN_PREFIX)
    }

    /// A new API key of an enclave.
    pub fn enclave() -> Self {
        Self::generate(API_KEY_PREFIX)
    }

    fn generate(prefix: &str) -> Self {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        random(bytes.as_mut_slice());
        // Written into memory of its final size, so that no copy is left behind.
        let mut text = String::with_capacity(prefix.len() + 43);
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        Self(Secret::from(text.into_bytes()))
    }

    /// What is stored of it.
    pub fn hashed(&self) -> HashedToken {
        HashedToken::of(self.0.expose_secret())
    }

    /// The token, to be shown this once.
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

impl HashedToken {
    /// Of what a caller has sent.
    pub fn of(token: &[u8]) -> Self {
        Self(without_trace(|| Sha256::digest(token).into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_prefix_and_256_bits_and_never_repeat() {
        let (first, second) = (PlainToken::operator(), PlainToken::operator());
        assert!(first.hashed() != second.hashed());
        let text = String::from_utf8(first.into_secret().expose_secret().to_vec()).unwrap();
        let rest = text.strip_prefix("dvxo_").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(rest).unwrap().len(), 32);
        let key = PlainToken::enclave();
        assert!(!format!("{key:?}").contains("dvxe_"));
        assert!(key.hashed() == HashedToken::of(key.into_secret().expose_secret()));
    }
}
