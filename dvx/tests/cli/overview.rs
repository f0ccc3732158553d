//! `dvx status` and the lists of enclaves and operators.

use crate::stub::{Stub, ok};
use crate::support::{World, outcome};

fn agent(name: &str, state: &str, expiry: &str) -> String {
    format!(
        r#"{{"id":"1","name":"{name}","enclave":"lab-1","unix_user":"u","acts_as":null,"state":"{state}","reason":null,"created_at":"2026-01-31T00:00:00Z","credentials":0,"next_expiry":{expiry},"revision":7}}"#
    )
}

const ENCLAVES: &str = r#"{"items":[
    {"name":"lab-1","created_at":"2026-01-31T00:00:00Z","connected":true,"seen_at":null,"revision":7,"lag":0,"agents":3,"degraded":[]},
    {"name":"lab-2","created_at":"2026-01-31T00:00:00Z","connected":false,"seen_at":null,"revision":null,"lag":2,"agents":0,"degraded":[{"what":"agent b","why":"no user u\u001b[0m"}]}]}"#;

fn world() -> World {
    World::new(Stub::new(|asked, _| {
        let line = asked.line.trim_start_matches("GET /api/v1");
        let items = |agents: &[String]| ok(&format!(r#"{{"items":[{}]}}"#, agents.join(",")));
        match line.split(['?', '&']).nth(1).unwrap_or(line) {
            "/whoami" => ok(r#"{"name":"ann","role":"operator","organisation":"default"}"#),
            "/overview" => ok(
                r#"{"version":"0.1.0","organisation":"default","revision":7,"active":21,"isolated":1,"revoked":1}"#,
            ),
            "state=isolated" => items(&[agent("odd", "isolated", "null")]),
            "state=revoked" => items(&[agent("gone", "revoked", "null")]),
            "state=active" => {
                let mut all: Vec<String> =
                    (10..30).map(|number| agent(&format!("a{number}"), "active", "null")).collect();
                all.push(agent("soon", "active", "\"2026-02-01T00:00:00Z\""));
                items(&all)
            }
            _ if line.starts_with("/enclaves") => ok(ENCLAVES),
            _ if line.starts_with("/credential-providers") => ok(r#"{"items":[]}"#),
            _ => ok(r#"{"items":[{"name":"ann","role":"admin","created_at":"2026-01-31T00:00:00.5Z"}]}"#),
        }
    }))
}

#[test]
fn one_screen_shows_first_what_needs_a_look() {
    let world = world();
    let outcome = world.run("status");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let place = format!("control plane 0.1.0 at {}, organisation default, revision 7", world.url());
    assert_eq!(
        lines[..11],
        [
            place.as_str(),
            "enclaves: 1 of 2 not connected, 1 degraded",
            "agents: 21 active, 1 isolated, 1 revoked",
            "",
            "NAME     CONNECTED    BEHIND    LAST SEEN    AGENTS    DEGRADED",
            "lab-1    yes          0         never        3         -",
            r"lab-2    no           2         never        0         agent b: no user u\u{1b}[0m",
            "",
            "AGENT    ENCLAVE    STATE       CREDENTIALS    NEXT EXPIRY             REASON",
            "odd      lab-1      isolated    0              -                       -",
            "gone     lab-1      revoked     0              -                       -",
        ]
    );
    assert!(lines[11].starts_with("soon     lab-1      active      0              2026-02-01T00:00:00Z"));
    assert_eq!(lines.len(), 9 + 20 + 1);
    assert_eq!(lines.last(), Some(&"and 3 more; dvx agent list has all"));
}

#[test]
fn the_screen_is_json_too() {
    let outcome = world().run("status -o json");
    let screen: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(screen["revision"], 7);
    assert_eq!(screen["enclaves"].as_array().unwrap().len(), 2);
    assert_eq!(screen["agents"][0]["name"], "odd");
}

#[test]
fn operators_and_enclaves_are_listed() {
    let world = world();
    let table = "NAME    ROLE     SINCE\nann     admin    2026-01-31T00:00:00Z\n";
    assert_eq!(world.run("operator list"), outcome(0, table, ""));
    let enclaves: serde_json::Value =
        serde_json::from_str(&world.run("enclave list -o json").stdout).unwrap();
    assert_eq!(enclaves[1]["lag"], 2);
}

#[test]
fn whoami_tells_name_role_and_organisation() {
    let table = "NAME    ROLE        ORGANISATION\nann     operator    default\n";
    assert_eq!(world().run("whoami"), outcome(0, table, ""));
}

#[test]
fn the_screen_shows_credentials_that_come_to_their_end() {
    let world = World::new(Stub::new(|asked, _| {
        if !asked.line.contains("/overview") {
            return ok(r#"{"items":[]}"#);
        }
        ok(
            r#"{"version":"0.1.0","organisation":"default","revision":7,"active":0,"isolated":0,"revoked":0,"attention":[{"agent":"a","credential":"gitlab:token","expires_at":"2026-01-31T00:00:00Z"},{"agent":"b","credential":"github:token","expires_at":null,"refused":"revoked"},{"credential":"gitlab:token","expires_at":"2200-01-31T00:00:00Z"},{"credential_provider":"main","credential":"gitlab:token","expires_at":"2200-01-31T00:00:00Z","refused":"its token was revoked"}]}"#,
        )
    }));
    let text = world.run("status").stdout;
    for row in [
        "gitlab:token    a       2026-01-31T00:00:00Z    has ended",
        "github:token    b       -                       refused by the provider: revoked",
        "gitlab:token    -       2200-01-31T00:00:00Z    ends in ",
        "gitlab:token    main    2200-01-31T00:00:00Z    the credential provider is inactive: its token was revoked",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
}

#[test]
fn the_screen_shows_what_is_wrong_with_credential_providers() {
    const PROVIDER: &str = r#"{"id":"p1","name":"company","provider":"gitlab","instance_url":"https://gitlab.com","group_id":7,"provisioning_mode":"service_account","rotate_every_seconds":null,"status":"inactive","token_expires_at":null,"next_rotation_at":null,"created_at":"2026-01-31T00:00:00Z"}"#;
    const DEBT: &str = r#"{"id":"1","agent":"a","credential_provider":"company","kind":"service account","name":"n","since":"2026-01-31T00:00:00Z","attempts":3,"next_at":"2026-01-31T00:00:00Z"}"#;
    let world = World::new(Stub::new(|asked, _| {
        if asked.line.contains("/overview") {
            return ok(
                r#"{"version":"0.1.0","organisation":"default","revision":7,"active":0,"isolated":0,"revoked":0}"#,
            );
        }
        let items = if asked.line.contains("/debts") {
            DEBT
        } else if asked.line.contains("/credential-providers") {
            PROVIDER
        } else {
            ""
        };
        ok(&format!(r#"{{"items":[{items}]}}"#))
    }));
    let text = world.run("status").stdout;
    assert!(text.contains("credential providers: inactive: company; dvx credential-provider list"), "{text}");
    assert!(text.contains("still to be removed at providers: 1; dvx credential-provider debts"), "{text}");
}
