//! Requests and answers of the operator API.

use dvx_proto::Code;
use dvx_tests::{ControlPlane, Operator, Request, Response};
use serde_json::{Value, json};

fn with_key(operator: &Operator, path: &str, key: &str, body: &Value) -> Response {
    let request = Request::post(&format!("/api/v1{path}")).json(&body.to_string());
    operator.send(&request.header("Idempotency-Key", key))
}

#[test]
fn the_same_request_with_the_same_key_is_carried_out_once() {
    let mut control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    let agent = json!({"name": "a", "enclave": "lab", "unix_user": "u"});
    for (path, body) in [
        ("/operators", json!({"name": "o", "role": "auditor"})),
        ("/enclaves", json!({"name": "e"})),
        ("/agents", agent.clone()),
    ] {
        let key = format!("key-of-{path}");
        let first = with_key(&admin, path, &key, &body);
        assert_eq!(first.status, 201, "{first:?}");
        for secret in
            ["token", "api_key"].iter().filter_map(|member| first.json()[member].as_str().map(str::to_owned))
        {
            control.planted.remember(path, &secret);
        }
        let again = with_key(&admin, path, &key, &body);
        assert_eq!((again.status, &again.body), (201, &first.body), "{path}");
        assert_eq!(again.header("dvx-revision"), first.header("dvx-revision"));
        // Without the key it is another request, and the name is taken.
        assert_eq!(admin.call("POST", path, &body).problem(), Code::Conflict, "{path}");
        let other = with_key(&admin, path, &key, &json!({"name": "z", "role": "auditor"}));
        assert_ne!(other.status, 201, "{path}: {other:?}");
    }
    let mismatch = with_key(&admin, "/enclaves", "key-of-/enclaves", &json!({"name": "other"}));
    assert_eq!(mismatch.problem(), Code::IdempotencyMismatch);
    assert_eq!(with_key(&admin, "/agents", "key-of-/enclaves", &agent).problem(), Code::IdempotencyMismatch);
    // Another operator's key is another key.
    let second = control.operator(&admin.create_operator("second", "admin"));
    let theirs = with_key(&second, "/enclaves", "key-of-/enclaves", &json!({"name": "e"}));
    assert_eq!(theirs.problem(), Code::Conflict);
    // It outlives the process.
    control.stop();
    control.start_all();
    let admin = control.admin();
    assert_eq!(with_key(&admin, "/agents", "key-of-/agents", &agent).status, 201);
    assert_eq!(admin.get("/agents")["items"].as_array().unwrap().len(), 1);
}

#[test]
fn of_the_same_requests_at_one_time_one_is_carried_out() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let body = json!({"name": "raced"});
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let ask = || with_key(&admin, "/enclaves", "race", &body);
        let running: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    control.planted.remember("the raced key", answers[0].json()["api_key"].as_str().unwrap());
    assert!(
        answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body),
        "{answers:?}"
    );
}

#[test]
fn a_request_that_failed_is_not_remembered() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let agent = json!({"name": "a", "enclave": "later", "unix_user": "u"});
    assert_eq!(with_key(&admin, "/agents", "k", &agent).problem(), Code::NotFound);
    admin.create_enclave("later");
    assert_eq!(with_key(&admin, "/agents", "k", &agent).status, 201);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let control = ControlPlane::start();
    let admin = control.admin();
    for key in ["", "two words", &"k".repeat(129)] {
        let refused = with_key(&admin, "/enclaves", key, &json!({"name": "e"}));
        assert_eq!(refused.problem(), Code::BadRequest, "{key:?}");
    }
    assert_eq!(admin.get("/enclaves")["items"], json!([]));
}

#[test]
fn an_agent_goes_through_its_states() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    let state = || {
        let agent = admin.get("/agents/alpha");
        (agent["state"].as_str().unwrap().to_owned(), agent["reason"].clone())
    };
    assert_eq!(state(), ("active".to_owned(), Value::Null));
    let first = admin.change("POST", "/agents/alpha/isolate", &json!({"reason": "odd requests"}));
    assert_eq!(state(), ("isolated".to_owned(), json!("odd requests")));
    let again = admin.change("POST", "/agents/alpha/isolate", &json!({"reason": "still odd"}));
    assert!(again >= first);
    assert_eq!(state(), ("isolated".to_owned(), json!("still odd")));
    admin.change("POST", "/agents/alpha/restore", &Value::Null);
    assert_eq!(state(), ("active".to_owned(), Value::Null));
    admin.change("POST", "/agents/alpha/revoke", &json!({"reason": "leaked"}));
    let refused = admin.call("POST", "/agents/alpha/restore", &Value::Null);
    assert_eq!(refused.problem(), Code::Conflict);
    assert!(refused.text().contains("reprovision"));
    admin.change("POST", "/agents/alpha/reprovision", &Value::Null);
    assert_eq!(state().0, "active");
    assert_eq!(admin.call("DELETE", "/agents/alpha", &Value::Null).status, 204);
    assert_eq!(admin.call("GET", "/agents/alpha", &Value::Null).problem(), Code::NotFound);
}

#[test]
fn a_reason_is_needed_and_is_one_line() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    for reason in ["", "  ", "two\nlines", "nul\0", &"x".repeat(1001)] {
        let refused = admin.call("POST", "/agents/alpha/isolate", &json!({"reason": reason}));
        assert_eq!(refused.problem(), Code::BadRequest, "{reason:?}");
    }
    assert_eq!(admin.get("/agents/alpha")["state"], "active");
}

#[test]
fn agents_of_one_user_must_exclude_each_other() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_enclave("lab2");
    let agent = |name: &str, enclave: &str, unit: Option<&str>| {
        let mut body = json!({"name": name, "enclave": enclave, "unix_user": "shared"});
        if let Some(unit) = unit {
            body["unit"] = json!(unit);
        }
        admin.call("POST", "/agents", &body)
    };
    assert_eq!(agent("one", "lab", Some("one.service")).status, 201);
    assert_eq!(agent("two", "lab", Some("two.service")).status, 201);
    let overlap = agent("three", "lab", None);
    assert_eq!(overlap.problem(), Code::Conflict);
    assert!(overlap.text().contains("one"), "{}", overlap.text());
    assert_eq!(agent("three", "lab2", None).status, 201);
    assert_eq!(agent("one", "lab2", Some("x.service")).problem(), Code::Conflict);
}

#[test]
fn values_go_in_and_never_come_back() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    let value = control.planted.token("a value");
    for (path, body) in [
        ("/secrets/ORG", json!({"value": value})),
        ("/agents/alpha/secrets/NOTE", json!({"value": value, "agent_accessible": true})),
        (
            "/agents/alpha/secrets/gitlab:token",
            json!({
                "value": value, "agent_accessible": false, "display_name": "me",
                "instance_url": "https://gitlab.example", "expires_at": "2100-01-01T00:00:00Z",
            }),
        ),
    ] {
        for status in [201, 200] {
            let response = admin.call("PUT", path, &body);
            assert_eq!(response.status, status, "{response:?}");
            control.assert_clean(path, &response.body);
        }
    }
    for path in [
        "/secrets",
        "/agents/alpha/secrets",
        "/agents/alpha",
        "/agents/alpha/integrations",
        "/agents",
        "/overview",
    ] {
        control.assert_clean(path, admin.get(path).to_string().as_bytes());
    }
    let credential = &admin.get("/agents/alpha/integrations")["items"][0];
    assert_eq!((&credential["provider"], &credential["display_name"]), (&json!("gitlab"), &json!("me")));
    for path in ["/secrets/ORG", "/agents/alpha/secrets/NOTE"] {
        assert_eq!(admin.call("GET", path, &Value::Null).problem(), Code::MethodNotAllowed);
    }
    admin.delete_secret(Some("alpha"), "gitlab:token");
    assert_eq!(admin.get("/agents/alpha/integrations")["items"], json!([]));
}

#[test]
fn refusals_do_not_repeat_a_value() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    admin.create_agent("alpha", "lab", 4711);
    let value = control.planted.token("a value that is refused");
    let credential = |rest: Value| {
        let mut body = json!({"value": value, "agent_accessible": false});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        body.to_string()
    };
    for (name, body) in [
        ("gitlab:token", credential(json!({"value": format!("{value} two words")}))),
        ("gitlab:token", credential(json!({"auth_type": value}))),
        ("gitlab:token", credential(json!({"instance_url": format!("http://{value}@x")}))),
        ("gitlab:token", credential(json!({"expires_at": value}))),
        ("gitlab:token", credential(json!({"agent_accessible": value}))),
        ("NOTE", credential(json!({"display_name": "x"}))),
        ("NOTE", credential(json!({"unknown": value}))),
        ("NOTE", format!("{{\"value\":\"{value}\"")),
        ("NOTE", format!("{{\"value\":\"{value}\",\"value\":\"{value}\"}}")),
        ("NOTE", value.clone()),
        ("NOTE", json!({"value": [value]}).to_string()),
    ] {
        let request = Request::put(&format!("/api/v1/agents/alpha/secrets/{name}")).json(&body);
        let response = admin.send(&request);
        assert_eq!(response.problem(), Code::BadRequest, "{name}: {body}");
        control.assert_clean("a refusal", &response.body);
    }
    let forbidden = control.operator(&admin.create_operator("reader", "auditor"));
    let response = forbidden.call("PUT", "/secrets/X", &json!({"value": value}));
    assert_eq!(response.problem(), Code::RoleForbidden);
    assert_eq!(
        admin.call("PUT", "/agents/none/secrets/X", &json!({"value": value})).problem(),
        Code::NotFound
    );
}

#[test]
fn a_value_has_at_most_64_kib_however_it_is_written() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let put = |body: &str| admin.send(&Request::put("/api/v1/secrets/BIG").json(body));
    let body = |character: &str, count: usize| format!("{{\"value\":\"{}\"}}", character.repeat(count));
    assert_eq!(put(&body("x", 65_536)).status, 201);
    assert_eq!(put(&body("\\u0000", 65_536)).status, 200);
    for (character, count) in [("x", 65_537), ("é", 32_769), ("x", 600_000), ("\\u0000", 65_537)] {
        let refused = put(&body(character, count));
        assert_eq!(refused.problem(), Code::BodyTooLarge);
        assert!(refused.text().contains("at most 65536 bytes"), "{}", refused.text());
    }
    let many = json!({"name": "e", "more": "x".repeat(17_000)});
    assert_eq!(admin.call("POST", "/enclaves", &many).problem(), Code::BodyTooLarge);
}

#[test]
fn what_is_not_a_request_is_refused_and_changes_nothing() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let post = |request: Request| admin.send(&request).problem();
    let bad = Code::BadRequest;
    assert_eq!(post(Request::post("/api/v1/enclaves").body(b"{\"name\":\"e\"}")), bad, "no content type");
    assert_eq!(post(Request::post("/api/v1/enclaves").json("")), bad, "no body");
    assert_eq!(
        post(Request::post("/api/v1/enclaves").json("{\"name\":\"e\",\"x\":1}")),
        bad,
        "unknown member"
    );
    assert_eq!(post(Request::post("/api/v1/enclaves").json("{\"name\":\"E\"}")), bad, "not a name");
    assert_eq!(post(Request::post("/api/v1/enclaves?x=1").json("{\"name\":\"e\"}")), bad, "a query");
    let not_utf8 = Request::post("/api/v1/enclaves").header("Content-Type", "application/json");
    assert_eq!(post(not_utf8.body(b"{\"name\":\"\xff\"}")), bad, "not UTF-8");
    assert_eq!(post(Request::get("/api/v1/agents").body(b"{}")), bad, "a body on GET");
    for query in ["limit=0", "limit=1001", "limit=x", "limits=1", "after=%00", "state=gone", "enclave=A"] {
        assert_eq!(post(Request::get(&format!("/api/v1/agents?{query}"))), bad, "{query}");
    }
    let not_a_name = Request::put("/api/v1/secrets/.hidden").json("{\"value\":\"x\"}");
    assert_eq!(post(not_a_name), bad, "a new name that is none");
    for path in ["/api/v1/agents/A", "/api/v1/agents/%00", "/api/v1/agents/..", "/api/v1/enclaves/%2e%2e%2fx"]
    {
        assert_eq!(post(Request::get(path)), Code::NotFound, "{path}");
    }
    assert_eq!(admin.get("/enclaves")["items"], json!([]));
    assert_eq!(admin.get("/overview")["revision"], 0);
}

#[test]
fn lists_come_in_pages() {
    let control = ControlPlane::start();
    let admin = control.admin();
    admin.create_enclave("lab");
    for number in 0..5 {
        admin.create_agent(&format!("agent-{number}"), "lab", 4711 + number);
        admin.set_secret(None, &format!("S{number}"), "x");
    }
    for list in ["/agents", "/secrets"] {
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let page = admin.get(&format!("{list}?limit=2{after}"));
            names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].to_string()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(names.len(), 5, "{list}");
        assert!(names.is_sorted());
    }
    admin.set_state("agent-3", "isolate");
    let isolated = admin.get("/agents?state=isolated&enclave=lab");
    assert_eq!(isolated["items"][0]["name"], "agent-3");
    assert_eq!(isolated["items"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/agents?enclave=none")["items"], json!([]));
}

#[test]
fn every_answer_has_an_id_that_no_client_made_up() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let created = admin
        .send(&Request::post("/api/v1/enclaves").json("{\"name\":\"lab\"}").header("X-Request-Id", "mine"));
    control.planted.remember("the key of lab", created.json()["api_key"].as_str().unwrap());
    created.assert_standard_headers();
    let id = created.header("x-request-id").unwrap();
    assert_ne!(id, "mine");
    let again = admin.send(&Request::get("/api/v1/whoami"));
    assert_ne!(again.header("x-request-id"), Some(id));
}

#[test]
fn methods_that_ask_about_a_path_are_answered() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let mut connection = admin.connect().unwrap();
    let head = Request::new("HEAD", "/api/v1/whoami").bearer(control.token()).header("Connection", "close");
    connection.send(&head.bytes(connection.host())).unwrap();
    let answer = String::from_utf8(connection.read_to_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let options = admin.call("OPTIONS", "/agents", &Value::Null);
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, POST, HEAD, OPTIONS")));
    let refused = admin.call("PATCH", "/agents", &Value::Null);
    assert_eq!(
        (refused.problem(), refused.header("allow")),
        (Code::MethodNotAllowed, Some("GET, POST, HEAD, OPTIONS"))
    );
}
