//! An agent's life, from the operator's command to what the agent is told: in force when the command returns.

use dvx_proto::Code;
use dvx_tests::{ControlPlane, Request, World, run, skip_without_root};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const GITLAB: &str = "/v1/agent/credentials/gitlab";
const GET: &[&str] = &["credentials", "get", "gitlab"];

/// A running broker with the agent `alpha`, and its token.
fn with_token(control: &ControlPlane) -> (World, String) {
    let mut world = World::single().control(control).trusted().build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    (world, token)
}

#[test]
fn an_isolated_agent_is_refused_from_the_moment_the_command_returns() {
    let control = ControlPlane::start();
    let (world, token) = with_token(&control);
    let caller = world.caller("alpha");
    let mut kept = caller.unix();
    for round in 0..5 {
        assert_eq!(world.dvxir("alpha", GET).success(), token);
        let reason = format!("round {round} of \"trying\"");
        control.dvx(&["agent", "isolate", "alpha", "--reason", &reason]).success();
        // No waiting here: in force means now, on connections that are open already too.
        assert_eq!(kept.exchange(&Request::get(GITLAB)).problem(), Code::AgentIsolated);
        assert_eq!(caller.get("/v1/agent/secrets").problem(), Code::AgentIsolated);
        let told = world.dvxir("alpha", GET);
        assert!(told.failure(4).contains("agent-isolated"), "{}", told.stderr);
        assert_eq!(caller.get("/v1/agent/whoami").json()["state"], "isolated");
        let shown: Value =
            serde_json::from_str(&control.dvx(&["agent", "get", "alpha", "-o", "json"]).success())
                .expect("-o json is JSON");
        assert_eq!((&shown["state"], &shown["reason"]), (&json!("isolated"), &json!(reason)));
        control.dvx(&["agent", "restore", "alpha"]).success();
        assert_eq!(kept.exchange(&Request::get(GITLAB)).json()["token"], token.as_str());
    }
}

#[test]
fn a_revoked_agent_comes_back_by_reprovisioning_alone() {
    let control = ControlPlane::start();
    let (world, token) = with_token(&control);
    let caller = world.caller("alpha");
    control.dvx(&["agent", "revoke", "alpha", "--reason", "gone for good"]).success();
    assert_eq!(caller.get(GITLAB).problem(), Code::AgentRevoked);
    let told = world.dvxir("alpha", GET);
    assert!(told.failure(4).contains("agent-revoked"), "{}", told.stderr);
    let refused = control.dvx(&["agent", "restore", "alpha"]);
    assert!(refused.failure(1).contains("reprovision"), "{}", refused.stderr);
    assert_eq!(caller.get(GITLAB).problem(), Code::AgentRevoked, "a refused command changes nothing");
    control.dvx(&["agent", "reprovision", "alpha"]).success();
    assert_eq!(world.dvxir("alpha", GET).success(), token);
}

#[test]
fn isolating_twice_changes_the_reason_and_nothing_else() {
    let control = ControlPlane::start();
    let (world, _) = with_token(&control);
    for reason in ["first", "second"] {
        control.dvx(&["agent", "isolate", "alpha", "--reason", reason]).success();
    }
    assert_eq!(control.admin().get("/agents/alpha")["reason"], "second");
    assert_eq!(world.caller("alpha").get(GITLAB).problem(), Code::AgentIsolated);
}

#[test]
fn a_deleted_agent_is_nobody_and_its_name_inherits_nothing() {
    let control = ControlPlane::start();
    let (world, _) = with_token(&control);
    let caller = world.caller("alpha");
    let old = control.admin().get("/agents/alpha")["id"].clone();
    control.dvx(&["agent", "delete", "alpha", "--yes"]).success();
    assert_eq!(caller.get(GITLAB).problem(), Code::PeerUnknown, "in force when the command returns");
    control.dvx(&["agent", "get", "alpha"]).failure(3);
    let uid = world.uid_of("alpha").to_string();
    control.dvx(&["agent", "create", "alpha", "--enclave", "lab-1", "--unix-user", &uid]).success();
    assert_ne!(control.admin().get("/agents/alpha")["id"], old, "ids are never used again");
    let revision = control.admin().get("/overview")["revision"].as_u64().unwrap();
    control.admin().delivered(revision);
    assert_eq!(caller.get(GITLAB).problem(), Code::NotFound);
    assert_eq!(caller.get("/v1/agent/credentials").ok_json(), "[]");
    let audit = control.admin().audit("agent=alpha");
    let about_the_old = |action: &str| audit.iter().any(|event| event["action"] == action);
    assert!(about_the_old("agent.delete") && about_the_old("secret.set"), "the audit log remembers");
}

#[test]
fn an_enclave_that_does_not_confirm_is_named() {
    let control = ControlPlane::start();
    let (mut world, token) = with_token(&control);
    world.broker().signal(Signal::SIGSTOP);
    let outcome = control.dvx(&["agent", "isolate", "alpha", "--reason", "unreachable", "--timeout", "1"]);
    world.broker().signal(Signal::SIGCONT);
    assert!(outcome.failure(5).contains("lab-1"), "{}", outcome.stderr);
    // It was carried out all the same, and reaches the broker by itself.
    assert_eq!(control.admin().get("/agents/alpha")["state"], "isolated");
    let revision = control.admin().get("/overview")["revision"].as_u64().unwrap();
    control.admin().delivered(revision);
    assert_eq!(world.caller("alpha").get(GITLAB).problem(), Code::AgentIsolated);
    control.dvx(&["agent", "restore", "alpha"]).success();
    assert_eq!(world.dvxir("alpha", GET).success(), token);
}

#[test]
fn a_broker_that_is_gone_counts_until_it_would_have_stopped_serving() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).set("upstream", "max_stale", "\"3s\"").build();
    world.start();
    world.kill();
    let outcome = control.dvx(&["agent", "isolate", "alpha", "--reason", "crashed", "--timeout", "0"]);
    assert!(outcome.failure(5).contains("lab-1"), "{}", outcome.stderr);
    // After max_stale a broker without word serves nothing, wherever it is.
    control.dvx(&["agent", "isolate", "alpha", "--reason", "crashed", "--timeout", "20"]).success();
}

#[test]
fn an_enclave_that_never_connected_is_no_obstacle() {
    let control = ControlPlane::start();
    control.dvx(&["enclave", "create", "empty"]).success();
    control.dvx(&["agent", "create", "ghost", "--enclave", "empty", "--unix-user", "61000"]).success();
    for command in [
        ["agent", "isolate", "ghost", "--reason=none", "--timeout=1"],
        ["agent", "restore", "ghost", "--timeout=1", "--output=json"],
    ] {
        control.dvx(&command).success();
    }
}

#[test]
fn a_deleted_enclaves_key_is_dead_and_its_agents_are_gone() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).set("upstream", "max_stale", "\"2s\"").build();
    control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(caller.get(GITLAB).status, 200);
    control.dvx(&["enclave", "delete", "lab-1", "--yes"]).success();
    control.dvx(&["agent", "get", "alpha"]).failure(3);
    dvx_tests::eventually("the broker serves nothing any more", || caller.get(GITLAB).status == 503);
    // An enclave of the same name is another one.
    control.dvx(&["enclave", "create", "lab-1"]).success();
    world.kill();
    world.start_unready();
    dvx_tests::eventually("the old key is refused", || world.admin("/readyz").text().contains("key"));
    assert_eq!(caller.get(GITLAB).problem(), Code::UpstreamUnavailable);
}

#[test]
fn agents_that_one_process_could_be_at_once_are_refused() {
    let control = ControlPlane::start();
    control.admin().create_enclave("lab-1");
    control.admin().create_enclave("lab-2");
    let create = |name: &str, enclave: &str, more: &[&str]| {
        let mut command = control.dvx_command();
        command.args(["agent", "create", name, "--enclave", enclave, "--unix-user", "61000"]).args(more);
        run(&mut command)
    };
    create("one", "lab-1", &["--unit", "one.service"]).success();
    let refused = create("two", "lab-1", &[]);
    assert!(refused.failure(1).contains("one"), "the other agent is named: {}", refused.stderr);
    create("two", "lab-1", &["--unit", "two.service"]).success();
    create("three", "lab-2", &[]).success();
}

#[test]
fn on_one_machine_a_broker_asks_over_the_unix_socket_and_only_whom_it_trusts() {
    const NAME: &str = "on_one_machine_a_broker_asks_over_the_unix_socket_and_only_whom_it_trusts";
    if skip_without_root(NAME) {
        return;
    }
    let mut control = ControlPlane::start();
    let url = format!("unix://{}", control.replica().socket.display());
    let world = || World::single().control_at(&control, &url).set("upstream", "ca_file", "");
    let mut named = world().env("DVX_CONTROL_USER", &control.uid.to_string()).build();
    let token = control.admin().plant("alpha", "gitlab");
    named.start();
    assert_eq!(named.caller("alpha").get(GITLAB).json()["token"], token.as_str());
    control.dvx(&["enclave", "delete", "lab-1", "--yes"]).success();
    // Whoever else serves on that path is not shown the key.
    let mut unnamed = world().build();
    unnamed.start_unready();
    dvx_tests::eventually("it says whom it found", || {
        unnamed.admin("/readyz").text().contains(&control.uid.to_string())
    });
    assert_eq!(unnamed.admin("/readyz").status, 503);
}
