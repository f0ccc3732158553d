//! Values on their way in.

use std::fs;

use crate::stub::{Stub, json, ok};
use crate::support::{Outcome, World, outcome};

const INFO: &str = r#"{"name":"gitlab:token","scope":"agent","agent_accessible":false,"version":2,"updated_at":"2026-01-31T00:00:00Z","display_name":"my-user","expires_at":"2036-01-01T00:00:00Z"}"#;

fn world() -> World {
    World::new(Stub::new(|asked, _| match asked.line.split(' ').next() {
        Some("PUT") => json(200, Some(3), INFO),
        _ => ok(r#"{"revision":3,"complete":true,"missing":[]}"#),
    }))
}

/// The body of the only change.
fn sent(world: &World) -> String {
    let asked = world.stub.asked();
    asked.into_iter().find(|asked| asked.line.starts_with("PUT")).unwrap().body
}

#[test]
fn a_token_comes_from_stdin_with_what_is_about_it() {
    let world = world();
    let line = "agent secret set a gitlab:token --from-file - --no-agent-accessible --display-name my-user \
                --auth-type service_account --instance-url https://GitLab.example --expires-at 2036-01-01";
    let table = "NAME            SCOPE    ACCESSIBLE    VERSION    UPDATED                 IDENTITY    INSTANCE    EXPIRES\n\
                 gitlab:token    agent    no            2          2026-01-31T00:00:00Z    my-user     -           2036-01-01T00:00:00Z\n";
    assert_eq!(world.run_with(line, "glpat-x\n"), outcome(0, table, ""));
    assert_eq!(
        sent(&world),
        r#"{"value":"glpat-x","agent_accessible":false,"display_name":"my-user","auth_type":"service_account","instance_url":"https://gitlab.example","expires_at":"2036-01-01T00:00:00Z"}"#
    );
    assert_eq!(
        world.stub.lines(),
        ["PUT /api/v1/agents/a/secrets/gitlab:token", "GET /api/v1/deliveries/3?agent=a&wait_seconds=0"]
    );
}

#[test]
fn a_piped_value_needs_no_flag_and_loses_one_newline() {
    let world = world();
    assert_eq!(world.run_with("secret set X", " two\nlines\n\n").status, 0);
    assert_eq!(sent(&world), r#"{"value":" two\nlines\n","agent_accessible":true}"#);
    assert_eq!(world.stub.lines(), ["PUT /api/v1/secrets/X", "GET /api/v1/deliveries/3?wait_seconds=0"]);
}

#[test]
fn a_file_is_taken_as_it_is() {
    let world = world();
    fs::write(world.base.path().join("f"), "x\n").unwrap();
    assert_eq!(world.run("secret set X --from-file f -o json").stdout, format!("{INFO}\n"));
    assert_eq!(sent(&world), r#"{"value":"x\n","agent_accessible":true}"#);
}

#[test]
fn what_is_no_value_is_refused_before_anything_is_sent() {
    let large = "x".repeat(64 * 1024 + 1);
    for (line, stdin, why) in [
        ("agent secret set a gitlab:token", "", "the token is empty"),
        ("agent secret set a gitlab:token", "planted x\n", "white space"),
        ("agent secret set a gitlab:token", "planted\n\n", "white space"),
        ("agent secret set a gitlab:token --value planted\u{e9}", "", "non-ASCII"),
        ("secret set X", large.as_str(), "a value has at most 65536 bytes (64 KiB)"),
        (
            "secret set X --from-file /no/such/file",
            "",
            "cannot read /no/such/file: no such file or directory",
        ),
        ("secret set X --display-name me", "x", "it is about credentials"),
        ("agent secret set a gitlab:token --expires-at 2036-01-01", "x", "it is about credentials"),
    ] {
        let world = world();
        let Outcome { status, stdout, stderr } = world.run_with(line, stdin);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(why) && !stderr.contains("planted"), "{line}: {stderr}");
        assert!(world.stub.asked().is_empty(), "{line}");
    }
}

#[test]
fn the_largest_value_is_sent() {
    let world = world();
    assert_eq!(world.run_with("secret set X", &"x".repeat(64 * 1024)).status, 0);
    assert_eq!(sent(&world).len(), 64 * 1024 + r#"{"value":"","agent_accessible":true}"#.len());
}

#[test]
fn lists_have_no_values() {
    let world = World::new(Stub::new(|_, _| ok(&format!(r#"{{"items":[{INFO}]}}"#))));
    let listing = world.run("agent secret list a -o json");
    assert_eq!(listing, outcome(0, &format!("[{INFO}]\n"), ""));
    assert_eq!(world.run("secret list").status, 0);
    assert_eq!(
        world.stub.lines(),
        ["GET /api/v1/agents/a/secrets?limit=1000", "GET /api/v1/secrets?limit=1000"]
    );
}
