//! What was done to control planes elsewhere, tried on this one over its real listeners.
//!
//! Who may do what is a table, and tested as one beside it, in the control plane's own crate.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use dvx_proto::Code;
use dvx_tests::{
    CallerSpec, Connection, ControlPlane, Request, World, fresh_uid, random_alphanumeric, run,
    skip_without_root,
};
use serde_json::{Value, json};

/// Every place that a request without the right to be there could aim at.
const PATHS: &[&str] = &[
    "/api/v1/whoami",
    "/api/v1/agents",
    "/api/v1/agents/alpha",
    "/api/v1/agents/no-such-agent",
    "/api/v1/no/such/route",
    "/api/v1/operators",
    "/api/v1/audit/export",
    "/v1/enclave/watch",
];

#[test]
fn whoever_is_nobody_gets_the_same_answer_everywhere() {
    let control = ControlPlane::start();
    control.admin().create_enclave("lab-1");
    control.admin().create_agent("alpha", "lab-1", 61000);
    for path in PATHS {
        for method in ["GET", "POST", "DELETE", "PATCH"] {
            let bare = control.operator_by_tls(None).send(&Request::new(method, path));
            assert_eq!((bare.status, bare.problem()), (401, Code::TokenMissing), "{method} {path}");
            let wrong = format!("dvxo_{}", random_alphanumeric(43));
            let wrong = control.operator_by_tls(Some(&wrong)).send(&Request::new(method, path));
            assert_eq!((wrong.status, wrong.problem()), (401, Code::TokenInvalid), "{method} {path}");
            assert!(wrong.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        }
    }
}

#[test]
fn tokens_of_another_kind_or_make_are_nobodys() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    world.start();
    let agents_token = world.caller("alpha").token();
    let key = control.admin().create_enclave("lab-2");
    let operator = control.token().to_owned();
    let part = |json: &str| BASE64.encode(json);
    let claims = part(r#"{"sub":"admin","role":"admin","iss":"dvx","exp":9999999999,"nbf":0}"#);
    let unsigned = format!("{}.{claims}.", part(r#"{"alg":"none","typ":"JWT"}"#));
    let hashed = format!("{}.{claims}.{}", part(r#"{"alg":"HS256"}"#), part("signature"));
    let flipped =
        format!("{}{}", &operator[..operator.len() - 1], if operator.ends_with('A') { 'B' } else { 'A' });
    let longer = format!("{operator}A");
    let shorter = &operator[..operator.len() - 1];
    let other_case = operator.to_uppercase();
    for (what, token) in [
        ("an agent's token", &*agents_token),
        ("an enclave's key", &*key),
        ("a JWT without a signature", &*unsigned),
        ("a JWT with a signature", &*hashed),
        ("a token with its end changed", &*flipped),
        ("a token and more", &*longer),
        ("most of a token", shorter),
        ("a token in capitals", &*other_case),
        ("its prefix", "dvxo_"),
        ("a hash as it is stored", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ] {
        let answer = control.operator_by_tls(Some(token)).call("GET", "/whoami", &Value::Null);
        assert_eq!(answer.problem(), Code::TokenInvalid, "{what}");
    }
    // And the other way round: an operator is no broker.
    for path in ["/v1/enclave/watch", "/v1/enclave/ack", "/v1/enclave/audit"] {
        for token in [&operator, &agents_token] {
            let answer = control.operator_by_tls(Some(token)).send(&Request::post(path).json("{}"));
            assert_eq!(answer.status, 401, "{path}");
        }
    }
}

#[test]
fn nobody_raises_their_own_role() {
    let control = ControlPlane::start();
    let operator = control.admin().create_operator("worker", "operator");
    let auditor = control.admin().create_operator("watcher", "auditor");
    for token in [&operator, &auditor] {
        let one = control.operator(token);
        for (method, path, body) in [
            ("POST", "/operators", json!({"name": "mine", "role": "admin"})),
            ("POST", "/operators", json!({"name": "worker", "role": "admin"})),
            ("DELETE", "/operators/admin", Value::Null),
            ("POST", "/enclaves", json!({"name": "mine"})),
            ("DELETE", "/enclaves/lab-1", Value::Null),
        ] {
            assert_eq!(one.call(method, path, &body).problem(), Code::RoleForbidden, "{method} {path}");
        }
        // What a request says about its sender counts for nothing.
        let claims = Request::post("/api/v1/operators")
            .header("X-Dvx-Role", "admin")
            .header("X-Forwarded-User", "admin")
            .header("X-Remote-User", "root")
            .json(r#"{"name":"mine","role":"admin"}"#);
        assert_eq!(one.send(&claims).problem(), Code::RoleForbidden);
        assert_eq!(one.send(&Request::get("/api/v1/operators?role=admin")).problem(), Code::BadRequest);
    }
    let names: Vec<Value> = control.admin().get("/operators")["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|operator| operator["name"].clone())
        .collect();
    assert_eq!(names, ["admin", "watcher", "worker"]);
}

#[test]
fn a_name_that_is_taken_is_not_taken_over() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let operator = control.admin().create_operator("worker", "operator");
    for (path, body) in [
        ("/enclaves", json!({"name": "lab-1"})),
        ("/operators", json!({"name": "worker", "role": "admin"})),
        ("/agents", json!({"name": "alpha", "enclave": "lab-1", "unix_user": "61234"})),
    ] {
        assert_eq!(control.admin().call("POST", path, &body).problem(), Code::Conflict, "{path}");
    }
    // Those who had the names go on as before.
    assert_eq!(control.operator(&operator).get("/whoami")["role"], "operator");
    world.kill();
    world.start();
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    // A token is dead with its operator, and does not come back with the name.
    control.admin().change("DELETE", "/operators/worker", &Value::Null);
    control.admin().create_operator("worker", "auditor");
    assert_eq!(
        control.operator(&operator).call("GET", "/whoami", &Value::Null).problem(),
        Code::TokenInvalid
    );
}

#[test]
fn organisations_see_nothing_of_each_other() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().plant("alpha", "gitlab");
    control.admin().set_secret(None, "NAME", "of the first");
    world.start();
    let made = run(&mut control.command(&["init", "--organisation", "second"])).success();
    let token = made.trim_end();
    control.planted.remember("the second admin's token", token);
    let second = control.operator_by_tls(Some(token));
    assert_eq!(second.get("/whoami")["organisation"], "second");
    for path in ["/agents", "/enclaves", "/secrets"] {
        assert_eq!(second.get(path)["items"], json!([]), "{path}");
    }
    let known = control.admin().get("/agents/alpha");
    let id = known["id"].as_str().unwrap();
    for (method, path, body) in [
        ("GET", "/agents/alpha".to_owned(), Value::Null),
        ("GET", format!("/agents/{id}"), Value::Null),
        ("DELETE", "/agents/alpha".to_owned(), Value::Null),
        ("POST", "/agents/alpha/isolate".to_owned(), json!({"reason": "not mine"})),
        ("PUT", "/agents/alpha/secrets/NAME".to_owned(), json!({"value": "not mine"})),
        ("GET", "/agents/alpha/secrets".to_owned(), Value::Null),
        ("DELETE", "/secrets/NAME".to_owned(), Value::Null),
        ("DELETE", "/enclaves/lab-1".to_owned(), Value::Null),
    ] {
        assert_eq!(second.call(method, &path, &body).problem(), Code::NotFound, "{method} {path}");
    }
    let elsewhere = json!({"name": "beta", "enclave": "lab-1", "unix_user": "61000"});
    let refused = second.call("POST", "/agents", &elsewhere);
    assert!(refused.status >= 400, "an agent in an enclave of others: {refused:?}");
    // The same names are free, and what is made under them stays apart.
    second.create_enclave("lab-1");
    second.create_agent("alpha", "lab-1", world.uid_of("alpha"));
    second.set_secret(None, "NAME", "of the second");
    let audit = second.audit("");
    assert!(audit.iter().all(|event| !event.to_string().contains("gitlab")), "{audit:#?}");
    let revision = control.admin().get("/overview")["revision"].as_u64().unwrap();
    control.admin().delivered(revision);
    let caller = world.caller("alpha");
    assert_eq!(caller.get("/v1/agent/secrets/NAME").json()["value"], "of the first");
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
}

#[test]
fn the_first_admin_is_made_once_however_many_ask_at_once() {
    let mut control = ControlPlane::builder().build();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let racers: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&mut control.command(&["init"])))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let winners: Vec<_> = outcomes.iter().filter(|outcome| outcome.status == 0).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for loser in outcomes.iter().filter(|outcome| outcome.status != 0) {
        assert!(loser.failure(1).contains("initialised"), "{}", loser.stderr);
    }
    assert!(run(&mut control.command(&["init"])).failure(1).contains("initialised"));
    control.start_all();
    let operators = control.operator(winners[0].text().trim_end()).get("/operators");
    assert_eq!(operators["items"].as_array().unwrap().len(), 1, "{operators}");
}

#[test]
fn other_users_of_the_machine_need_a_token_on_the_socket() {
    const NAME: &str = "other_users_of_the_machine_need_a_token_on_the_socket";
    if skip_without_root(NAME) {
        return;
    }
    let mut control = ControlPlane::start();
    let socket = control.replica().socket.clone();
    let ask = |uid: u32, more: &[&str]| {
        let mut command = CallerSpec::user(uid).command("/usr/bin/curl".as_ref());
        command.args([
            "--silent",
            "--unix-socket",
            socket.to_str().unwrap(),
            "http://localhost/api/v1/whoami",
        ]);
        run(command.args(more).env_clear())
    };
    let stranger = ask(fresh_uid(), &[]).success();
    assert!(stranger.contains("token-missing"), "{stranger}");
    let claims =
        ["-H", "X-Forwarded-For: 127.0.0.1", "-H", "X-Dvx-Uid: 0", "-H", "Authorization: Basic cm9vdDo="];
    assert!(
        ask(fresh_uid(), &claims).success().contains("urn:dvx:problem:token-"),
        "a word is no credential"
    );
    assert!(ask(0, &[]).success().contains(r#""name":"uid:0""#));
    assert!(ask(control.uid, &[]).success().contains(r#""role":"admin""#), "the service's own user");
    // A token that is sent decides, also for root.
    assert!(ask(0, &["-H", "Authorization: Bearer dvxo_wrong"]).success().contains("token-invalid"));
    let bearer = format!("Authorization: Bearer {}", control.token());
    assert!(ask(fresh_uid(), &["-H", &bearer]).success().contains(r#""name":"admin""#));
}

#[test]
fn requests_that_two_parsers_would_read_differently_are_refused() {
    let control = ControlPlane::start();
    control.admin().create_enclave("lab-1");
    control.admin().create_agent("alpha", "lab-1", 61000);
    let admin = control.operator_by_tls(None);
    let bearer = format!("Bearer {}", control.token());
    let auditor = format!("Bearer {}", control.admin().create_operator("watcher", "auditor"));
    let twice =
        Request::get("/api/v1/whoami").header("Authorization", &auditor).header("Authorization", &bearer);
    assert!([400, 401].contains(&admin.send(&twice).status), "two tokens are none");
    let listed = Request::get("/api/v1/whoami").header("Authorization", &format!("{auditor}, {bearer}"));
    assert_eq!(admin.send(&listed).status, 401);
    for path in [
        "/api/v1/agents/..%2Foperators",
        "/api/v1/agents/%2e%2e/operators",
        "/api/v1/agents/alpha%00",
        "/api/v1/agents/ALPHA",
        "/api/v1//agents",
        "/api/v1/agents/alpha/",
        "/API/v1/agents",
        "/api/v1/agents;x=1",
    ] {
        let answer = admin.send(&Request::get(path).header("Authorization", &bearer));
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    for body in [
        r#"{"name":"one","name":"two","enclave":"lab-1","unix_user":"61001"}"#,
        r#"{"name":"one","enclave":"lab-1","unix_user":"61001","role":"admin"}"#,
        r#"{"name":"one","enclave":"lab-1","unix_user":"61001"} {"name":"two"}"#,
        r#"[{"name":"one","enclave":"lab-1","unix_user":"61001"}]"#,
    ] {
        let answer = admin.send(&Request::post("/api/v1/agents").header("Authorization", &bearer).json(body));
        assert_eq!(answer.problem(), Code::BadRequest, "{body}");
    }
    let smuggled = Request::post("/api/v1/agents")
        .header("Authorization", &bearer)
        .header("Transfer-Encoding", "chunked")
        .json(r#"{"name":"one","enclave":"lab-1","unix_user":"61001"}"#);
    assert!(admin.send(&smuggled).status >= 400, "a length and chunks");
    assert_eq!(control.admin().get("/agents")["items"].as_array().unwrap().len(), 1, "nothing was made");
}

#[test]
fn a_resumed_tls_session_says_nothing_about_who_asks() {
    let mut control = ControlPlane::start();
    let address = control.replica().https;
    let config = control.authority.client();
    let bearer = format!("Bearer {}", control.token());
    let mut resumed = 0;
    for round in 0..6 {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(address).unwrap());
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let kind = stream.conn.handshake_kind();
        resumed += u32::from(kind == Some(rustls::HandshakeKind::Resumed));
        let mut connection = Connection::tls(stream).with_chunks();
        let request = Request::get("/api/v1/whoami");
        let answer = connection.exchange(&if round % 2 == 0 {
            request.clone().header("Authorization", &bearer)
        } else {
            request.clone()
        });
        assert_eq!(answer.status, if round % 2 == 0 { 200 } else { 401 }, "{kind:?}");
        // Nor does a request before it on the same connection.
        if round % 2 == 0 {
            assert_eq!(connection.exchange(&request).status, 401);
        }
    }
    // Where sessions are not resumed there is nothing to inherit.
    assert!(resumed <= 5);
}

/// Notices whether it is asked for a certificate.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl rustls::client::ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.store(true, Ordering::SeqCst);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn no_certificate_of_a_client_is_ever_looked_at() {
    let mut control = ControlPlane::start();
    let asked = Arc::new(Asked::default());
    let mut config = (*control.authority.client()).clone();
    config.client_auth_cert_resolver = Arc::clone(&asked) as Arc<_>;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(control.replica().https).unwrap());
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert!(!asked.0.load(Ordering::SeqCst), "nobody can make it verify what is dear to verify");
    assert_eq!(Connection::tls(stream).exchange(&Request::get("/api/v1/whoami")).status, 401);
}

#[test]
fn a_broker_reports_on_its_own_credentials_alone() {
    let control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let id = control.admin().get("/agents/alpha/integrations")["items"][0]["id"].as_str().unwrap().to_owned();
    let other = control.admin().create_enclave("lab-2");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(token.as_bytes());
    let fingerprint: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"fingerprint": fingerprint}).to_string();
    for id in [id.as_str(), "0197a3c4-0000-7000-8000-000000000000", "..%2f..", "1"] {
        let request = Request::post(&format!("/v1/enclave/credentials/{id}/rejected")).json(&body);
        assert_eq!(control.operator_by_tls(Some(&other)).send(&request).status, 404, "{id}");
    }
    let rejected =
        |event: &&Value| event["action"] == "credential.rejected" && event["actor"] == "enclave:lab-1";
    assert_eq!(control.admin().audit("").iter().filter(rejected).count(), 0);
    let report = Request::post("/v1/agent/credentials/gitlab/rejected").json(&body);
    assert_eq!(world.caller("alpha").send(&report).status, 202);
    dvx_tests::eventually("its own broker's report arrives", || {
        control.admin().audit("").iter().filter(rejected).count() == 1
    });
}

#[test]
fn the_last_admin_stays() {
    let control = ControlPlane::start();
    let second = control.admin().create_operator("second", "admin");
    control.operator(&second).change("DELETE", "/operators/admin", &Value::Null);
    let refused = control.operator(&second).call("DELETE", "/operators/second", &Value::Null);
    assert_eq!(refused.problem(), Code::Conflict);
    assert_eq!(control.operator(&second).get("/whoami")["role"], "admin");
}
