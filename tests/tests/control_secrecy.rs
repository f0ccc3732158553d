//! Where values are on their way from the operator to the agent, and where they are not: on the wire without
//! TLS's help, in memory, in the database, in logs.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use dvx_tests::{
    ControlPlane, Proxy, World, count_fragments, eventually, random_alphanumeric, readable_memory, skip,
    skip_without_root,
};

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
fn a_brokers_memory_holds_values_in_protected_pages_alone() {
    const NAME: &str = "a_brokers_memory_holds_values_in_protected_pages_alone";
    if skip_without_root(NAME) {
        return;
    }
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let mut values = vec![control.admin().plant("alpha", "gitlab"), control.admin().plant("alpha", "gone")];
    let large = random_alphanumeric(60_000);
    values.extend([value(), value(), large]);
    control.admin().set_secret(None, "EVERYBODYS", &values[2]);
    control.admin().set_secret(Some("alpha"), "OWN", &values[3]);
    control.admin().set_secret(Some("alpha"), "LARGE", &values[4]);
    world.start();
    if world.status()["memory"]["protection"] != "secretmem" {
        return skip(NAME, "no memfd_secret here: the arena itself can be read by root");
    }
    let caller = world.caller("alpha");
    let names =
        ["credentials/gitlab", "credentials/gone", "secrets/EVERYBODYS", "secrets/OWN", "secrets/LARGE"];
    let search = |world: &mut World, values: &[String], when: &str| {
        let random: Vec<&str> = values.iter().map(|value| value.trim_start_matches("glpat-")).collect();
        let memory = readable_memory(world.broker().pid());
        assert!(
            count_fragments(&memory, &["lab-1", "everybodys", "EVERYBODYS"]) > 0,
            "the search can find things"
        );
        assert_eq!(count_fragments(&memory, &random), 0, "{when}, fragments lie in readable memory");
    };
    search(&mut world, &values, "after a snapshot");
    for name in names {
        assert_eq!(caller.get(&format!("/v1/agent/{name}")).status, 200, "{name}");
    }
    search(&mut world, &values, "after serving");
    values.push(control.admin().plant("alpha", "gitlab"));
    values.push(value());
    let revision = control.admin().set_secret(Some("alpha"), "OWN", values.last().unwrap());
    control.admin().delivered(revision);
    assert_eq!(caller.get("/v1/agent/secrets/OWN").status, 200);
    search(&mut world, &values, "after changes");
    let revision = control.admin().delete_secret(Some("alpha"), "gone:token");
    control.admin().delivered(revision);
    assert_eq!(caller.get("/v1/agent/credentials/gone").status, 404);
    search(&mut world, &values, "after a deletion");
    let revision = control.admin().set_state("alpha", "isolate");
    control.admin().delivered(revision);
    assert_eq!(caller.get("/v1/agent/secrets/OWN").status, 403);
    search(&mut world, &values, "after an isolation");
}

#[test]
fn a_control_planes_memory_holds_no_value_between_requests() {
    const NAME: &str = "a_control_planes_memory_holds_no_value_between_requests";
    if skip_without_root(NAME) {
        return;
    }
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let mut values = vec![value(), value(), value(), random_alphanumeric(60_000)];
    control.admin().set_secret(None, "EVERYBODYS", &values[0]);
    control.admin().set_secret(Some("alpha"), "OWN", &values[1]);
    control.operator_by_tls(Some(control.token())).set_secret(Some("alpha"), "TLS", &values[2]);
    control.admin().set_secret(Some("alpha"), "LARGE", &values[3]);
    values.push(control.admin().plant("alpha", "gitlab"));
    let pid = control.replica().daemon().pid();
    let nothing_is_left = |values: &[String], when: &str| {
        let random: Vec<&str> = values.iter().map(|value| value.trim_start_matches("glpat-")).collect();
        // The last connection may still be closing.
        eventually(&format!("{when}, no fragment lies in readable memory"), || {
            let memory = readable_memory(pid);
            assert!(
                count_fragments(&memory, &["everybodys", "EVERYBODYS"]) > 0,
                "the search can find things"
            );
            count_fragments(&memory, &random) == 0
        });
    };
    nothing_is_left(&values, "after setting");
    world.start();
    nothing_is_left(&values, "after a snapshot");
    values.push(value());
    let revision = control.admin().set_secret(None, "EVERYBODYS", values.last().unwrap());
    control.admin().delivered(revision);
    nothing_is_left(&values, "after a change");
    let revision = control.admin().set_state("alpha", "isolate");
    control.admin().delivered(revision);
    control.admin().change("DELETE", "/agents/alpha", &serde_json::Value::Null);
    nothing_is_left(&values, "after a deletion");
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
