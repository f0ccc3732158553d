//! Links of agents, and what takes a while.

use crate::stub::{Stub, json, ok};
use crate::support::{World, outcome};

const INTEGRATION: &str = r#"{"id":"1","provider":"gitlab","display_name":"me","auth_type":"service_account","instance_url":"https://gitlab.com","expires_at":null,"status":"active","origin":"minted","scopes":["api"],"credential_provider":"company"}"#;

const TABLE: &str = "PROVIDER    TYPE               NAME    INSTANCE              SCOPES    EXPIRES    STATUS\n\
                     gitlab      service_account    me      https://gitlab.com    api       -          active\n";

fn operation(state: &str, more: &str) -> String {
    format!(
        r#"{{"id":"op","kind":"link","state":"{state}","progress":"making a token","created_at":"2026-01-31T00:00:00Z"{more}}}"#
    )
}

/// A control plane whose operation is still running twice, and ends like this.
fn world(end: &'static str, more: &'static str) -> World {
    World::new(Stub::new(move |asked, before| {
        let line = asked.line.as_str();
        if line.starts_with("POST") {
            json(202, None, &operation("running", ""))
        } else if line.contains("/operations/") {
            let state = if before < 3 { "running" } else { end };
            json(200, (before >= 3).then_some(9), &operation(state, if before < 3 { "" } else { more }))
        } else if line.contains("/deliveries/") {
            ok(r#"{"revision":9,"complete":true,"missing":[]}"#)
        } else {
            ok(&format!(r#"{{"items":[{INTEGRATION}]}}"#))
        }
    }))
}

#[test]
fn a_link_is_followed_to_its_end() {
    let line = "agent integration gitlab link a --credential-provider company --project-id 7 --access-level developer";
    let world = world("done", "");
    assert_eq!(world.run(line), outcome(0, TABLE, ""));
    let asked = world.stub.asked();
    assert_eq!(asked[0].line, "POST /api/v1/agents/a/integrations/gitlab");
    assert_eq!(asked[0].body, r#"{"credential_provider":"company","project_id":7,"access_level":30}"#);
    let operations =
        world.stub.lines().iter().filter(|line| line.contains("/operations/op?wait_seconds=2")).count();
    assert_eq!(operations, 3);
    assert!(world.stub.lines().contains(&"GET /api/v1/deliveries/9?agent=a&wait_seconds=0".to_owned()));
    let world = self::world("done", "");
    assert_eq!(world.run(&format!("{line} -o json")), outcome(0, &format!("{INTEGRATION}\n"), ""));
}

#[test]
fn a_rotation_is_followed_as_well() {
    let world = world("done", "");
    assert_eq!(world.run("agent integration gitlab rotate a"), outcome(0, TABLE, ""));
    assert_eq!(world.stub.asked()[0].line, "POST /api/v1/agents/a/integrations/gitlab/rotate");
}

#[test]
fn what_fails_in_the_end_says_why() {
    let world = world("failed", r#","error":"a limit of the instance is reached""#);
    let outcome = world.run("agent integration gitlab link a --credential-provider company");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""));
    let expected = "dvx: cannot link the agent a to GitLab: a limit of the instance is reached\nhint: ";
    assert!(outcome.stderr.starts_with(expected), "{}", outcome.stderr);
}

#[test]
fn a_link_that_nobody_answered_is_asked_for_again_as_the_same() {
    let world = World::new(Stub::new(|_, _| None));
    let outcome = world.run_with("agent integration gitlab link a", "glpat-planted\n");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, ""));
    assert!(!outcome.stderr.contains("planted"), "{}", outcome.stderr);
    let asked = world.stub.asked();
    assert_eq!(asked.len(), 3);
    for one in &asked {
        assert_eq!(one.line, "POST /api/v1/agents/a/integrations/gitlab");
        assert!(one.header("idempotency-key").is_some());
        assert_eq!(one.header("idempotency-key"), asked[0].header("idempotency-key"));
    }
}

#[test]
fn unlinking_passes_on_what_is_left_to_do() {
    let world = World::new(Stub::new(|asked, _| match asked.line.starts_with("DELETE") {
        true => json(
            200,
            Some(4),
            r#"{"warning":"the token still works: revoke it at https://gitlab.com/x","missing":["lab-1","lab-2"]}"#,
        ),
        false => panic!("it waits for nothing itself: {}", asked.line),
    }));
    let warning = "dvx: warning: unlinked, but not yet in force at enclave lab-1, enclave lab-2\n\
                   dvx: warning: the token still works: revoke it at https://gitlab.com/x\n";
    assert_eq!(world.run("agent integration gitlab unlink a"), outcome(0, "", warning));
    assert_eq!(world.stub.lines(), ["DELETE /api/v1/agents/a/integrations/gitlab"]);
    assert_eq!(world.run("agent integration github unlink a").status, 0);
    assert_eq!(world.stub.lines()[1], "DELETE /api/v1/agents/a/integrations/github");
}

#[test]
fn a_credential_provider_is_described_in_full() {
    const PROVIDER: &str = r#"{"id":"p1","name":"company","provider":"gitlab","instance_url":"https://gitlab.com","group_id":7,"provisioning_mode":"service_account","rotate_every_seconds":43200,"status":"inactive","reason":"the token was revoked","token_expires_at":null,"next_rotation_at":null,"agents":2,"created_at":"2026-01-31T00:00:00Z"}"#;
    let world = World::new(Stub::new(|_, _| json(201, None, PROVIDER)));
    let line = "credential-provider create --name company --group-id 7 --provisioning-mode service_account --rotate-every 12h";
    let table = "ID    NAME       PROVIDER    INSTANCE              GROUP    MODE               AGENTS    ROTATES    EXPIRES    STATUS\n\
                 p1    company    gitlab      https://gitlab.com    7        service_account    2         -          -          inactive: the token was revoked\n";
    assert_eq!(world.run_with(line, "glpat-x\n"), outcome(0, table, ""));
    assert_eq!(
        world.stub.asked()[0].body,
        r#"{"name":"company","provider":"gitlab","token":"glpat-x","group_id":"7","provisioning_mode":"service_account","rotate_every_seconds":43200}"#
    );
    let world = World::new(Stub::new(|_, _| json(200, None, PROVIDER)));
    assert_eq!(world.run_with("credential-provider rotate company", "glpat-y\n").status, 0);
    assert_eq!(world.stub.lines(), ["POST /api/v1/credential-providers/company/rotate"]);
    for id in ["../x", "debts", "a/b"] {
        assert_eq!(world.run(&format!("credential-provider delete {id}")).status, 3, "{id}");
    }
    assert_eq!(world.run_with("credential-provider rotate company", "\n").status, 2);
    assert_eq!(world.stub.asked().len(), 1);
}

#[test]
fn debts_say_what_is_left_where_and_why() {
    let world = World::new(Stub::new(|_, _| {
        ok(
            r#"{"items":[{"id":"1","agent":"gone","credential_provider":"company","kind":"service account","name":"dvx-agent-1-gone","since":"2026-01-31T00:00:00Z","attempts":3,"next_at":"2026-01-31T00:00:00Z","error":"cannot reach gitlab.com"}]}"#,
        )
    }));
    let outcome = world.run("credential-provider debts");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let row = outcome.stdout.lines().nth(1).unwrap();
    assert!(row.starts_with("service account    dvx-agent-1-gone    gone     company"), "{row}");
    assert!(row.ends_with("cannot reach gitlab.com"), "{row}");
    assert_eq!(world.stub.lines(), ["GET /api/v1/credential-providers/debts?limit=1000"]);
}
