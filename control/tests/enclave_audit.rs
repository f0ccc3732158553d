//! Brokers' audit logs as they come in, and everything that is remembered as it goes out.

use dvx_tests::{ControlPlane, EnclaveClient, Request, State};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn lab() -> (ControlPlane, EnclaveClient) {
    let control = ControlPlane::start();
    let broker = EnclaveClient::of(&control, 0, control.admin().create_enclave("lab"));
    (control, broker)
}

fn hash(line: &str) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines of a chain.
fn lines(from: u64, to: u64, mut prev: String, subject: &str) -> Vec<String> {
    let line = |seq| {
        let line = json!({"time": "2026-11-25T10:00:00.5Z", "seq": seq, "enclave": "lab", "agent": "a",
            "uid": 1001, "action": "credential.get", "subject": subject, "decision": "served", "prev": prev})
        .to_string();
        prev = hash(&line);
        line
    };
    (from..=to).map(line).collect()
}

async fn ship(broker: &EnclaveClient, lines: &[String]) -> (u16, Value) {
    let answer = broker.post("/v1/enclave/audit", lines.join("\n") + "\n").await;
    let Ok((status, body)) = answer else { return (0, Value::Null) };
    (status.as_u16(), serde_json::from_slice(&body).unwrap_or_default())
}

fn of_broker(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|event| event["seq"].as_u64()).collect()
}

fn actions(events: &[Value], prefix: &str) -> Vec<String> {
    let actions = events.iter().map(|event| event["action"].as_str().unwrap_or_default().to_owned());
    actions.filter(|action| action.starts_with(prefix)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_stored_once_and_listed_with_the_other_events_in_one_order() {
    let (control, broker) = lab();
    let chain = lines(1, 5, "0".repeat(64), "gitlab");
    assert_eq!(ship(&broker, &chain[..3]).await, (200, json!({"seq": 3})));
    control.admin().create_agent("a", "lab", 1001);
    assert_eq!(ship(&broker, &chain).await, (200, json!({"seq": 5})));
    assert_eq!(ship(&broker, &chain[..2]).await, (200, json!({"seq": 5})));
    let events = control.admin().audit("");
    assert_eq!(of_broker(&events), [1, 2, 3, 4, 5]);
    let numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
    let place = |action: &str| events.iter().position(|event| event["action"] == action).unwrap();
    assert!(place("agent.create") > place("credential.get"));
    assert_eq!(actions(&events, "audit."), Vec::<String>::new());
    // By agent, also when that is gone.
    control.admin().change("DELETE", "/agents/a", &json!(null));
    let events = control.admin().audit("agent=a");
    assert_eq!((of_broker(&events).len(), actions(&events, "agent.").len()), (5, 2));
    assert_eq!(of_broker(&control.admin().audit("agent=b")).len(), 0);
    assert_eq!(of_broker(&control.admin().audit("until=2026-11-25T10:00:00Z")).len(), 0);
    assert_eq!(of_broker(&control.admin().audit("since=2026-11-25T10:00:00.5Z")).len(), 5);
    let hello = broker.connected(&mut State::default()).await.hello.clone();
    assert_eq!((hello.audit_seq, hello.audit_head), (5, Some(hash(&chain[4]))));
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_breaks_and_new_beginnings_raise_events_once() {
    let (control, broker) = lab();
    let chain = lines(1, 6, "0".repeat(64), "gitlab");
    ship(&broker, &chain[..2]).await;
    ship(&broker, &chain[4..]).await;
    assert_eq!(actions(&control.admin().audit(""), "audit."), ["audit.gap"]);
    // At least once means that it all comes again.
    ship(&broker, &chain[4..]).await;
    let forged = lines(7, 7, hash("another line"), "gitlab");
    ship(&broker, &forged).await;
    ship(&broker, &forged).await;
    assert_eq!(actions(&control.admin().audit(""), "audit."), ["audit.gap", "audit.broken"]);
    let rewritten = lines(2, 2, hash(&chain[0]), "github");
    ship(&broker, &rewritten).await;
    ship(&broker, &lines(1, 1, "0".repeat(64), "anew")).await;
    let events = control.admin().audit("");
    assert_eq!(actions(&events, "audit."), ["audit.gap", "audit.broken", "audit.broken", "audit.gap"]);
    assert_eq!(of_broker(&events), [1, 2, 5, 6, 7, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_bad_line_is_refused_whole() {
    let (control, broker) = lab();
    let mut chain = lines(1, 3, "0".repeat(64), "gitlab");
    chain.push("{}".to_owned());
    let (status, problem) = ship(&broker, &chain).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("line 3"), "{problem}");
    assert_eq!(of_broker(&control.admin().audit("")).len(), 0);
    let others = lines(1, 1, "0".repeat(64), "gitlab").remove(0).replace("\"lab\"", "\"other\"");
    assert_eq!(ship(&broker, &[others]).await.0, 400);
    assert_eq!(ship(&broker, &lines(1, 1001, "0".repeat(64), "gitlab")).await.0, 413);
    assert_eq!(broker.post("/v1/enclave/audit", vec![b'x'; 4 * 1024 * 1024 + 1]).await.unwrap().0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_log_hears_of_an_event_at_once_and_of_each_once() {
    let (control, broker) = lab();
    let last = |events: &[Value]| events.last().unwrap()["number"].as_u64().unwrap();
    let after = last(&control.admin().audit(""));
    let follower = control.admin();
    let waiting =
        tokio::task::spawn_blocking(move || follower.get(&format!("/audit?after={after}&wait_seconds=20")));
    ship(&broker, &lines(1, 1, "0".repeat(64), "gitlab")).await;
    let page = waiting.await.unwrap();
    assert_eq!(of_broker(page["items"].as_array().unwrap()), [1]);
    let nothing = control.admin().get(&format!("/audit?after={}&wait_seconds=1", after + 1));
    assert_eq!(nothing["items"].as_array().unwrap().len(), 0, "{nothing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_event_in_either_format() {
    let (control, broker) = lab();
    let chain = lines(1, 1000, "0".repeat(64), "gitlab");
    assert_eq!(ship(&broker, &chain).await.0, 200);
    let export = |query: &str| {
        let response = control.admin().send(&Request::get(&format!("/api/v1/audit/export{query}")));
        assert_eq!(response.status, 200, "{query}");
        let lines: Vec<Value> =
            response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines
    };
    let events = export("");
    assert_eq!(of_broker(&events).len(), 1000);
    assert_eq!(events, control.admin().audit(""));
    let ocsf = export("?format=ocsf");
    assert_eq!(ocsf.len(), events.len());
    assert!(ocsf.iter().all(|event| event["metadata"]["version"] == "1.5.0"));
    assert_eq!(export("?agent=a").len(), 1000);
    let response = control.admin().send(&Request::get("/api/v1/audit/export?format=csv"));
    assert_eq!(response.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_credentials_of_ones_own_agents_can_be_rejected() {
    let (control, broker) = lab();
    let admin = control.admin();
    let other = EnclaveClient::of(&control, 0, admin.create_enclave("other"));
    admin.create_agent("a", "lab", 1001);
    admin.set_token("a", "gitlab", "glpat-x");
    let mut state = State::default();
    broker.connected(&mut state).await;
    let (_, sealed) = state.secrets.values().next().unwrap();
    let path = format!("/v1/enclave/credentials/{}/rejected", sealed.credential.as_deref().unwrap());
    let body = r#"{"fingerprint":"ba7816bf8f01cfea"}"#;
    assert_eq!(other.post(&path, body).await.unwrap().0, 404);
    assert_eq!(broker.post("/v1/enclave/credentials/x/rejected", body).await.unwrap().0, 404);
    assert_eq!(broker.post(&path, "{}").await.unwrap().0, 400);
    let (status, answer) = broker.post(&path, body).await.unwrap();
    assert_eq!((status.as_u16(), &answer[..]), (200, &br#"{"verdict":"unknown"}"#[..]));
    let events = admin.audit("agent=a");
    let event = events.iter().find(|event| event["action"] == "credential.rejected").unwrap();
    assert_eq!((&event["actor"], &event["subject"]), (&json!("enclave:lab"), &json!("gitlab:token")));
    assert_eq!(events.iter().filter(|event| event["action"] == "credential.rejected").count(), 1);
}
