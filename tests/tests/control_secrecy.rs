//! Where values are on their way from the operator to the agent, and where they are not: on the wire without
//! TLS's help, in the database, in logs.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use dvx_tests::{ControlPlane, Proxy, World, count_fragments, eventually, random_alphanumeric};

/// Every way in which eight bytes of a value, or more, could stand in a text.
fn renderings(value: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for window in value.as_bytes().windows(8) {
        found.push(window.to_vec());
        found.push(window.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    }
    for start in 0..3 {
        // What base64 makes of a value depends on where in a group of three it begins; the ends depend on more.
        for encoded in [STANDARD_NO_PAD.encode(&value[start..]), URL_SAFE_NO_PAD.encode(&value[start..])] {
            let whole = encoded.len() - encoded.len() % 4 - 4;
            found.extend(encoded.as_bytes()[..whole].windows(12).map(<[u8]>::to_vec));
        }
    }
    if let Ok(escaped) = serde_json::to_string(value) {
        found.push(escaped.trim_matches('"').as_bytes().to_vec());
    }
    found
}

fn is_in(text: &[u8], rendering: &[u8]) -> bool {
    text.windows(rendering.len()).any(|window| window == rendering)
}

/// Values as long as tokens are, with something to escape in them.
fn value() -> String {
    format!("{}\"\\\n{}", random_alphanumeric(20), random_alphanumeric(20))
}

#[test]
fn whoever_reads_the_stream_below_tls_sees_no_value() {
    let control = ControlPlane::start();
    let proxy = Proxy::start(&control);
    let mut world = World::single().control_at(&control, &proxy.url()).build();
    let before: Vec<String> = (0..3).map(|_| value()).collect();
    let tokens: Vec<String> =
        (0..2).map(|number| control.admin().plant("alpha", &format!("p{number}"))).collect();
    control.admin().set_secret(None, "EVERYBODYS", &before[0]);
    control.admin().set_secret(Some("alpha"), "OWN", &before[1]);
    world.start();
    let caller = world.caller("alpha");
    let revision = control.admin().set_secret(Some("alpha"), "OWN", &before[2]);
    control.admin().delivered(revision);
    assert_eq!(caller.get("/v1/agent/secrets/OWN").json()["value"], before[2].as_str());
    assert_eq!(caller.get("/v1/agent/secrets/EVERYBODYS").json()["value"], before[0].as_str());
    // Decisions go back by the same way, fingerprints among them, and so do reports of refused tokens.
    for number in 0..2 {
        assert_eq!(caller.get(&format!("/v1/agent/credentials/p{number}")).status, 200);
    }
    eventually("the broker's decisions have arrived", || {
        control
            .admin()
            .audit("agent=alpha")
            .iter()
            .filter(|event| event["action"] == "credential.get")
            .count()
            >= 2
    });
    let seen = proxy.seen();
    assert!(
        is_in(&seen, b"GET /v1/enclave/watch") && is_in(&seen, b"\"EVERYBODYS\""),
        "the proxy saw all of it"
    );
    assert!(is_in(&seen, b"POST /v1/enclave/ack") && is_in(&seen, b"credential.get"));
    for value in before.iter().chain(&tokens) {
        for rendering in renderings(value) {
            assert!(!is_in(&seen, &rendering), "{} was sent", String::from_utf8_lossy(&rendering));
        }
    }
    // The search can find something: the same values as the operator sent them.
    let sent = format!("{{\"value\":{}}}", serde_json::to_string(&before[0]).unwrap());
    assert!(renderings(&before[0]).iter().any(|rendering| is_in(sent.as_bytes(), rendering)));
    let encoded = URL_SAFE_NO_PAD.encode(format!("..{}", before[0]));
    assert!(renderings(&before[0]).iter().any(|rendering| is_in(encoded.as_bytes(), rendering)));
}

#[test]
fn neither_the_database_nor_a_log_holds_a_value_a_token_or_a_key() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let operator = control.admin().create_operator("somebody", "operator");
    let token = control.admin().plant("alpha", "gitlab");
    let secret = control.planted.token("a secret");
    control.admin().set_secret(None, "NAME", &secret);
    control.operator(&operator).set_secret(Some("alpha"), "NAME", &secret);
    // Requests that fail hold secrets too.
    for (method, path, body) in [
        ("PUT", "/agents/alpha/secrets/NAME", serde_json::json!({"value": secret, "what": secret})),
        ("PUT", "/agents/nobody/secrets/NAME", serde_json::json!({"value": secret})),
        (
            "PUT",
            "/agents/alpha/secrets/gitlab:token",
            serde_json::json!({"value": format!("{secret} x"), "agent_accessible": false}),
        ),
    ] {
        let answer = control.admin().call(method, path, &body);
        assert!(answer.status >= 400, "{answer:?}");
        control.assert_clean(path, &answer.body);
    }
    let wrong = control.planted.token("a wrong operator token");
    assert_eq!(control.operator(&wrong).call("GET", "/whoami", &serde_json::Value::Null).status, 401);
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    control.admin().create_enclave("another");
    // While it runs, when the write-ahead log is full of it, and after a crash.
    control.assert_no_leaks();
    control.kill();
    control.assert_no_leaks();
    let database = fs::read(control.data().join("control.db")).unwrap();
    assert!(
        count_fragments(&database, &["operators", "enclaves"]) > 0,
        "it is the database that was searched"
    );
    control.start_all();
    control.stop();
    control.assert_no_leaks();
}
