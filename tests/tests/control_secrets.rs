//! Secrets of agents and of the organisation, from the operator to the agent.

use std::fs;

use dvx_proto::Code;
use dvx_tests::{Agent, ControlPlane, Outcome, World, fresh_uid, run, run_with_input, skip_without_root};
use serde_json::{Value, json};

const MAX: usize = 65_536;

fn world(control: &ControlPlane) -> World {
    let mut world = World::single().control(control).trusted().build();
    world.start();
    world
}

/// Runs `dvx` with this on its stdin.
fn dvx(control: &ControlPlane, arguments: &[&str], input: &[u8]) -> Outcome {
    run_with_input(control.dvx_command().args(arguments), input)
}

/// What the agent gets for a name, after everything so far is in force.
#[track_caller]
fn served(control: &ControlPlane, world: &World, name: &str) -> Option<Vec<u8>> {
    let revision = control.admin().get("/overview")["revision"].as_u64().unwrap();
    control.admin().delivered(revision);
    let outcome = world.dvxir("alpha", &["secrets", "get", name]);
    assert!([0, 3].contains(&outcome.status), "{}", outcome.stderr);
    (outcome.status == 0).then_some(outcome.stdout)
}

#[test]
fn an_agents_own_secret_wins_over_the_organisations() {
    let control = ControlPlane::start();
    let world = world(&control);
    let names = || world.dvxir("alpha", &["secrets", "list"]).success();
    dvx(&control, &["secret", "set", "NAME", "--from-file", "-"], b"organisation\n").success();
    assert_eq!(served(&control, &world, "NAME").as_deref(), Some(&b"organisation"[..]));
    dvx(&control, &["agent", "secret", "set", "alpha", "NAME"], b"agent\n").success();
    assert_eq!(served(&control, &world, "NAME").as_deref(), Some(&b"agent"[..]));
    assert_eq!(names(), "NAME\n", "one name, once");
    dvx(&control, &["secret", "set", "NAME"], b"organisation again").success();
    assert_eq!(served(&control, &world, "NAME").as_deref(), Some(&b"agent"[..]), "still its own");
    dvx(&control, &["agent", "secret", "delete", "alpha", "NAME", "--yes"], b"").success();
    assert_eq!(served(&control, &world, "NAME").as_deref(), Some(&b"organisation again"[..]));
    dvx(&control, &["secret", "delete", "NAME", "--yes"], b"").success();
    assert_eq!(served(&control, &world, "NAME"), None);
    assert_eq!(names(), "");
}

#[test]
fn a_hidden_secret_of_the_agent_hides_the_organisations_open_one() {
    let control = ControlPlane::start();
    let world = world(&control);
    control.admin().set_secret(None, "NAME", "open to all");
    assert!(served(&control, &world, "NAME").is_some());
    dvx(&control, &["agent", "secret", "set", "alpha", "NAME", "--no-agent-accessible"], b"hidden").success();
    assert_eq!(served(&control, &world, "NAME"), None, "the agent's own wins, and is not for it");
    assert_eq!(world.dvxir("alpha", &["secrets", "list"]).success(), "");
}

#[test]
fn one_agents_secret_is_not_anothers() {
    if skip_without_root("one_agents_secret_is_not_anothers") {
        return;
    }
    let control = ControlPlane::start();
    let mut world = World::pair().control(&control).build();
    let mut elsewhere =
        World::builder().enclave("lab-2").agent(Agent::new("gamma", fresh_uid())).control(&control).build();
    world.start();
    elsewhere.start();
    let token = control.admin().plant("alpha", "gitlab");
    let revision = control.admin().set_secret(Some("alpha"), "NAME", "for alpha alone");
    control.admin().delivered(revision);
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    for (world, agent) in [(&world, "beta"), (&elsewhere, "gamma")] {
        let caller = world.caller(agent);
        for path in ["/v1/agent/credentials/gitlab", "/v1/agent/secrets/NAME"] {
            assert_eq!(caller.get(path).problem(), Code::NotFound, "{agent} {path}");
        }
    }
    let revision = control.admin().set_secret(None, "EVERYBODYS", "for all");
    control.admin().delivered(revision);
    for (world, agent) in [(&world, "alpha"), (&world, "beta"), (&elsewhere, "gamma")] {
        assert_eq!(world.caller(agent).get("/v1/agent/secrets/EVERYBODYS").json()["value"], "for all");
    }
}

#[test]
fn what_agents_must_not_access_becomes_a_credential_or_nothing() {
    let control = ControlPlane::start();
    let world = world(&control);
    let token = control.planted.token("a token set by hand");
    let set =
        ["agent", "secret", "set", "alpha", "gitlab:token", "--from-file", "-", "--no-agent-accessible"];
    let described = ["--display-name", "my-user", "--instance-url", "https://gitlab.example:8443"];
    let ends = ["--expires-at", "2099-01-02T03:04:05Z", "--auth-type", "service_account"];
    dvx(&control, &[&set[..], &described, &ends].concat(), format!("{token}\n").as_bytes()).success();
    dvx(&control, &["agent", "secret", "set", "alpha", "HIDDEN", "--no-agent-accessible"], b"hidden")
        .success();
    assert_eq!(served(&control, &world, "HIDDEN"), None);
    assert_eq!(served(&control, &world, "gitlab:token"), None);
    assert_eq!(world.dvxir("alpha", &["secrets", "list"]).success(), "");
    let listed = world.dvxir("alpha", &["credentials", "list"]).success();
    assert_eq!(listed, "gitlab    service_account    my-user\n");
    assert_eq!(world.dvxir("alpha", &["credentials", "get", "gitlab"]).success(), token);
    let answer = world.caller("alpha").get("/v1/agent/credentials/gitlab");
    assert_eq!(answer.ok_json(), format!(r#"{{"token":"{token}","expires_at":"2099-01-02T03:04:05Z"}}"#));
    let git = b"protocol=https\nhost=gitlab.example:8443\n\n";
    let mut command = world.command("alpha", world.program("dvxir"));
    let helped = run_with_input(command.args(["git-credential", "get"]), git).success();
    assert!(helped.contains(&format!("password={token}\n")), "the token goes to its instance");
    let links = control.dvx(&["agent", "integration", "list", "alpha", "-o", "json"]).success();
    let links: Value = serde_json::from_str(&links).unwrap();
    assert_eq!((&links[0]["provider"], &links[0]["display_name"]), (&json!("gitlab"), &json!("my-user")));
    control.dvx(&["agent", "secret", "delete", "alpha", "gitlab:token", "--yes"]).success();
    assert_eq!(served(&control, &world, "gitlab:token"), None);
    world.dvxir("alpha", &["credentials", "get", "gitlab"]).failure(3);
}

#[test]
fn a_replaced_token_is_served_at_once_and_the_old_one_never_again() {
    let control = ControlPlane::start();
    let world = world(&control);
    let caller = world.caller("alpha");
    for _ in 0..20 {
        let token = control.planted.token("a replaced token");
        let revision = control.admin().set_token("alpha", "gitlab", &token);
        control.admin().delivered(revision);
        assert_eq!(caller.get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    }
}

#[test]
fn values_come_out_byte_for_byte() {
    let control = ControlPlane::start();
    let world = world(&control);
    let exotic = [
        "\"quotes\" and \\back\\slashes\\",
        "\n\nlines\r\n\ttabs\n",
        "ünï©ødé 🔑 \u{202e}right to left\u{feff}",
        "\u{0}\u{1}\u{7f} control characters",
        " ",
        "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n",
        r#"{"json":"\u0041"}"#,
        "--looks-like-an-option",
    ];
    for (number, value) in exotic.iter().enumerate() {
        let name = format!("V{number}");
        control.admin().set_secret(Some("alpha"), &name, value);
        assert_eq!(served(&control, &world, &name).as_deref(), Some(value.as_bytes()), "{value:?}");
        // By a file it is taken as it is.
        let path = control.ground.path("home/value");
        fs::write(&path, value).unwrap();
        let file = path.to_str().unwrap();
        control.dvx(&["agent", "secret", "set", "alpha", &name, "--from-file", file]).success();
        assert_eq!(served(&control, &world, &name).as_deref(), Some(value.as_bytes()), "{value:?}");
    }
}

#[test]
fn a_value_has_at_most_sixty_four_kibibytes() {
    let control = ControlPlane::start();
    let world = world(&control);
    let path = control.ground.path("home/large");
    let set = |content: &str| {
        fs::write(&path, content).unwrap();
        let file = path.to_str().unwrap();
        run(control.dvx_command().args(["agent", "secret", "set", "alpha", "LARGE", "--from-file", file]))
    };
    // The largest values, those that need the most escaping in JSON among them.
    for letter in ["x", "\"", "\u{1}"] {
        let largest = letter.repeat(MAX);
        set(&largest).success();
        assert_eq!(served(&control, &world, "LARGE").as_deref(), Some(largest.as_bytes()));
    }
    let kept = "kept".repeat(4);
    set(&kept).success();
    let refused = set(&"x".repeat(MAX + 1));
    assert!(refused.failure(2).contains("65536"), "the limit is stated: {}", refused.stderr);
    // And by the control plane itself, whoever asks.
    let body = json!({"value": "x".repeat(MAX + 1)});
    let answer = control.admin().call("PUT", "/agents/alpha/secrets/LARGE", &body);
    assert_eq!(answer.problem(), Code::BodyTooLarge);
    assert!(answer.text().contains("65536"), "{}", answer.text());
    assert_eq!(served(&control, &world, "LARGE").as_deref(), Some(kept.as_bytes()), "nothing was changed");
}

#[test]
fn values_that_are_no_token_are_refused_where_a_token_belongs() {
    let control = ControlPlane::start();
    world(&control);
    let set = ["agent", "secret", "set", "alpha", "gitlab:token", "--no-agent-accessible"];
    for bad in ["", "\n", "two words\n", "glpat-x\n\n", "tab\there"] {
        let refused = dvx(&control, &set, bad.as_bytes());
        assert!([1, 2].contains(&refused.status), "{bad:?}: {}", refused.stderr);
        let body = json!({"value": bad, "agent_accessible": false});
        let answer = control.admin().call("PUT", "/agents/alpha/secrets/gitlab:token", &body);
        assert_eq!(answer.problem(), Code::BadRequest, "{bad:?}");
    }
    assert_eq!(control.admin().get("/agents/alpha/secrets")["items"], json!([]));
}

#[test]
fn values_never_come_back_to_operators() {
    let control = ControlPlane::start();
    world(&control);
    let value = control.planted.token("a value");
    control.admin().set_secret(Some("alpha"), "NAME", &value);
    control.admin().set_secret(None, "NAME", &value);
    control.admin().set_token("alpha", "gitlab", &value);
    let mut paths =
        ["/secrets", "/agents/alpha/secrets", "/agents/alpha/integrations", "/agents/alpha"].to_vec();
    paths.extend([
        "/agents",
        "/audit",
        "/audit/export?format=jsonl",
        "/audit/export?format=ocsf",
        "/overview",
    ]);
    paths.extend(["/secrets/NAME", "/agents/alpha/secrets/NAME", "/enclaves", "/operators", "/openapi.json"]);
    for path in paths {
        let answer = control.admin().call("GET", path, &Value::Null);
        control.assert_clean(path, &answer.body);
    }
    for command in [
        &["agent", "secret", "list", "alpha", "-o", "json"][..],
        &["secret", "list"],
        &["agent", "get", "alpha"],
        &["audit", "list"],
        &["status"],
    ] {
        control.assert_clean("dvx's answer", &control.dvx(command).stdout);
    }
}
