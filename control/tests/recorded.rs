//! What the audit log says of operators, and what it does not let them fill.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use dvx_proto::Code;
use dvx_tests::{ControlPlane, Request, eventually_some, run};
use serde_json::{Value, json};

/// The newest event of an action.
fn event(control: &ControlPlane, action: &str) -> Value {
    eventually_some(action, || {
        control.admin().audit("").into_iter().rev().find(|event| event["action"] == action)
    })
}

#[test]
fn what_was_done_is_put_down_to_who_did_it() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    let token = admin.create_operator("colleague", "operator");
    let request = Request::post("/api/v1/agents/alpha/isolate").json("{\"reason\":\"odd requests\"}");
    let answer = control.operator_by_tls(Some(&token)).send(&request);
    let isolated = event(&control, "agent.isolate");
    assert_eq!(isolated["request_id"].as_str(), answer.header("x-request-id"));
    for (member, value) in [
        ("actor", "colleague"),
        ("role", "operator"),
        ("agent", "alpha"),
        ("decision", "allowed"),
        ("reason", "odd requests"),
    ] {
        assert_eq!(isolated[member], value, "{isolated}");
    }
    for action in ["operator.create", "enclave.create", "agent.create"] {
        assert_eq!(event(&control, action)["decision"], "allowed", "{action}");
    }
}

#[test]
fn refusals_of_operators_and_of_strangers_are_recorded() {
    let control = ControlPlane::start();
    let token = control.admin().create_operator("reader", "auditor");
    let refused = control.operator(&token).call("DELETE", "/operators/admin", &Value::Null);
    assert_eq!(refused.problem(), Code::RoleForbidden);
    let denied = event(&control, "operator.delete");
    assert_eq!((&denied["actor"], &denied["decision"]), (&json!("reader"), &json!("denied")), "{denied}");
    assert_eq!(denied["request_id"].as_str(), refused.header("x-request-id"));
    let stranger = control.operator_by_tls(Some("dvxo_guessed")).send(&Request::get("/api/v1/agents"));
    assert_eq!(stranger.problem(), Code::TokenInvalid);
    let denied = event(&control, "operator.authenticate");
    assert_eq!(
        (&denied["actor"], &denied["reason"]),
        (&json!("127.0.0.1"), &json!("token-invalid")),
        "{denied}"
    );
}

#[test]
fn a_guesser_cannot_fill_the_audit_log() {
    let control = ControlPlane::start();
    let stranger = control.operator_by_tls(None);
    let mut connection = stranger.connect().unwrap();
    for _ in 0..600 {
        let guess = Request::get("/api/v1/agents").bearer("dvxo_guess");
        assert_eq!(connection.exchange(&guess).status, 401);
    }
    event(&control, "operator.authenticate");
    let events = control.admin().audit("");
    let recorded = events.iter().filter(|event| event["action"] == "operator.authenticate").count();
    assert!(recorded < 300, "{recorded}");
}

#[test]
fn a_rekey_leaves_the_old_key_without_use() {
    let mut control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    admin.plant("alpha", "gitlab");
    let new = control.ground.path("keys/kek.new");
    let made = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n";
    control.write_private(&new, made);
    let name = new.to_str().unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
    let readable = run(&mut control.command(&["rekey", "--new-kek-file", name]));
    assert_eq!(readable.status, 78, "{}", readable.stderr);
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    let outcome = run(&mut control.command(&["rekey", "--new-kek-file", name, "-o", "json"]));
    let answer: Value = serde_json::from_str(&outcome.success()).unwrap();
    assert_eq!(answer, json!({"values": 1, "unreadable": 0}));
    // The process that serves goes on, and writes with the new key.
    admin.plant("alpha", "gitlab");
    control.stop();
    let old = run(control.command(&["serve"]).env("RUST_LOG", "off"));
    assert_eq!(old.status, 78, "{}", old.stderr);
    assert!(old.stderr.contains("install the new key file"), "{}", old.stderr);
    control.write_private(&control.kek_path(), made);
    control.start_all();
    assert_eq!(control.admin().get("/agents/alpha")["credentials"], 1);
}
