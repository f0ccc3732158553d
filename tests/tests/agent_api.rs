//! The agent API, to the byte.

use dvx_proto::agent::{INSTANCE_RELATION, ROUTES};
use dvx_proto::{Code, Fingerprint};
use dvx_tests::{Caller, Request, Response, World, eventually, skip_without_root, unverified_claims};
use serde_json::{Value, json};

fn started(world: &mut World) -> Caller {
    world.start();
    world.caller("alpha")
}

#[test]
fn discovery_names_the_service_and_its_transports() {
    let mut world = World::single().tcp().build();
    let caller = started(&mut world);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"{{"service":"dvx-broker","version":"{version}","api":["v1"],"transports":["unix","tcp"]}}"#
    );
    assert_eq!(caller.get("/v1/agent/discover").ok_json(), expected);
    assert_eq!(caller.tcp().exchange(&Request::get("/v1/agent/discover")).ok_json(), expected);
}

#[test]
fn discovery_names_no_transport_that_is_not_there() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    assert_eq!(caller.get("/v1/agent/discover").json()["transports"], json!(["unix"]));
}

#[test]
fn whoami_says_who_the_kernel_says() {
    let mut world = World::single().tcp().build();
    let caller = started(&mut world);
    let uid = caller.spec.uid;
    let expected = |transport: &str| {
        format!(
            r#"{{"agent":"alpha","enclave":"lab-1","uid":{uid},"transport":"{transport}","state":"active"}}"#
        )
    };
    assert_eq!(caller.get("/v1/agent/whoami").ok_json(), expected("unix"));
    let request = Request::get("/v1/agent/whoami").bearer(&caller.token());
    assert_eq!(caller.tcp().exchange(&request).ok_json(), expected("tcp"));
}

#[test]
fn an_issued_token_has_the_claims_of_the_contract() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let answer = caller.send(&Request::post("/v1/agent/token"));
    let body: Value = serde_json::from_str(answer.ok_json()).unwrap();
    let token = body["token"].as_str().unwrap();
    world.planted.remember("an agent token", token);
    assert_eq!(answer.text(), format!(r#"{{"token":"{token}","expires_at":{}}}"#, body["expires_at"]));

    let claims = unverified_claims(token);
    let keys: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["aud", "exp", "iat", "iss", "jti", "sub", "uid"], "no other claims");
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("lab-1"), &json!("alpha")));
    assert_eq!((&claims["aud"], &claims["uid"]), (&json!("dvx-broker"), &json!(caller.spec.uid)));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    let ends: jiff::Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.as_second(), claims["exp"].as_i64().unwrap());
    assert_ne!(unverified_claims(&caller.token())["jti"], claims["jti"], "each token is unlike any other");
}

#[test]
fn credentials_are_listed_sorted_and_without_their_values() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let json = r#"{"display_name":"my-user","auth_type":"pat","instance_url":"https://gitlab.example:8443"}"#;
    world.upstream.json("alpha", "gitlab", json);
    world.plant("alpha", "github");
    world.plant("alpha", "a-forge");
    let quoted = r#"{"display_name":"Bot \"x\"","auth_type":"project_access_token","instance_url":"https://a.example"}"#;
    world.upstream.json("alpha", "a-forge", quoted);
    let answer = started(&mut world).get("/v1/agent/credentials");
    assert_eq!(
        answer.ok_json(),
        concat!(
            r#"[{"provider":"a-forge","display_name":"Bot \"x\"","auth_type":"project_access_token"},"#,
            r#"{"provider":"github","display_name":"github","auth_type":"pat"},"#,
            r#"{"provider":"gitlab","display_name":"my-user","auth_type":"pat"}]"#
        )
    );
    let links = answer.headers_named("link").join(", ");
    let link = format!(r#"<https://gitlab.example:8443>; rel="{INSTANCE_RELATION}"; title="gitlab""#);
    assert!(links.contains(&link), "{links}");
    assert_freshness(&answer);
}

#[test]
fn an_agent_with_nothing_has_empty_lists() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    assert_eq!(caller.get("/v1/agent/credentials").ok_json(), "[]");
    assert_eq!(caller.get("/v1/agent/secrets").ok_json(), "[]");
}

#[test]
fn a_credential_is_its_token_and_its_end() {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let ending = world.plant("alpha", "forge");
    let json = r#"{"instance_url":"https://forge.example","expires_at":"2098-12-31T23:00:00-01:00"}"#;
    world.upstream.json("alpha", "forge", json);
    let caller = started(&mut world);
    let answer = caller.get("/v1/agent/credentials/gitlab");
    assert_eq!(answer.ok_json(), format!(r#"{{"token":"{token}","expires_at":null}}"#));
    assert_freshness(&answer);
    let answer = caller.get("/v1/agent/credentials/forge");
    assert_eq!(answer.ok_json(), format!(r#"{{"token":"{ending}","expires_at":"2099-01-01T00:00:00Z"}}"#));
}

#[test]
fn a_token_within_a_minute_of_its_end_is_listed_but_gone() {
    let mut world = World::single().build();
    let now = jiff::Timestamp::now();
    for (provider, seconds) in [("past", -3600), ("nearly", 55), ("still", 600)] {
        world.plant("alpha", provider);
        let end = jiff::Timestamp::from_second(now.as_second() + seconds).unwrap();
        let json = format!(r#"{{"instance_url":"https://{provider}.example","expires_at":"{end}"}}"#);
        world.upstream.json("alpha", provider, &json);
    }
    let caller = started(&mut world);
    let listed: Vec<Value> = serde_json::from_slice(&caller.get("/v1/agent/credentials").body).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(caller.get("/v1/agent/credentials/past").problem(), Code::CredentialExpired);
    assert_eq!(caller.get("/v1/agent/credentials/nearly").problem(), Code::CredentialExpired);
    assert_eq!(caller.get("/v1/agent/credentials/still").status, 200);
    let body = r#"{"protocol":"https","host":"past.example"}"#;
    assert_eq!(caller.post("/v1/agent/git-credential", body).problem(), Code::CredentialExpired);
}

#[test]
fn secrets_are_byte_for_byte() {
    let mut world = World::single().build();
    let value = "line one\n\"quoted\" \\ back\ttab\r\n\u{1}\u{7f} snow\u{2603} \u{1f600}</script>\n";
    world.upstream.secret("alpha", "odd", value.as_bytes());
    world.upstream.secret("alpha", "DATABASE_URL", b"postgres://u:p@h/d");
    let caller = started(&mut world);
    assert_eq!(caller.get("/v1/agent/secrets").ok_json(), r#"[{"name":"DATABASE_URL"},{"name":"odd"}]"#);
    let answer = caller.get("/v1/agent/secrets/DATABASE_URL");
    assert_eq!(answer.ok_json(), r#"{"name":"DATABASE_URL","value":"postgres://u:p@h/d"}"#);
    assert_freshness(&answer);
    assert_eq!(caller.get("/v1/agent/secrets/odd").json(), json!({"name": "odd", "value": value}));
}

#[test]
fn git_gets_a_name_a_password_and_a_fingerprint() {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    let fingerprint = Fingerprint::of(token.as_bytes());
    let expected = format!(
        r#"{{"username":"oauth2","password":"{token}","expires_at":null,"fingerprint":"{fingerprint}"}}"#
    );
    for body in [
        r#"{"protocol":"https","host":"gitlab.com"}"#,
        r#"{"protocol":"HTTPS","host":"GitLab.com:443","path":"group/project.git","wwwauth":["Basic realm=\"x\""]}"#,
        r#"{"protocol":"https","host":"gitlab.com","a_member_of_the_future":[1,2]}"#,
    ] {
        let answer = caller.post("/v1/agent/git-credential", body);
        assert_eq!(answer.ok_json(), expected, "{body}");
        assert_freshness(&answer);
    }
}

#[test]
fn a_rejection_is_accepted_and_changes_nothing_by_itself() {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    for fingerprint in [Fingerprint::of(token.as_bytes()), Fingerprint::of(b"some other token")] {
        let body = format!(r#"{{"fingerprint":"{fingerprint}"}}"#);
        let answer = caller.post("/v1/agent/credentials/gitlab/rejected", &body);
        answer.assert_standard_headers();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").json()["token"], json!(token));
}

#[test]
fn bodies_that_are_not_what_a_route_takes_are_bad_requests() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    for body in ["", "{}", "[]", "not json", r#"{"fingerprint":"XYZ"}"#, r#"{"fingerprint":1}"#, "\u{0}"] {
        let answer = caller.post("/v1/agent/credentials/gitlab/rejected", body);
        assert_eq!(answer.problem(), Code::BadRequest, "{body:?}");
    }
    for body in
        ["", "{}", r#"{"protocol":"https"}"#, r#"{"host":"gitlab.com"}"#, r#"{"protocol":1,"host":"x"}"#]
    {
        assert_eq!(caller.post("/v1/agent/git-credential", body).problem(), Code::BadRequest, "{body:?}");
    }
    let not_utf8 =
        Request::post("/v1/agent/git-credential").body(b"{\"protocol\":\"https\",\"host\":\"\xff\"}");
    assert_eq!(caller.send(&not_utf8).problem(), Code::BadRequest);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(caller.post("/v1/agent/git-credential", &deep).problem(), Code::BadRequest);
}

#[test]
fn what_is_not_there_looks_the_same_whatever_the_reason() {
    if skip_without_root("what_is_not_there_looks_the_same_whatever_the_reason") {
        return;
    }
    let mut world = World::pair().build();
    world.plant("beta", "github");
    world.upstream.secret("beta", "THEIRS", b"a secret of beta");
    let caller = started(&mut world);
    let first = caller.get("/v1/agent/credentials/github");
    assert_eq!(first.problem(), Code::NotFound);
    for path in [
        "/v1/agent/credentials/gitlab",
        "/v1/agent/credentials/no-such-provider",
        "/v1/agent/credentials/GITLAB",
        "/v1/agent/credentials/%2e%2e",
        "/v1/agent/credentials/",
        "/v1/agent/credentials/..",
    ] {
        assert_same(&caller.get(path), &first, path);
    }
    let theirs = caller.get("/v1/agent/secrets/THEIRS");
    assert_eq!(theirs.problem(), Code::NotFound);
    for path in ["/v1/agent/secrets/NONE", "/v1/agent/secrets/..", "/v1/agent/secrets/a%2fb"] {
        assert_same(&caller.get(path), &theirs, path);
    }
    let rejection = r#"{"fingerprint":"0000000000000000"}"#;
    let theirs = caller.post("/v1/agent/credentials/github/rejected", rejection);
    assert_eq!(theirs.problem(), Code::NotFound);
    assert_same(&caller.post("/v1/agent/credentials/none/rejected", rejection), &theirs, "rejected");
}

#[test]
fn paths_outside_the_contract_are_not_found() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    for path in [
        "/",
        "/v1",
        "/v1/agent",
        "/v1/agent/",
        "/v2/agent/whoami",
        "/v1/agent/whoami/",
        "//v1/agent/whoami",
        "/v1//agent/whoami",
        "/v1/agent/./whoami",
        "/v1/agent/%77hoami",
        "/v1/agent/credentials/gitlab/",
        "/v1/agent/credentials/gitlab/x",
        "/v1/agent/credentials/gitlab;x",
        "/v1/agent/credentials/x/../gitlab",
        "/v1/agent/proxy/gitlab/api/v4/user",
        "/healthz",
        "/metrics",
        "/status",
        "/v1/agent/credentials/gitlab%00",
    ] {
        assert_eq!(caller.get(path).problem(), Code::NotFound, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Request::new(method, "/v1/agent/proxy/gitlab/api/v4/user");
        assert_eq!(caller.send(&request).problem(), Code::NotFound, "{method} of the injection route");
    }
}

#[test]
fn every_route_takes_its_own_method_only() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    for route in ROUTES {
        let path = route.path.replace("{}", "gitlab");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "PROPFIND"] {
            if method == route.method {
                continue;
            }
            let answer = caller.send(&Request::new(method, &path));
            assert_eq!(answer.problem(), Code::MethodNotAllowed, "{method} {path}");
            assert_eq!(
                answer.header("allow"),
                Some(route.method),
                "RFC 9110 section 15.5.6 wants it: {path}"
            );
        }
    }
}

#[test]
fn a_method_cannot_be_overridden() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let request = Request::get("/v1/agent/token").header(name, "POST");
        assert_eq!(caller.send(&request).problem(), Code::MethodNotAllowed, "{name}");
    }
}

#[test]
fn one_connection_answers_many_requests() {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let mut connection = started(&mut world).unix();
    for _ in 0..50 {
        let answer = connection.exchange(&Request::get("/v1/agent/credentials/gitlab"));
        assert_eq!(answer.json()["token"], json!(token));
        assert_eq!(connection.exchange(&Request::get("/v1/agent/nothing")).problem(), Code::NotFound);
    }
    let answer = connection.exchange(&Request::get("/v1/agent/whoami").header("Connection", "close"));
    assert_eq!(answer.status, 200);
    connection.assert_closed();
}

#[test]
fn the_revision_grows_with_each_change() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let caller = started(&mut world);
    let revision = || -> u64 {
        let answer = caller.get("/v1/agent/credentials/gitlab");
        answer.header("dvx-revision").unwrap().parse().unwrap()
    };
    let before = revision();
    assert_eq!(revision(), before, "nothing changed");
    let token = world.plant("alpha", "gitlab");
    eventually("the new token is served", || {
        caller.get("/v1/agent/credentials/gitlab").json()["token"] == json!(token)
    });
    assert!(revision() > before);
}

#[test]
fn a_whole_request_may_arrive_byte_by_byte() {
    let mut world = World::single().build();
    let mut connection = started(&mut world).unix();
    for byte in
        Request::post("/v1/agent/git-credential").json(r#"{"protocol":"https","host":"x"}"#).bytes("dvx")
    {
        connection.send(&[byte]).unwrap();
    }
    assert_eq!(connection.response().unwrap().problem(), Code::NotFound);
}

#[track_caller]
fn assert_same(one: &Response, other: &Response, what: &str) {
    let fields = |response: &Response| {
        let mut fields = response.headers.clone();
        fields.retain(|(name, _)| name != "date");
        fields
    };
    assert_eq!((one.status, one.text()), (other.status, other.text()), "{what}");
    assert_eq!(fields(one), fields(other), "{what}");
}

#[track_caller]
fn assert_freshness(response: &Response) {
    let number = |name: &str| -> u64 {
        let text = response.header(name).unwrap_or_else(|| panic!("{name} is missing: {response:?}"));
        text.parse().unwrap_or_else(|_| panic!("{name} is not a whole number: {text}"))
    };
    assert!(number("dvx-revision") >= 1);
    assert!(number("dvx-age") <= 2, "the upstream was just looked at: {response:?}");
}
