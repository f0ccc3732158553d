use crate::stub::{Stub, TOKEN, answer, answer_with, problem};

#[test]
fn a_token_is_printed_as_it_is() {
    let stub = Stub::gitlab();
    stub.run(&["credentials", "get", "gitlab"]).assert_printed(TOKEN);
    assert_eq!(stub.lines(), ["GET /v1/agent/credentials/gitlab"]);
}

#[test]
fn a_secret_is_printed_byte_for_byte() {
    Stub::gitlab().run(&["secrets", "get", "A_KEY"]).assert_printed("two\nlines\0\x1b \n");
}

#[test]
fn listings_are_columns_without_a_header() {
    let stub = Stub::gitlab();
    stub.run(&["credentials", "list"]).assert_printed("gitlab    pat    my-user\n");
    stub.run(&["secrets", "list"]).assert_printed("A_KEY\ntls.crt\n");
    let two = r#"[{"provider":"a","display_name":"é x","auth_type":"service_account"},{"provider":"gitlab","display_name":"u","auth_type":"new_kind"}]"#;
    Stub::saying(answer(two))
        .run(&["credentials", "list"])
        .assert_printed("a         service_account    é x\ngitlab    new_kind           u\n");
    Stub::saying(answer("[]")).run(&["credentials", "list"]).assert_printed("");
}

#[test]
fn json_listings_are_what_the_broker_said() {
    let stub = Stub::gitlab();
    let credentials = "[{\"provider\":\"gitlab\",\"display_name\":\"my-user\",\"auth_type\":\"pat\"}]\n";
    stub.run(&["credentials", "list", "-o", "json"]).assert_printed(credentials);
    stub.run(&["credentials", "list", "--output=json"]).assert_printed(credentials);
    stub.run(&["secrets", "list", "-o", "json"])
        .assert_printed("[{\"name\":\"A_KEY\"},{\"name\":\"tls.crt\"}]\n");
}

#[test]
fn names_that_cannot_exist_are_usage_errors_and_nothing_is_asked() {
    let stub = Stub::gitlab();
    for provider in ["GitLab", "", "a/b", "../x", "a b", "-x", &"a".repeat(65), "é"] {
        let ran = stub.run(&["credentials", "get", provider]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{provider:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
    }
    for line in [
        &["secrets", "get", ".."][..],
        &["credentials"],
        &["exec"],
        &["no-such"],
        &["credentials", "list", "-o", "yaml"],
    ] {
        let ran = stub.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line:?}: {ran:?}");
    }
    assert_eq!(stub.lines(), [""; 0]);
}

#[test]
fn every_refusal_has_its_exit_code() {
    for (status, code, exit) in [
        (400, "bad-request", 1),
        (401, "token-missing", 4),
        (401, "token-invalid", 4),
        (403, "peer-unknown", 4),
        (403, "peer-mismatch", 4),
        (403, "agent-isolated", 4),
        (403, "agent-revoked", 4),
        (403, "forbidden-origin", 4),
        (404, "not-found", 3),
        (405, "method-not-allowed", 1),
        (410, "credential-expired", 6),
        (413, "body-too-large", 1),
        (429, "rate-limited", 7),
        (431, "headers-too-large", 1),
        (500, "of-the-future", 1),
        (502, "of-the-future", 5),
        (503, "too-many-connections", 5),
        (503, "upstream-unavailable", 5),
        (503, "audit-unavailable", 5),
        (403, "of-the-future", 4),
        (410, "of-the-future", 6),
        (418, "of-the-future", 1),
    ] {
        let stub = Stub::saying(problem(status, code));
        for command in [
            &["credentials", "get", "gitlab"][..],
            &["credentials", "list"],
            &["secrets", "get", "x"],
            &["status"],
        ] {
            let ran = stub.run(command);
            ran.assert_failed(exit);
            assert!(ran.stderr.contains(&format!(": The detail of {code}\n")), "{ran:?}");
        }
    }
}

#[test]
fn a_failure_says_what_and_why_and_what_to_do() {
    let body = r#"{"type":"urn:dvx:problem:not-found","title":"t","status":404,"detail":"no credential for gitlab","hint":"dvx agent integration gitlab link my-agent"}"#;
    let answer = answer_with(404, "", body);
    let answer = String::from_utf8(answer).unwrap().replace("application/json", "application/problem+json");
    let ran = Stub::saying(answer).run(&["credentials", "get", "gitlab"]);
    assert_eq!(
        ran.stderr,
        "dvxir: cannot get the credential for gitlab: no credential for gitlab\n\
         hint: dvx agent integration gitlab link my-agent\n"
    );
    ran.assert_failed(3);
}

#[test]
fn a_wait_is_told() {
    let problem = String::from_utf8(problem(429, "rate-limited")).unwrap();
    let ran = Stub::saying(problem.replace("\r\n\r\n", "\r\nRetry-After: 3\r\n\r\n")).run(&[
        "credentials",
        "get",
        "gitlab",
    ]);
    ran.assert_failed(7);
    assert!(ran.stderr.ends_with("\nhint: try again in 3 s\n"), "{ran:?}");
}

#[test]
fn a_broker_that_is_not_there_is_unreachable() {
    let stub = Stub::gitlab();
    let missing = stub.path().join("none.sock");
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    let ran = crate::stub::ran(command.env("DVX_BROKER_URL", format!("unix://{}", missing.display())));
    ran.assert_failed(5);
    assert_eq!(
        ran.stderr,
        format!(
            "dvxir: cannot connect to the broker at {}: no such file or directory\n\
             hint: is dvx-broker running? systemctl status dvx-broker\n",
            missing.display()
        )
    );
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    crate::stub::ran(command.env("DVX_BROKER_URL", format!("http://127.0.0.1:{port}"))).assert_failed(5);
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let stub = Stub::gitlab();
    for url in ["gitlab.com", "https://127.0.0.1:1", "http://10.0.0.1:80", "unix://x", "unix:///\u{1b}[2J\n"]
    {
        let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
        let ran = crate::stub::ran(command.env("DVX_BROKER_URL", url));
        ran.assert_failed(if url.starts_with("unix:///") { 5 } else { 2 });
    }
}

#[test]
fn an_empty_variable_counts_as_none() {
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    let ran = crate::stub::ran(command.env("DVX_BROKER_URL", ""));
    assert_ne!(ran.code, Some(2), "{ran:?}");
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    crate::stub::ran(command.env("DVX_TOKEN_FILE", "").env("DVX_BROKER_USER", "")).assert_printed(TOKEN);
}
