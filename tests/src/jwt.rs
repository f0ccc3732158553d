//! Agent tokens that no broker made.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::leak::random_bytes;

/// A token made by [`Forger`].
pub type ForgedToken = String;

/// Makes tokens with keys and algorithms of a test's choice.
pub struct Forger {
    key: SigningKey,
}

impl Default for Forger {
    fn default() -> Self {
        Self::new()
    }
}

impl Forger {
    /// With a random key of its own.
    pub fn new() -> Self {
        let key =
            std::iter::repeat_with(|| random_bytes(32)).find_map(|bytes| SigningKey::from_slice(&bytes).ok());
        Self { key: key.expect("random keys are nearly always keys") }
    }

    /// A well-formed ES256 token that only the wrong key gives away.
    pub fn es256(&self, claims: &Value) -> ForgedToken {
        self.es256_with_header(&json!({"typ": "JWT", "alg": "ES256"}), claims)
    }

    /// The same with any header.
    pub fn es256_with_header(&self, header: &Value, claims: &Value) -> ForgedToken {
        let signed = signing_input(header, claims);
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature.to_bytes()))
    }

    /// A token whose header embeds the key that signed it (CVE-2018-0114).
    pub fn embedded_key(&self, claims: &Value) -> ForgedToken {
        let point = self.key.verifying_key().to_sec1_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y)});
        self.es256_with_header(&json!({"typ": "JWT", "alg": "ES256", "jwk": jwk}), claims)
    }

    /// An unsigned token; `algorithm` is some spelling of `none`.
    pub fn none(algorithm: &str, claims: &Value) -> ForgedToken {
        format!("{}.", signing_input(&json!({"typ": "JWT", "alg": algorithm}), claims))
    }

    /// A token whose MAC key is something public.
    pub fn hs256(key: &[u8], claims: &Value) -> ForgedToken {
        let signed = signing_input(&json!({"typ": "JWT", "alg": "HS256"}), claims);
        format!("{signed}.{}", BASE64.encode(hmac_sha256(key, signed.as_bytes())))
    }

    /// The claims of a real token under an ES256 header with the all-zero signature (CVE-2022-21449).
    pub fn zero_signature(claims: &Value) -> ForgedToken {
        let signed = signing_input(&json!({"typ": "JWT", "alg": "ES256"}), claims);
        format!("{signed}.{}", BASE64.encode([0; 64]))
    }
}

/// The claims of a token, whoever made it.
#[track_caller]
pub fn unverified_claims(token: &str) -> Value {
    part(token, 1)
}

/// The encodings under which an attacker can know the key that signed a token: a signature gives away two
/// candidates for it.
pub fn recover_public_keys(token: &str) -> Vec<Vec<u8>> {
    let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
    let signature = BASE64.decode(signature).expect("a signature is base64url");
    let signature = Signature::from_slice(&signature).expect("an ES256 signature has 64 bytes");
    let mut keys = Vec::new();
    for id in [0, 1] {
        let id = RecoveryId::from_byte(id).expect("0 and 1 are recovery ids");
        if let Ok(key) = VerifyingKey::recover_from_msg(signed.as_bytes(), &signature, id) {
            keys.extend(encodings(&key));
        }
    }
    assert!(!keys.is_empty(), "a signature gives away its key");
    keys
}

fn encodings(key: &VerifyingKey) -> Vec<Vec<u8>> {
    // SubjectPublicKeyInfo of a P-256 key: RFC 5480 section 2 in front of the uncompressed point.
    const SPKI: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let point = key.to_sec1_point(false).as_bytes().to_vec();
    let compressed = key.to_sec1_point(true).as_bytes().to_vec();
    let der = [SPKI.as_slice(), &point].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(&der);
    let (first, second) = text.split_at(64);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
    vec![point, compressed, der, pem.into_bytes()]
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a token has three parts");
    let json = BASE64.decode(part).expect("a token's parts are base64url");
    serde_json::from_slice(&json).expect("a token's parts are JSON")
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

/// RFC 2104.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn a_signature_gives_away_the_key_that_made_it() {
        let forger = Forger::new();
        let key = forger.key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        assert!(recover_public_keys(&forger.es256(&json!({"sub": "x"}))).contains(&key));
    }
}
