//! Who may do what: every route of the operator API with every caller over both transports.

use std::path::Path;

use dvx_proto::Code;
use dvx_tests::{CallerSpec, ControlPlane, Operator, Request, fresh_uid, run, skip_without_root};
use serde_json::json;

const AUDITOR: usize = 0;
const OPERATOR: usize = 1;
const ADMIN: usize = 2;

/// Method, path and the least role. What the paths name is not there, so that trying changes nothing.
const ROWS: &[(&str, &str, usize)] = &[
    ("GET", "/whoami", AUDITOR),
    ("GET", "/overview", AUDITOR),
    ("GET", "/operators", AUDITOR),
    ("POST", "/operators", ADMIN),
    ("DELETE", "/operators/{operator}", ADMIN),
    ("GET", "/enclaves", AUDITOR),
    ("POST", "/enclaves", ADMIN),
    ("GET", "/enclaves/{enclave}", AUDITOR),
    ("DELETE", "/enclaves/{enclave}", ADMIN),
    ("GET", "/agents", AUDITOR),
    ("POST", "/agents", OPERATOR),
    ("GET", "/agents/{agent}", AUDITOR),
    ("DELETE", "/agents/{agent}", OPERATOR),
    ("POST", "/agents/{agent}/isolate", OPERATOR),
    ("POST", "/agents/{agent}/restore", OPERATOR),
    ("POST", "/agents/{agent}/revoke", OPERATOR),
    ("POST", "/agents/{agent}/reprovision", OPERATOR),
    ("GET", "/agents/{agent}/integrations", AUDITOR),
    ("POST", "/agents/{agent}/integrations/{provider}", OPERATOR),
    ("DELETE", "/agents/{agent}/integrations/{provider}", OPERATOR),
    ("POST", "/agents/{agent}/integrations/{provider}/rotate", OPERATOR),
    ("GET", "/operations/{operation}", AUDITOR),
    ("GET", "/credential-providers", AUDITOR),
    ("POST", "/credential-providers", OPERATOR),
    ("GET", "/credential-providers/debts", AUDITOR),
    ("DELETE", "/credential-providers/{provider}", OPERATOR),
    ("POST", "/credential-providers/{provider}/rotate", OPERATOR),
    ("GET", "/agents/{agent}/secrets", AUDITOR),
    ("PUT", "/agents/{agent}/secrets/{secret}", OPERATOR),
    ("DELETE", "/agents/{agent}/secrets/{secret}", OPERATOR),
    ("GET", "/secrets", AUDITOR),
    ("PUT", "/secrets/{secret}", OPERATOR),
    ("DELETE", "/secrets/{secret}", OPERATOR),
    ("GET", "/deliveries/{revision}", AUDITOR),
    ("GET", "/audit", AUDITOR),
    ("GET", "/audit/export", AUDITOR),
];

fn path(form: &str) -> String {
    let path = form.replace("{revision}", "0").replace("{secret}", "none-there").replace("{agent}", "none");
    let path = path.replace("{provider}", "gitlab").replace("{operation}", "none");
    format!("/api/v1{}", path.replace("{enclave}", "none").replace("{operator}", "none"))
}

/// A request whose body is nothing that the path takes.
fn request(method: &str, form: &str) -> Request {
    let request = Request::new(method, &path(form));
    if method == "GET" || method == "DELETE" { request } else { request.json("{\"unknown\":1}") }
}

#[test]
fn every_route_has_a_row() {
    let control = ControlPlane::start();
    let description = control.operator_by_tls(None).send(&Request::get("/api/v1/openapi.json")).json();
    let mut routes = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap().to_owned();
        routes.extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    routes.retain(|(_, path)| path != "/openapi.json");
    routes.sort();
    let mut rows: Vec<_> = ROWS.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
    rows.sort();
    assert_eq!(routes, rows);
}

#[test]
fn every_role_may_what_its_row_says_on_every_transport() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let tokens =
        ["auditor", "operator", "admin"].map(|role| admin.create_operator(&format!("an-{role}"), role));
    for (method, form, least) in ROWS {
        for (role, token) in tokens.iter().enumerate() {
            for caller in [control.operator(token), control.operator_by_tls(Some(token))] {
                let response = caller.send(&request(method, form));
                if role < *least {
                    assert_eq!(response.problem(), Code::RoleForbidden, "{method} {form} as {role}");
                } else {
                    let fine = !matches!(response.status, 401 | 403 | 405 | 500..);
                    assert!(fine, "{method} {form} as {role}: {response:?}");
                }
            }
        }
    }
}

#[test]
fn who_is_nobody_learns_nothing_not_even_which_paths_there_are() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab");
    let mut paths: Vec<_> = ROWS.iter().map(|(method, form, _)| (*method, path(form))).collect();
    paths.extend([("GET", "/api/v1".into()), ("GET", "/api/v1/nothing".into()), ("PATCH", path("/agents"))]);
    let nobody =
        [None, Some("dvxo_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Some("x"), Some(key.as_str())];
    for (method, path) in paths {
        for token in nobody {
            let expected = if token.is_none() { Code::TokenMissing } else { Code::TokenInvalid };
            let mut callers = vec![control.operator_by_tls(token)];
            // Without a token the test itself may be somebody on the Unix socket.
            callers.extend(token.map(|token| control.operator(token)));
            for caller in callers {
                let request = Request::new(method, &path).json("[");
                let response = caller.send(&request);
                assert_eq!(response.problem(), expected, "{method} {path} with {token:?}");
                assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            }
        }
    }
}

#[test]
fn a_token_that_is_sent_decides_also_for_root() {
    if skip_without_root("a_token_that_is_sent_decides_also_for_root") {
        return;
    }
    let control = ControlPlane::start();
    let peer = control.peer().get("/whoami");
    assert_eq!(peer, json!({"name": "uid:0", "role": "admin", "organisation": "default"}));
    let token = control.admin().create_operator("reader", "auditor");
    assert_eq!(control.operator(&token).get("/whoami")["role"], "auditor");
    let forged = control.operator("dvxo_forged").send(&Request::get("/api/v1/whoami"));
    assert_eq!(forged.problem(), Code::TokenInvalid);
}

#[test]
fn on_the_unix_socket_only_root_and_the_own_user_need_no_token() {
    if skip_without_root("on_the_unix_socket_only_root_and_the_own_user_need_no_token") {
        return;
    }
    let mut control = ControlPlane::start();
    let socket = control.replica().socket.clone();
    let ask = |uid| {
        let mut curl = CallerSpec::user(uid).command(Path::new("/usr/bin/curl"));
        curl.args(["--silent", "--write-out", " %{http_code}", "--unix-socket"]);
        run(curl.arg(&socket).arg("http://dvx/api/v1/whoami")).success()
    };
    let own = ask(control.uid);
    assert!(own.contains(&format!("\"name\":\"uid:{}\",\"role\":\"admin\"", control.uid)), "{own}");
    let stranger = ask(fresh_uid());
    assert!(stranger.contains("token-missing") && stranger.ends_with(" 401"), "{stranger}");
}

#[test]
fn a_deleted_operator_is_nobody_at_once() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let token = admin.create_operator("gone", "admin");
    let gone = control.operator(&token);
    assert_eq!(gone.get("/whoami")["name"], "gone");
    // Also in the middle of a connection.
    let mut connection = gone.connect().unwrap();
    assert_eq!(connection.exchange(&Request::get("/api/v1/whoami").bearer(&token)).status, 200);
    admin.change("DELETE", "/operators/gone", &json!(null));
    let response = connection.exchange(&Request::get("/api/v1/whoami").bearer(&token));
    assert_eq!(response.problem(), Code::TokenInvalid);
}

#[test]
fn the_last_admin_cannot_be_deleted() {
    let control = ControlPlane::start();
    let admin = control.admin();
    let last = |response: dvx_tests::Response| assert_eq!(response.problem(), Code::Conflict);
    last(admin.call("DELETE", "/operators/admin", &json!(null)));
    admin.create_operator("second", "admin");
    admin.create_operator("third", "operator");
    admin.change("DELETE", "/operators/second", &json!(null));
    last(admin.call("DELETE", "/operators/admin", &json!(null)));
}

/// The first admin of another organisation.
fn other_organisation(control: &ControlPlane) -> Operator {
    let outcome = run(&mut control.command(&["init", "--organisation", "other"]));
    let token = outcome.success().trim_end().to_owned();
    control.planted.remember("the other organisation's token", &token);
    control.operator_by_tls(Some(&token))
}

#[test]
fn another_organisation_has_none_of_our_things() {
    let control = ControlPlane::start();
    let ours = control.admin();
    ours.create_enclave("lab");
    ours.create_agent("alpha", "lab", 4711);
    ours.set_secret(Some("alpha"), "NOTE", "ours-and-nobody-elses");
    ours.set_secret(None, "SHARED", "ours-and-nobody-elses");
    ours.create_operator("colleague", "operator");
    let other = other_organisation(&control);
    assert_eq!(other.get("/whoami")["organisation"], "other");
    for list in ["/enclaves", "/agents", "/secrets"] {
        assert_eq!(other.get(list)["items"], json!([]), "{list}");
    }
    assert_eq!(other.get("/operators")["items"].as_array().unwrap().len(), 1);
    let value = json!({"value": "theirs"});
    let reason = json!({"reason": "theirs"});
    let agent = json!({"name": "beta", "enclave": "lab", "unix_user": "u"});
    for (method, path, body) in [
        ("GET", "/enclaves/lab", json!(null)),
        ("DELETE", "/enclaves/lab", json!(null)),
        ("GET", "/agents/alpha", json!(null)),
        ("DELETE", "/agents/alpha", json!(null)),
        ("POST", "/agents/alpha/isolate", reason.clone()),
        ("POST", "/agents/alpha/revoke", reason),
        ("POST", "/agents/alpha/restore", json!(null)),
        ("POST", "/agents/alpha/reprovision", json!(null)),
        ("GET", "/agents/alpha/secrets", json!(null)),
        ("GET", "/agents/alpha/integrations", json!(null)),
        ("POST", "/agents/alpha/integrations/gitlab", json!({"token": "theirs"})),
        ("DELETE", "/agents/alpha/integrations/gitlab", json!(null)),
        ("POST", "/agents/alpha/integrations/gitlab/rotate", json!(null)),
        ("PUT", "/agents/alpha/secrets/NOTE", value),
        ("DELETE", "/agents/alpha/secrets/NOTE", json!(null)),
        ("DELETE", "/secrets/SHARED", json!(null)),
        ("DELETE", "/operators/colleague", json!(null)),
        ("POST", "/agents", agent),
    ] {
        let response = other.call(method, path, &body);
        assert_eq!(response.problem(), Code::NotFound, "{method} {path}");
    }
    // Names are each organisation's own.
    other.create_enclave("lab");
    other.create_agent("alpha", "lab", 4711);
    assert_eq!(ours.get("/agents/alpha/secrets")["items"].as_array().unwrap().len(), 1);
    assert_eq!(other.get("/agents/alpha/secrets")["items"], json!([]));
}
