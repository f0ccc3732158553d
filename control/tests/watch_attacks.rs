//! Streams under bad circumstances: strangers, readers that do not read, brokers that are deleted.

use std::io;
use std::time::Duration;

use dvx_proto::enclave::{Ack, Frame, Mode};
use dvx_tests::{ControlPlane, EnclaveClient, Endpoint, State, run};
use serde_json::json;
use tokio::time::{Instant, timeout};

fn lab() -> (ControlPlane, EnclaveClient) {
    let control = ControlPlane::start();
    let broker = EnclaveClient::of(&control, 0, control.admin().create_enclave("lab"));
    (control, broker)
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_enclave_gets_401_for_whatever_it_asks() {
    let (control, broker) = lab();
    for key in ["dvxe_wrong", control.token(), "", "lab"] {
        let stranger = EnclaveClient { api_key: key.to_owned(), ..broker.clone() };
        for (method, path) in [
            ("GET", "/v1/enclave/watch"),
            ("GET", "/v1/enclave/watch?revision=x"),
            ("POST", "/v1/enclave/watch"),
            ("POST", "/v1/enclave/ack"),
            ("POST", "/v1/enclave/audit"),
            ("POST", "/v1/enclave/credentials/x/rejected"),
            ("DELETE", "/v1/enclave/nothing"),
            ("GET", "/v1/enclave"),
        ] {
            let bearer = format!("Bearer {}", stranger.api_key);
            let mut connection = stranger.endpoint.connect().await.unwrap();
            let answer = connection.exchange(method, path, &[("authorization", &bearer)], "x").await;
            // A body that nobody has read may cost the connection, but never the answer.
            assert_eq!(answer.unwrap().0, 401, "{method} {path} with {key:?}");
        }
    }
    assert_eq!(broker.post("/v1/enclave/nothing", "").await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_enclave_is_cut_at_once_and_its_key_is_dead() {
    let (control, broker) = lab();
    control.admin().create_agent("a", "lab", 1001);
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    let mut connection = broker.endpoint.connect().await.unwrap();
    let ack = Ack { revision: state.revision.unwrap(), degraded: Vec::new() };
    assert_eq!(broker.ack(&mut connection, &watch, &ack).await.unwrap(), 204);
    control.admin().change("DELETE", "/enclaves/lab", &json!(null));
    assert_eq!(broker.ack(&mut connection, &watch, &ack).await.unwrap(), 401);
    assert_eq!(broker.post("/v1/enclave/audit", "").await.unwrap().0, 401);
    assert!(broker.watch(None).await.is_err());
    let ended = timeout(SOON, async { while let Ok(Some(_)) = watch.next().await {} }).await;
    assert!(ended.is_ok(), "the stream goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_hold_up_nobody_and_are_cut() {
    let (mut control, broker) = lab();
    let slow = EnclaveClient { endpoint: Endpoint::Unix(control.replica().socket.clone()), ..broker };
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    for number in 0..12 {
        // Together more than what a Unix socket buffers.
        admin.set_secret(Some("a"), &format!("S{number:03}"), &"x".repeat(65_000));
    }
    let reading = EnclaveClient::of(&control, 0, admin.create_enclave("reading"));
    admin.create_agent("b", "reading", 1002);
    let idle: Vec<EnclaveClient> = (0..6)
        .map(|number| EnclaveClient::of(&control, 0, admin.create_enclave(&format!("idle-{number}"))))
        .collect();
    for number in 0..6 {
        let agent = format!("idle-{number}");
        admin.create_agent(&agent, &agent, 2000);
    }
    // More streams in the middle of a snapshot than there are places at the database.
    let mut stuck = vec![slow.watch(None).await.unwrap(), slow.watch(None).await.unwrap()];
    let started = Instant::now();
    let mut state = State::default();
    let mut watch = reading.connected(&mut state).await;
    for broker in &idle {
        broker.connected(&mut State::default()).await;
    }
    let isolated = admin.set_state("b", "isolate");
    watch.until(&mut state, isolated).await;
    reading.confirm(&watch, isolated).await;
    admin.delivered(isolated);
    // Had anybody waited for them, it would have been until they are cut, after ten seconds.
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    // The reader of this client takes what fits into the buffers on the way, then nothing for too long.
    let cut = timeout(Duration::from_secs(25), async {
        while control.metrics().sum("dvx_control_watch_streams", &[]) > 1.0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    cut.await.expect("streams that nobody reads are cut");
    let rest = stuck.remove(0).commit(&mut State::default()).await;
    assert!(rest.is_err(), "a stream that was cut has no commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_do_not_see_each_other() {
    let (control, broker) = lab();
    let outcome = run(&mut control.command(&["init", "--organisation", "other"]));
    let token = outcome.success().trim_end().to_owned();
    let other = control.operator(&token);
    let elsewhere = EnclaveClient::of(&control, 0, other.create_enclave("lab"));
    control.admin().create_agent("a", "lab", 1001);
    let secret = control.admin().set_secret(None, "SHARED", "of default");
    let (mut state, mut other_state) = (State::default(), State::default());
    let watch = broker.connected(&mut state).await;
    let mut other_watch = elsewhere.connected(&mut other_state).await;
    assert_ne!(watch.hello.organisation, other_watch.hello.organisation);
    assert!(other_state.agents.is_empty() && other_state.secrets.is_empty());
    other.create_agent("b", "lab", 1001);
    let set = other.set_secret(None, "SHARED", "of other");
    other_watch.until(&mut other_state, set).await;
    assert_eq!(other_state.value(None, "SHARED"), Some(&b"of other"[..]));
    assert_eq!(other_state.agents.len(), 1);
    // The deliveries of one do not wait for the brokers of the other.
    elsewhere.confirm(&other_watch, set).await;
    other.delivered(set);
    broker.confirm(&watch, secret).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_cannot_confirm_what_there_is_not() {
    let (control, broker) = lab();
    let newest = control.admin().create_agent("a", "lab", 1001);
    let watch = broker.connected(&mut State::default()).await;
    let mut connection = broker.endpoint.connect().await.unwrap();
    for revision in [newest + 1, u64::MAX] {
        let ack = Ack { revision, degraded: Vec::new() };
        assert_eq!(broker.ack(&mut connection, &watch, &ack).await.unwrap(), 409, "{revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_names_the_enclave_that_has_not_confirmed() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    admin.create_enclave("never-connected");
    let mut state = State::default();
    let watch = broker.connected(&mut state).await;
    let isolated = admin.set_state("a", "isolate");
    let delivery = admin.get(&format!("/deliveries/{isolated}?wait_seconds=1"));
    assert_eq!((&delivery["complete"], &delivery["missing"][0]["enclave"]), (&json!(false), &json!("lab")));
    // One that has gone may still serve, until it would not any more by itself.
    drop(watch);
    let delivery = admin.get(&format!("/deliveries/{isolated}?agent=a"));
    assert_eq!(delivery["missing"].as_array().unwrap().len(), 1, "{delivery}");
    let watch = broker.connected(&mut State::default()).await;
    broker.confirm(&watch, isolated).await;
    admin.delivered(isolated);
    assert_eq!(admin.call("GET", &format!("/deliveries/{}", isolated + 1), &json!(null)).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_comes_back_goes_on_where_it_was() {
    let (mut control, broker) = lab();
    control.admin().create_agent("a", "lab", 1001);
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    control.kill();
    let ended: io::Result<Option<Frame>> = timeout(SOON, watch.next()).await.expect("the stream ends");
    assert!(!matches!(ended, Ok(Some(_))));
    control.start_all();
    let set = control.admin().set_secret(Some("a"), "X", "new");
    state = state.reconnected();
    let mut watch = broker.watch(state.revision).await.unwrap();
    assert_eq!(watch.hello.mode, Mode::Resume);
    watch.until(&mut state, set).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"new"[..]));
    broker.confirm(&watch, set).await;
    // The session of the process that is dead counts no more.
    control.admin().delivered(set);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_stops_ends_its_streams() {
    let (mut control, broker) = lab();
    let mut watch = broker.connected(&mut State::default()).await;
    let started = Instant::now();
    control.stop();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(!matches!(timeout(SOON, watch.next()).await.expect("the stream ends"), Ok(Some(_))));
}
