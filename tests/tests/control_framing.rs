//! Requests to the control plane that are not quite HTTP/1.1: one problem, then the end of the connection.

use dvx_proto::Code;
use dvx_tests::{Connection, ControlPlane, MALFORMED, Operator};

/// Sends each with a request behind it that would be carried out if it were taken for one.
fn check(control: &ControlPlane, operator: &Operator) {
    let authorization = format!("Authorization: Bearer {}\r\n", control.token());
    for (index, (what, text)) in MALFORMED.iter().enumerate() {
        let mut connection = operator.connect().unwrap();
        let host = connection.host().to_owned();
        let body = format!(r#"{{"name":"smuggled-{index}"}}"#);
        let smuggled = format!(
            "POST /api/v1/enclaves HTTP/1.1\r\nHost: {host}\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let text =
            text.replace("HOST", &host).replace("PAGE", "/api/v1/whoami").replace("FORM", "/api/v1/enclaves");
        let text = text.replacen("\r\n", &format!("\r\n{authorization}"), 1);
        drop(connection.send((text + &smuggled).as_bytes()));
        let answer = connection.response().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.problem(), Code::BadRequest, "{what}");
        assert_ended(what, &mut connection);
    }
    let made = control.admin().get("/enclaves")["items"].as_array().unwrap().len();
    assert_eq!(made, 0, "nothing behind a malformed request was carried out");
}

#[track_caller]
fn assert_ended(what: &str, connection: &mut Connection) {
    let rest = connection.read_to_end();
    assert!(rest.is_empty(), "{what}: {}", String::from_utf8_lossy(&rest));
}

#[test]
fn malformed_requests_get_a_problem_on_the_unix_socket() {
    let control = ControlPlane::start();
    check(&control, &control.peer());
}

#[test]
fn malformed_requests_get_a_problem_over_tls() {
    let control = ControlPlane::start();
    check(&control, &control.operator_by_tls(None));
}

#[test]
fn an_unread_body_is_not_taken_for_a_request() {
    let control = ControlPlane::start();
    let authorization = format!("Authorization: Bearer {}\r\n", control.token());
    let request =
        |what: &str, more: &str| format!("{what} HTTP/1.1\r\nHost: dvx\r\n{authorization}{more}\r\n");
    let hidden = request("GET /api/v1/enclaves", "");
    let next = request("GET /api/v1/whoami", "Connection: close\r\n");
    for target in ["/api/v1/nothing", "/elsewhere", "/api/v1/whoami"] {
        let head = request(&format!("POST {target}"), &format!("Content-Length: {}\r\n", hidden.len()));
        for (before, after) in [(hidden.as_str(), ""), ("", hidden.as_str())] {
            let mut connection = control.peer().connect().unwrap();
            let answer = connection.exchange_bytes(format!("{head}{before}").as_bytes());
            assert!(
                matches!(answer.problem(), Code::NotFound | Code::MethodNotAllowed),
                "{target}: {answer:?}"
            );
            // The connection has ended, or goes on behind the body.
            drop(connection.send(format!("{after}{next}").as_bytes()));
            let rest = String::from_utf8(connection.read_to_end()).unwrap();
            assert!(!rest.contains("\"items\""), "{target}: the body was carried out: {rest}");
            assert!(rest.matches("HTTP/1.1").count() <= 1, "{target}: {rest}");
        }
    }
}
