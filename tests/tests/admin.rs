//! The operator's socket on the machine.

use dvx_tests::{CallerSpec, Metrics, Request, World, eventually, fresh_uid, skip_without_root};
use serde_json::json;

fn started() -> World {
    let mut world = World::single().tcp().build();
    world.plant("alpha", "gitlab");
    world.upstream.secret("alpha", "NAME", b"value-of-a-secret");
    world.start();
    world
}

#[test]
fn health_and_readiness_are_what_a_probe_expects() {
    let world = started();
    let health = world.admin("/healthz");
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok"})));
    let ready = world.admin("/readyz");
    assert_eq!((ready.status, ready.json()), (200, json!({"ready": true, "degraded": []})));
    assert_eq!(world.admin("/nothing").status, 404);
    assert_eq!(world.admin("/v1/agent/credentials/gitlab").status, 404, "agents have their own door");
}

#[test]
fn status_counts_and_names_but_shows_no_value() {
    let mut world = started();
    let caller = world.caller("alpha");
    let mut held = caller.unix();
    assert_eq!(held.exchange(&Request::get("/v1/agent/whoami")).status, 200);
    let status = world.status();
    assert_eq!(status["enclave"], "lab-1");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["ready"], true);
    assert_eq!(status["upstream"]["kind"], "directory");
    assert_eq!(status["upstream"]["synchronised"], true);
    assert_eq!(status["upstream"]["max_stale_seconds"], 3600);
    let agent =
        json!({"name": "alpha", "uid": caller.spec.uid, "state": "active", "credentials": 1, "secrets": 1});
    assert_eq!(status["agents"], json!([agent]));
    assert_eq!(status["connections"]["open"], 1);
    assert!(["secretmem", "locked", "plain"].contains(&status["memory"]["protection"].as_str().unwrap()));
    let text = status.to_string();
    world.assert_clean("status", text.as_bytes());
    assert!(!text.contains("value-of-a-secret"));
    assert!(world.broker().ended().is_none());
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let world = started();
    let caller = world.caller("alpha");
    let before = world.metrics();
    for _ in 0..10 {
        assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
    }
    assert_eq!(caller.get("/v1/agent/credentials/none").status, 404);
    let response = world.admin("/metrics");
    let kind = response.header("content-type").expect("a type");
    assert!(
        kind.starts_with("application/openmetrics-text") || kind.starts_with("text/plain; version=0.0.4"),
        "{kind}"
    );
    let after = Metrics::parse(response.text()).unwrap();
    assert!(!after.families.is_empty());
    assert!(after.families.keys().all(|name| name.starts_with("dvx_") || name.starts_with("process_")));
    let total = |metrics: &Metrics| -> f64 {
        let counters = metrics.families.iter().filter(|(_, kind)| *kind == "counter");
        counters
            .map(|(name, _)| metrics.sum(&format!("{}_total", name.trim_end_matches("_total")), &[]))
            .sum()
    };
    assert!(total(&after) >= total(&before) + 11.0, "{:?}", after.families);
    world.assert_clean("metrics", &response.body);
    let labels: Vec<&str> =
        after.series().filter(|series| series.contains("/v1/") || series.contains("none")).collect();
    assert!(labels.is_empty(), "labels come from the contract, not from the wire: {labels:?}");
}

#[test]
fn strangers_cannot_grow_the_metrics() {
    let world = started();
    let caller = world.caller("alpha");
    let ask = |round: usize| {
        for index in 0..50 {
            caller.get(&format!("/v1/agent/{round}-{index}"));
            caller.get(&format!("/v1/agent/credentials/p{round}-{index}"));
            caller.send(&Request::new(&format!("M{round}{index}"), "/v1/agent/whoami"));
        }
    };
    ask(0);
    let before = world.metrics().series().count();
    ask(1);
    assert_eq!(world.metrics().series().count(), before);
}

#[test]
fn only_the_brokers_user_may_ask() {
    if skip_without_root("only_the_brokers_user_may_ask") {
        return;
    }
    let world = started();
    let socket = world.ground.path("run/broker-admin.sock");
    for uid in [world.uid_of("alpha"), fresh_uid(), 65534] {
        assert!(world.caller_as(CallerSpec::user(uid)).connect_unix(&socket).is_err(), "uid {uid}");
    }
    assert!(world.caller_as(CallerSpec::user(world.broker_uid)).connect_unix(&socket).is_ok());
}

#[test]
fn the_admin_socket_survives_nonsense() {
    let world = started();
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /status HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let stream =
            std::os::unix::net::UnixStream::connect(world.ground.path("run/broker-admin.sock")).unwrap();
        let mut connection = dvx_tests::Connection::unix(stream);
        connection.send(bytes).unwrap();
        connection.finish_sending();
        let words = connection.read_to_end();
        assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&words));
    }
    eventually("still there", || world.admin("/healthz").status == 200);
}
