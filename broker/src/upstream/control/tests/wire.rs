//! Over real connections.

use super::fake::{Fake, KEY, Running, eventually};
use super::*;
use dvx_proto::ControlAddress;
use dvx_proto::enclave::{MAX_FRAME_BYTES, MAX_STALE};

/// Brings a broker to revision 1 with one token.
fn synchronise(fake: &Fake) -> fake::Watch {
    let mut watch = fake.watch();
    watch.begin(Mode::Snapshot);
    watch.frame(&agent("a", "4711"));
    watch.secret("a", "gitlab:token", "glpat-a", 1);
    watch.frame(&commit(1));
    assert_eq!(fake.ack().revision, 1);
    watch
}

fn both() -> [Fake; 2] {
    [Fake::unix(), Fake::tls("localhost")]
}

#[test]
fn what_is_acknowledged_is_in_force() {
    for fake in both() {
        let running = Running::new(&fake);
        let mut watch = synchronise(&fake);
        assert_eq!(values(&running.keyring), ["a/gitlab:token=glpat-a"]);
        assert_eq!(running.host.names(), ["a=4711"]);
        eventually(|| running.health().connected == Some(true), || "not connected".to_owned());
        for revision in 2..20 {
            watch.secret("a", "gitlab:token", &format!("glpat-{revision}"), revision);
            watch.frame(&commit(revision));
            let ack = fake.ack();
            assert_eq!(ack.revision, revision);
            assert_eq!(values(&running.keyring), [format!("a/gitlab:token=glpat-{revision}")]);
        }
    }
}

#[test]
fn requests_carry_the_key_the_session_and_what_is_in_force() {
    for fake in both() {
        let _running = Running::new(&fake);
        let mut watch = fake.watch();
        assert_eq!(watch.request.line, "GET /v1/enclave/watch HTTP/1.1");
        assert_eq!(watch.request.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!(watch.request.headers[MAX_STALE], "3600");
        assert_eq!(watch.request.headers["host"], fake.address.authority());
        watch.begin(Mode::Snapshot);
        watch.frame(&agent("a", "4711"));
        watch.frame(&commit(7));
        let ack = fake.post("/v1/enclave/ack");
        assert_eq!(ack.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!(ack.session(), watch.request.session());
        let first = watch.request.session().to_owned();
        drop(watch);
        let again = fake.watch();
        assert_eq!(again.request.line, "GET /v1/enclave/watch?revision=7 HTTP/1.1");
        assert_ne!(again.request.session(), first, "a key is for one connection");
    }
}

#[test]
fn what_is_held_outlives_the_control_plane_and_is_resumed() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    drop(synchronise(&fake));
    running.degraded("the stream has ended");
    assert_eq!(running.health().connected, Some(false));
    assert_eq!(values(&running.keyring), ["a/gitlab:token=glpat-a"]);
    let mut watch = fake.watch();
    watch.begin(Mode::Resume);
    watch.frame(&commit(1));
    assert_eq!(fake.ack().revision, 1, "a new session acknowledges what it has");
    eventually(|| running.health().degraded.is_empty(), || format!("{:?}", running.health()));
    assert_eq!(running.health().connected, Some(true));
}

#[test]
fn answers_that_are_no_stream_are_named_and_tried_again() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    for (status, why) in [
        ("503 Service Unavailable", "the answer is 503"),
        ("302 Found\r\nlocation: https://evil.example/", "redirect (302), and those are not followed"),
        ("404 Not Found", "the answer is 404"),
        ("401 Unauthorized", "the control plane refuses the API key (401)"),
    ] {
        fake.watch().answer(status);
        running.degraded(why);
    }
    assert!(running.keyring.load().snapshot.agents.is_empty());
}

#[test]
fn a_stream_of_nonsense_changes_nothing_and_is_left() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    drop(synchronise(&fake));
    let nonsense: [(&str, &str); 4] = [
        ("{\"type\":\"commit\"\n", "not a frame"),
        ("\u{0}\u{1}garbage\n", "not a frame"),
        ("{\"type\":\"commit\",\"revision\":0}\n", "revision 0 is older than 1"),
        (
            "{\"type\":\"agent\",\"agent\":\"../evil\",\"unix_user\":\"root\",\"state\":\"active\"}\n",
            "not a frame",
        ),
    ];
    for (line, why) in nonsense {
        let mut watch = fake.watch();
        watch.begin(Mode::Resume);
        watch.chunk(line);
        assert!(watch.is_left(), "{line}");
        running.degraded(why);
    }
    let mut watch = fake.watch();
    watch.accept();
    watch.frame(&commit(9));
    assert!(watch.is_left());
    running.degraded("begins with hello");
    assert_eq!(values(&running.keyring), ["a/gitlab:token=glpat-a"]);
}

#[test]
fn a_line_without_an_end_is_left() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    let mut watch = fake.watch();
    watch.begin(Mode::Snapshot);
    for _ in 0..=MAX_FRAME_BYTES / 4096 {
        watch.chunk(&"x".repeat(4096));
    }
    running.degraded("longer than");
    assert!(watch.is_left());
}

#[test]
fn half_a_line_is_nothing_and_the_rest_makes_it_whole() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    let mut watch = synchronise(&fake);
    let secret = Frame::Secret(watch.sealer.secret("a", "KEY", b"v", 2));
    let line = serde_json::to_string(&secret).unwrap() + "\n" + &serde_json::to_string(&commit(2)).unwrap();
    for byte in line.split_inclusive(|_| true) {
        watch.chunk(byte);
    }
    assert_eq!(values(&running.keyring), ["a/gitlab:token=glpat-a"]);
    watch.chunk("\n");
    assert_eq!(fake.ack().revision, 2);
    assert_eq!(values(&running.keyring), ["a/KEY=v", "a/gitlab:token=glpat-a"]);
}

#[test]
fn the_largest_secret_comes_through() {
    let fake = Fake::tls("localhost");
    let running = Running::new(&fake);
    let mut watch = synchronise(&fake);
    let value = "v".repeat(dvx_proto::limits::MAX_SECRET_BYTES);
    watch.secret("a", "BIG", &value, 2);
    watch.frame(&commit(2));
    assert_eq!(fake.ack().revision, 2);
    assert!(values(&running.keyring).contains(&format!("a/BIG={value}")));
}

#[test]
fn a_certificate_that_is_not_trusted_or_of_another_name_gets_no_key() {
    let mut stranger = Fake::tls("localhost");
    stranger.roots = Fake::tls("localhost").roots;
    let running = Running::new(&stranger);
    running.degraded("no secure connection: invalid peer certificate");
    let misnamed = Fake::tls("elsewhere.example");
    let running = Running::new(&misnamed);
    running.degraded("certificate not valid for name");
}

#[test]
fn a_control_plane_that_is_not_there_is_named() {
    let fake = Fake::unix();
    let ControlAddress::Unix(path) = &fake.address else { unreachable!() };
    std::fs::remove_file(path).unwrap();
    let running = Running::new(&fake);
    running.degraded("cannot connect: No such file or directory");
    assert_eq!(running.health().degraded[0].what, fake.address.to_string());
}

#[test]
fn an_acknowledgement_that_fails_is_tried_again_and_holds_nothing_up() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    let fails = std::sync::atomic::AtomicUsize::new(0);
    fake.answer(move |_| match fails.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0..3 => (503, String::new()),
        _ => (204, String::new()),
    });
    let mut watch = synchronise(&fake);
    watch.secret("a", "KEY", "v", 2);
    watch.frame(&commit(2));
    eventually(|| values(&running.keyring).len() == 2, || "not taken over".to_owned());
    let start = clock::monotonic();
    while fake.ack().revision != 2 {
        assert!(clock::monotonic().since(start) < Duration::from_secs(10));
    }
}

#[test]
fn a_refused_token_is_reported_and_a_good_one_ends_the_wait() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    let mut watch = fake.watch();
    watch.begin(Mode::Snapshot);
    watch.frame(&agent("a", "4711"));
    let secret = SealedSecret {
        credential: Some("0197-id".to_owned()),
        ..watch.sealer.secret("a", "gitlab:token", b"glpat-a", 1)
    };
    watch.frame(&Frame::Secret(secret));
    watch.frame(&commit(1));
    fake.ack();
    let (agent, provider) = ("a".parse().unwrap(), "gitlab".parse().unwrap());
    let held = Fingerprint::of(b"glpat-a");
    for (verdict, settled) in [("unknown", 0), ("dead", 0), ("new-word", 0), ("good", 1)] {
        fake.answer(move |_| (200, format!("{{\"verdict\":\"{verdict}\"}}")));
        running.upstream.recheck(&agent, &provider, held);
        let post = fake.post("/v1/enclave/credentials/0197-id/rejected ");
        assert_eq!(post.body, format!("{{\"fingerprint\":\"{held}\"}}").as_bytes());
        assert_eq!(post.session(), watch.request.session());
        eventually(
            || running.host.settled.lock().unwrap().len() == settled,
            || format!("{verdict}: {:?}", running.host.settled.lock().unwrap()),
        );
    }
    // One that is not held any more is nobody's business.
    running.upstream.recheck(&agent, &provider, Fingerprint::of(b"other"));
    running.upstream.recheck(&agent, &provider, held);
    let post = fake.post("/v1/enclave/credentials/");
    assert!(String::from_utf8(post.body).unwrap().contains(&held.to_string()));
}

#[test]
fn an_upstream_ends_when_it_is_let_go() {
    let fake = Fake::unix();
    let running = Running::new(&fake);
    let mut watch = synchronise(&fake);
    drop(running);
    assert!(watch.is_left());
}
