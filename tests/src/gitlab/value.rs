//! Values of tokens, as `Authn::TokenField::Generator::RoutableToken` and its predecessor make them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::settings::TokenFormat;
use crate::leak::{random_alphanumeric, random_bytes};

pub(super) fn generate(format: TokenFormat, prefix: &str, user_id: u64) -> String {
    match format {
        TokenFormat::Classic => format!("{prefix}{}", random_alphanumeric(20)),
        TokenFormat::Routable => routable(prefix, &random_bytes(16), user_id),
    }
}

/// The payload names cell, organisation and owner; length and checksum follow in base 36.
fn routable(prefix: &str, random: &[u8], user_id: u64) -> String {
    let owner = format!("c:1\no:1\nu:{}", base36(user_id, 0));
    let length = u8::try_from(owner.len()).expect("a short text");
    let payload = BASE64.encode([random, owner.as_bytes(), &[length]].concat());
    let size = u64::try_from(payload.len()).expect("a short text");
    let checked = format!("{prefix}{payload}.01.{}", base36(size, 2));
    let checksum = base36(u64::from(crc32(checked.as_bytes())), 7);
    format!("{checked}{checksum}")
}

fn base36(mut number: u64, width: usize) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        let digit = u32::try_from(number % 36).expect("below 36");
        digits.push(char::from_digit(digit, 36).expect("below 36"));
        number /= 36;
    }
    let digits: String = digits.into_iter().rev().collect();
    format!("{digits:0>width$}")
}

/// CRC-32 of ISO 3309, as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_routable_token_is_what_the_reference_computes() {
        let random: Vec<u8> = (0..16).collect();
        let token = routable("glpat-", &random, 12_345_678);
        assert_eq!(token, "glpat-AAECAwQFBgcICQoLDA0OD2M6MQpvOjEKdTo3Y2x6aQ8.01.171xt4buz");
    }
}
