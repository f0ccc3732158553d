//! Agents, enclaves and operators: what is asked, what is shown, and when a change counts as done.

use crate::stub::{Stub, json, ok, problem};
use crate::support::{World, outcome};

const AGENT: &str = r#"{"id":"01","name":"a","enclave":"lab-1","unix_user":"agent1","unit":"a.service","acts_as":null,"state":"isolated","reason":"odd","created_at":"2026-01-31T00:00:00Z","credentials":1,"next_expiry":"2036-01-31T00:00:00Z","revision":7}"#;

const DELIVERED: &str = r#"{"revision":7,"complete":true,"missing":[]}"#;

fn missing(connected: bool) -> String {
    format!(
        r#"{{"revision":7,"complete":false,"missing":[{{"enclave":"lab-1","connected":{connected},"seen_at":null}},{{"enclave":"lab-2","connected":true,"seen_at":null}}]}}"#
    )
}

#[test]
fn a_new_agent_is_described_once_and_its_broker_awaited() {
    let world = World::new(Stub::new(|asked, _| match asked.line.as_str() {
        "POST /api/v1/agents" => json(201, Some(7), AGENT),
        _ => ok(DELIVERED),
    }));
    let outcome =
        world.run("agent create a --enclave lab-1 --unix-user agent1 --unit a.service --acts-as ann -o json");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.starts_with(r#"{"id":"01","name":"a","enclave":"lab-1""#), "{outcome:?}");
    let asked = world.stub.asked();
    assert_eq!(
        asked[0].body,
        r#"{"name":"a","enclave":"lab-1","unix_user":"agent1","unit":"a.service","acts_as":"ann"}"#
    );
    assert_eq!(asked[0].header("idempotency-key").unwrap().len(), 32);
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    assert_eq!(asked[1].line, "GET /api/v1/deliveries/7?agent=a&wait_seconds=0");
}

#[test]
fn a_change_that_is_in_force_everywhere_succeeds() {
    let world = World::new(Stub::new(|asked, _| {
        if asked.line.starts_with("POST") { json(200, Some(7), AGENT) } else { ok(DELIVERED) }
    }));
    let table = "NAME    ENCLAVE    USER      STATE       CREDENTIALS    NEXT EXPIRY             REASON\n\
                 a       lab-1      agent1    isolated    1              2036-01-31T00:00:00Z    odd\n";
    assert_eq!(world.run("agent isolate a --reason odd"), outcome(0, table, ""));
    assert_eq!(world.stub.asked()[0].body, r#"{"reason":"odd"}"#);
    assert_eq!(
        world.stub.lines(),
        ["POST /api/v1/agents/a/isolate", "GET /api/v1/deliveries/7?agent=a&wait_seconds=10"]
    );
    for verb in ["restore", "revoke", "reprovision"] {
        assert_eq!(world.run(&format!("agent {verb} a")).status, 0);
        let line = format!("POST /api/v1/agents/a/{verb}");
        let asked = world.stub.asked().into_iter().find(|asked| asked.line == line).unwrap();
        let body = if verb == "revoke" { r#"{"reason":"revoked by an operator"}"# } else { "" };
        assert_eq!(asked.body, body);
    }
}

#[test]
fn a_change_that_is_not_confirmed_names_the_enclaves_and_prints_nothing() {
    let world = World::new(Stub::new(|asked, _| {
        if asked.line.starts_with("POST") { json(200, Some(7), AGENT) } else { ok(&missing(false)) }
    }));
    let expected = "dvx: agent a is isolated, but that is not in force everywhere: not confirmed within 0 s by \
                    enclave lab-1 (not connected), enclave lab-2 (connected)\n\
                    hint: a broker that is not connected takes it over when it connects, or stops serving after its \
                    max_stale\n";
    assert_eq!(world.run("agent isolate a --reason odd --timeout 0"), outcome(5, "", expected));
}

#[test]
fn a_change_whose_delivery_cannot_be_told_is_not_confirmed() {
    let world =
        World::new(Stub::new(
            |asked, _| {
                if asked.line.starts_with("POST") { json(200, Some(7), AGENT) } else { None }
            },
        ));
    let outcome = world.run("agent revoke a --timeout 0");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, ""));
    let expected = "dvx: agent a is revoked, but whether that is in force cannot be told: no answer from the control plane at ";
    assert!(outcome.stderr.starts_with(expected), "{outcome:?}");
}

#[test]
fn other_changes_leave_those_who_are_not_connected_with_a_note() {
    let world = World::new(Stub::new(|asked, _| {
        let only = r#"{"revision":7,"complete":false,"missing":[{"enclave":"lab-1","connected":false,"seen_at":"2026-01-01T00:00:00Z"}]}"#;
        if asked.line.starts_with("DELETE") { json(204, Some(7), "") } else { ok(only) }
    }));
    let outcome = world.run("agent secret delete a X");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert!(
        outcome
            .stderr
            .starts_with("dvx: done, but not yet in force at enclave lab-1 (not connected, last seen "),
        "{outcome:?}"
    );
    assert_eq!(world.stub.asked().len(), 2);
}

#[test]
fn connected_brokers_are_awaited_until_they_have_it() {
    let world = World::new(Stub::new(|asked, number| match number {
        _ if asked.line.starts_with("DELETE") => json(204, Some(7), ""),
        1 => ok(&missing(false)),
        2 => ok(&missing(true)),
        _ => ok(DELIVERED),
    }));
    assert_eq!(world.run("agent delete a"), outcome(0, "", ""));
    let lines = world.stub.lines();
    assert_eq!(lines[0], "DELETE /api/v1/agents/a");
    assert_eq!(lines[1], "GET /api/v1/deliveries/7?wait_seconds=0");
    assert_eq!(lines[2], "GET /api/v1/deliveries/7?wait_seconds=1");
    assert_eq!(lines[3], "GET /api/v1/deliveries/7?wait_seconds=5");
}

#[test]
fn a_list_has_all_pages_and_json_is_a_bare_array() {
    let page = |next: &str| format!(r#"{{"items":[{AGENT}]{next}}}"#);
    let world = World::new(Stub::new(move |asked, _| {
        if asked.line.contains("after=") { ok(&page("")) } else { ok(&page(r#","next":"a b&""#)) }
    }));
    let outcome = world.run("agent list --enclave lab-1 --state isolated -o json");
    let agents: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(agents.as_array().unwrap().len(), 2);
    assert_eq!(
        world.stub.lines(),
        [
            "GET /api/v1/agents?enclave=lab-1&state=isolated&limit=1000",
            "GET /api/v1/agents?enclave=lab-1&state=isolated&limit=1000&after=a%20b%26"
        ]
    );
}

#[test]
fn one_agent_is_shown_with_everything() {
    let world = World::new(Stub::new(|_, _| ok(AGENT)));
    let outcome = world.run("agent get a");
    assert!(outcome.stdout.contains("unix user      agent1\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("unit           a.service\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("acts as        -\n"), "{}", outcome.stdout);
}

#[test]
fn keys_and_tokens_stand_alone_and_are_asked_for_again_after_a_lost_connection() {
    let world = World::new(Stub::new(|asked, number| match asked.line.as_str() {
        _ if number == 0 => None,
        "POST /api/v1/enclaves" => json(201, None, r#"{"name":"lab-1","api_key":"dvxe_1"}"#),
        _ => json(201, None, r#"{"name":"ann","role":"auditor","token":"dvxo_1"}"#),
    }));
    assert_eq!(world.run("enclave create lab-1"), outcome(0, "dvxe_1\n", ""));
    let asked = world.stub.asked();
    assert_eq!(asked[0].line, asked[1].line);
    assert!(asked[0].header("idempotency-key").is_some());
    assert_eq!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
    assert_eq!(
        world.run("enclave create lab-1 -o json"),
        outcome(0, "{\"name\":\"lab-1\",\"api_key\":\"dvxe_1\"}\n", "")
    );
    assert_eq!(world.run("operator create ann --role auditor"), outcome(0, "dvxo_1\n", ""));
    assert_eq!(
        world.run("operator create ann --role auditor -o json"),
        outcome(0, "{\"name\":\"ann\",\"role\":\"auditor\",\"token\":\"dvxo_1\"}\n", "")
    );
}

#[test]
fn a_deletion_is_not_repeated_when_nobody_knows_what_became_of_it() {
    let world = World::new(Stub::new(|_, _| None));
    let outcome = world.run("enclave delete lab-1");
    assert_eq!((outcome.status, world.stub.asked().len()), (5, 1));
}

#[test]
fn refusals_have_their_exit_and_say_why() {
    for (status, code, exit) in [
        (401, "token-invalid", 4),
        (403, "role-forbidden", 4),
        (404, "not-found", 3),
        (409, "conflict", 1),
        (429, "rate-limited", 7),
        (503, "store-unavailable", 5),
    ] {
        let world = World::new(Stub::new(move |_, _| problem(status, code, "so it is")));
        let outcome = world.run("agent delete a");
        assert_eq!((outcome.status, outcome.stdout.as_str()), (exit, ""), "{code}");
        assert!(outcome.stderr.starts_with("dvx: cannot delete the agent a: so it is\n"), "{outcome:?}");
    }
}

#[test]
fn integrations_are_listed() {
    let world = World::new(Stub::new(|_, _| {
        ok(
            r#"{"items":[{"id":"1","provider":"gitlab","display_name":"me","auth_type":"pat","instance_url":"https://gitlab.com","expires_at":null,"status":"active","origin":"pat","scopes":["api","write_repository"]}]}"#,
        )
    }));
    let table = "PROVIDER    TYPE    NAME    INSTANCE              SCOPES                  EXPIRES    STATUS\n\
                 gitlab      pat     me      https://gitlab.com    api write_repository    -          active\n";
    assert_eq!(world.run("agent integration list a"), outcome(0, table, ""));
    assert_eq!(world.stub.lines(), ["GET /api/v1/agents/a/integrations?limit=1000"]);
}
