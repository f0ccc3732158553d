use serde_json::{Value, json};

use super::*;

fn issuer(enclave: &str) -> Issuer {
    Issuer::new(enclave.parse().unwrap()).unwrap()
}

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A broker with the same key that has seen nothing yet.
fn fresh_memory(issuer: &Issuer) -> Issuer {
    Issuer::with_keys(issuer.enclave.clone(), issuer.keys.copy())
}

fn token(issuer: &Issuer) -> Zeroizing<String> {
    issuer.issue(&agent("my-agent"), 1001, at(0)).unwrap().token
}

fn claims() -> Value {
    json!({
        "iss": "lab-1", "sub": "my-agent", "aud": "dvx-broker", "uid": 1001,
        "iat": 1_800_000_000, "exp": 1_800_000_300, "jti": "x",
    })
}

/// A token with any claims, signed with the right key.
fn signed(issuer: &Issuer, claims: &Value) -> String {
    encode(&Header::new(Algorithm::ES256), claims, issuer.keys.signing()).unwrap()
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// A token put together by hand.
fn forged(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message =
        format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signature = base64url(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let pad =
        |with: u8| -> Vec<u8> { (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

#[test]
fn a_token_says_who_for_whom_and_until_when() {
    let issuer = issuer("lab-1");
    let issued = issuer.issue(&agent("my-agent"), 1001, at(0)).unwrap();
    assert_eq!((issued.issued_at, issued.expires_at), (at(0), at(300)));
    let data = jsonwebtoken::dangerous::insecure_decode::<Value>(issued.token.as_bytes()).unwrap();
    assert_eq!(data.header, Header::new(Algorithm::ES256));
    let mut said = data.claims;
    let jti = said["jti"].take();
    assert_eq!(jti.as_str().unwrap().len(), 32);
    let mut expected = claims();
    expected["jti"].take();
    assert_eq!(said, expected);

    for issuer in [&issuer, &fresh_memory(&issuer)] {
        let verified = issuer.verify(issued.token.as_bytes(), 1001, at(1)).unwrap();
        assert!(verified.is_for(&agent("my-agent"), 1001));
        assert!(!verified.is_for(&agent("my-agent"), 1002));
        assert!(!verified.is_for(&agent("other"), 1001));
    }
    assert_ne!(*token(&issuer), *token(&issuer), "no two are the same");
}

#[test]
fn a_token_is_valid_from_its_making_to_its_end_and_not_a_second_longer() {
    let issuer = issuer("lab-1");
    let token = token(&issuer);
    for (time, expected) in [
        (-1, Err(TokenError::Future)),
        (0, Ok(())),
        (299, Ok(())),
        (300, Err(TokenError::Expired)),
        (100_000, Err(TokenError::Expired)),
    ] {
        assert_eq!(issuer.verify(token.as_bytes(), 1001, at(time)).map(|_| ()), expected, "known, {time}");
        let fresh = fresh_memory(&issuer);
        assert_eq!(fresh.verify(token.as_bytes(), 1001, at(time)).map(|_| ()), expected, "new, {time}");
    }
}

#[test]
fn tokens_of_another_key_or_enclave_are_refused() {
    let ours = issuer("lab-1");
    let restarted = issuer("lab-1");
    assert_eq!(restarted.verify(token(&ours).as_bytes(), 1001, at(1)), Err(TokenError::Signature));
    let elsewhere = Issuer::with_keys("lab-2".parse().unwrap(), ours.keys.copy());
    assert_eq!(elsewhere.verify(token(&ours).as_bytes(), 1001, at(1)), Err(TokenError::Enclave));
}

#[test]
fn tokens_with_another_algorithm_are_refused() {
    let issuer = issuer("lab-1");
    let public = issuer.keys.verifying().try_get_as_bytes().unwrap().to_vec();
    let claims = claims();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        for signature in [&b""[..], b"x"] {
            let token = forged(&json!({"alg": name, "typ": "JWT"}), &claims, |_| signature.to_vec());
            assert_eq!(issuer.verify(token.as_bytes(), 1001, at(1)), Err(TokenError::Malformed), "{name}");
        }
    }
    let hs256 = forged(&json!({"alg": "HS256", "typ": "JWT"}), &claims, |text| hmac_sha256(&public, text));
    assert_eq!(
        issuer.verify(hs256.as_bytes(), 1001, at(1)),
        Err(TokenError::Algorithm),
        "HMAC with the public key"
    );
    for name in ["ES384", "HS384", "HS512", "RS256", "PS256", "EdDSA"] {
        let token = forged(&json!({"alg": name}), &claims, |_| vec![0; 64]);
        assert_eq!(issuer.verify(token.as_bytes(), 1001, at(1)), Err(TokenError::Algorithm), "{name}");
    }
    let unsigned = forged(&json!({"alg": "ES256"}), &claims, |_| vec![0; 64]);
    assert_eq!(issuer.verify(unsigned.as_bytes(), 1001, at(1)), Err(TokenError::Signature), "all zero");
    let unsigned = forged(&json!({"alg": "ES256"}), &claims, |_| Vec::new());
    assert_eq!(issuer.verify(unsigned.as_bytes(), 1001, at(1)), Err(TokenError::Signature), "empty");
    let own_key =
        forged(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": base64url(b"mine")}}), &claims, |text| {
            hmac_sha256(b"mine", text)
        });
    assert!(issuer.verify(own_key.as_bytes(), 1001, at(1)).is_err(), "a key in the header");
}

#[test]
fn every_claim_is_needed_and_must_be_right() {
    let issuer = issuer("lab-1");
    assert!(issuer.verify(signed(&issuer, &claims()).as_bytes(), 1001, at(1)).is_ok());
    for name in ["iss", "sub", "aud", "uid", "iat", "exp", "jti"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        let token = signed(&issuer, &claims);
        assert_eq!(issuer.verify(token.as_bytes(), 1001, at(1)), Err(TokenError::Malformed), "no {name}");
    }
    for (name, value, expected) in [
        ("iss", json!("lab-2"), TokenError::Enclave),
        ("iss", json!(["lab-1", "lab-2"]), TokenError::Malformed),
        ("sub", json!("../x"), TokenError::Malformed),
        ("aud", json!("dvx-control"), TokenError::Audience),
        ("aud", json!(["dvx-broker"]), TokenError::Malformed),
        ("uid", json!(-1), TokenError::Malformed),
        ("uid", json!("1001"), TokenError::Malformed),
        ("iat", json!(1_800_000_002), TokenError::Future),
        ("iat", json!(1_800_000_000.5), TokenError::Malformed),
        ("nbf", json!(1_800_000_002), TokenError::Future),
        ("nbf", json!("soon"), TokenError::Malformed),
        ("exp", json!(1_800_000_001), TokenError::Expired),
        ("exp", json!(null), TokenError::Malformed),
        ("jti", json!("x".repeat(MAX_TOKEN_BYTES)), TokenError::Malformed),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        let token = signed(&issuer, &claims);
        assert_eq!(issuer.verify(token.as_bytes(), 1001, at(1)), Err(expected), "{name}: {value}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let issuer = issuer("lab-1");
    let good = token(&issuer);
    let parts: Vec<&str> = good.split('.').collect();
    let other = issuer.issue(&agent("other"), 1002, at(0)).unwrap().token;
    let payload = other.split('.').nth(1).unwrap();
    let long = format!("{}{}", *good, "A".repeat(MAX_TOKEN_BYTES + 1 - good.len()));
    for bad in [
        "",
        ".",
        "..",
        "...",
        "x",
        &format!("{}.{}", parts[0], parts[1]),
        &format!("{}.{}.", parts[0], parts[1]),
        &format!("{}.x", *good),
        &format!(".{}.{}", parts[1], parts[2]),
        &format!("{}\n", *good),
        &format!(" {}", *good),
        &format!("{}=", *good),
        &format!("{}.{payload}.{}", parts[0], parts[2]),
        &long,
        &"A".repeat(1_000_000),
    ] {
        assert!(issuer.verify(bad.as_bytes(), 1001, at(1)).is_err(), "{bad:.80}");
    }
    assert!(issuer.verify(b"\xff\xfe.\xff.\xff", 1001, at(1)).is_err());
}

#[test]
fn no_other_text_is_the_same_token() {
    let issuer = issuer("lab-1");
    let good = token(&issuer);
    let last = good.len() - 1;
    for index in (0..last).step_by(23).chain([last]) {
        for replacement in [b'A', b'B', b'z', b'.'] {
            let mut bent = good.as_bytes().to_vec();
            if std::mem::replace(&mut bent[index], replacement) != replacement {
                assert!(issuer.read(&bent, at(1)).is_err(), "{index}");
            }
        }
    }
}

#[test]
fn an_agent_pushes_out_its_own_tokens_only() {
    let issuer = issuer("lab-1");
    token(&issuer);
    for _ in 0..2 * seen::PER_AGENT {
        issuer.issue(&agent("greedy"), 1002, at(0)).unwrap();
    }
    assert_eq!(issuer.seen().len(), 1 + seen::PER_AGENT);
}

#[test]
fn a_token_that_is_pushed_out_stays_valid() {
    let issuer = issuer("lab-1");
    let first = token(&issuer);
    for _ in 0..seen::PER_AGENT {
        token(&issuer);
    }
    assert!(issuer.seen().get(&digest(first.as_bytes())).is_none());
    assert!(issuer.verify(first.as_bytes(), 1001, at(1)).is_ok());
    assert!(issuer.seen().get(&digest(first.as_bytes())).is_some(), "and is known again");
}

#[test]
fn a_flood_of_bad_tokens_costs_its_sender_only() {
    let issuer = issuer("lab-1");
    let good = token(&issuer);
    let bad = format!("{}A", *good);
    let results = |count: u32, second: i64| -> Vec<TokenError> {
        (0..count).map(|_| issuer.verify(bad.as_bytes(), 1001, at(second)).unwrap_err()).collect()
    };
    let first = results(seen::CALCULATIONS_PER_SECOND, 1);
    assert!(!first.contains(&TokenError::TooMany));
    assert_eq!(results(1, 1), [TokenError::TooMany]);
    assert_eq!(issuer.issue_on_request(&agent("my-agent"), 1001, at(1)).err(), Some(IssueError::TooMany));

    assert!(issuer.verify(good.as_bytes(), 1001, at(1)).is_ok(), "what is known costs nothing");
    assert!(!matches!(issuer.verify(bad.as_bytes(), 1002, at(1)), Err(TokenError::TooMany)), "another user");
    assert_ne!(results(1, 2), [TokenError::TooMany], "the next second");
    assert!(issuer.issue_on_request(&agent("my-agent"), 1001, at(2)).is_ok());
}
