use dvx_proto::operator::LineDetails;

use super::*;

/// What the published schema requires of the three classes.
fn schema() -> Value {
    serde_json::from_str(include_str!("required.json")).unwrap()
}

fn control(action: &str, decision: &str) -> AuditEvent {
    AuditEvent {
        number: 7,
        time: "2026-11-25T10:00:00.123456Z".parse().unwrap(),
        actor: "admin".to_owned(),
        role: Some(Role::Admin),
        action: action.to_owned(),
        subject: Some("a".to_owned()),
        agent: None,
        decision: decision.to_owned(),
        reason: Some("test".to_owned()),
        request_id: Some("r-1".to_owned()),
        enclave: None,
        seq: None,
        line: LineDetails::default(),
    }
}

fn broker(action: &str, decision: &str) -> AuditEvent {
    let mut event = control(action, decision);
    event.actor = "a".to_owned();
    event.role = None;
    event.agent = Some("a".to_owned());
    event.enclave = Some("lab-1".to_owned());
    event.seq = Some(12);
    event.line.fingerprint = Some("0123456789abcdef".to_owned());
    event
}

fn bare(mut event: AuditEvent) -> AuditEvent {
    (event.subject, event.agent, event.reason, event.request_id) = (None, None, None, None);
    event
}

fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, name| &value[name])
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn check(event: &Value) {
    let schema = schema();
    let (class, every) = (&schema["classes"][event["class_uid"].to_string()], &schema["every"]);
    for rules in [class, every] {
        for path in texts(&rules["required"]) {
            assert!(!at(event, path).is_null(), "{path} is missing in {event}");
        }
        for (path, names) in rules["one_of"].as_object().unwrap() {
            if let Some(object) = at(event, path).as_object() {
                assert!(texts(names).iter().any(|name| object.contains_key(*name)), "{path} of {event}");
            }
        }
    }
    assert_eq!(event["metadata"]["version"], schema["version"]);
    assert_eq!(event["category_uid"], class["category_uid"]);
    assert!(class["activity_id"].as_array().unwrap().contains(&event["activity_id"]), "{event}");
    assert!(every["severity_id"].as_array().unwrap().contains(&event["severity_id"]), "{event}");
    let number = |name: &str| event[name].as_u64().unwrap();
    assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
}

#[test]
fn every_event_has_what_the_schema_requires_of_its_class() {
    let actions = [
        "agent.create",
        "agent.delete",
        "agent.isolate",
        "agent.restore",
        "agent.revoke",
        "agent.reprovision",
        "operator.create",
        "operator.delete",
        "enclave.create",
        "enclave.delete",
        "secret.set",
        "secret.delete",
        "secret.integrity",
        "integration.link",
        "integration.unlink",
        "integration.rotate",
        "integration.invalid",
        "provider.inactive",
        "audit.gap",
        "audit.broken",
        "credential.rejected",
        "token.invalid",
        "unheard-of",
    ];
    let decisions =
        ["credential.list", "credential.get", "credential.git", "token.issue", "whoami", "unknown"];
    for action in actions {
        for decision in ["allowed", "denied"] {
            check(&super::event(&control(action, decision), "default"));
            check(&super::event(&bare(control(action, decision)), "default"));
        }
    }
    for action in decisions {
        for decision in ["served", "denied", "expired", "limited", "unavailable"] {
            check(&super::event(&broker(action, decision), "default"));
            check(&super::event(&bare(broker(action, decision)), "default"));
        }
    }
}

#[test]
fn classes_are_those_that_their_readers_look_for() {
    let class = |event: AuditEvent| super::event(&event, "default")["type_uid"].as_u64().unwrap();
    assert_eq!(class(control("agent.create", "allowed")), 300_101);
    assert_eq!(class(control("agent.isolate", "allowed")), 300_109);
    assert_eq!(class(control("operator.delete", "denied")), 300_106);
    assert_eq!(class(control("secret.set", "allowed")), 600_303);
    assert_eq!(class(control("secret.integrity", "denied")), 200_401);
    assert_eq!(class(control("audit.gap", "allowed")), 200_401);
    assert_eq!(class(broker("credential.get", "served")), 600_302);
    // A broker cannot raise a finding by what it calls its lines.
    assert_eq!(class(broker("audit.broken", "served")), 600_399);
}

#[test]
fn times_are_milliseconds_and_refusals_failures() {
    let event = super::event(&control("secret.set", "denied"), "default");
    assert_eq!(event["time"], json!(1_795_600_800_123_u64));
    assert_eq!((&event["status_id"], &event["severity_id"]), (&json!(2), &json!(2)));
    assert_eq!(super::event(&broker("credential.get", "served"), "default")["status_id"], json!(1));
}
