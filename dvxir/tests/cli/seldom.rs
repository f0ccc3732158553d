//! `whoami`, `status`, `completions`, `man`.

use crate::stub::{Asked, Stub, answer, gitlab, problem};

#[test]
fn whoami_says_what_the_broker_says() {
    let stub = Stub::gitlab();
    stub.run(&["whoami"]).assert_printed(
        "agent        my-agent\nenclave      lab-1\nuid          1001\ntransport    unix\nstate        active\n",
    );
    stub.run(&["whoami", "-o", "json"]).assert_printed(
        "{\"agent\":\"my-agent\",\"enclave\":\"lab-1\",\"uid\":1001,\"transport\":\"unix\",\"state\":\"active\"}\n",
    );
}

#[test]
fn status_says_that_the_broker_is_up_and_how_fresh() {
    for stub in [Stub::gitlab(), Stub::tcp(gitlab)] {
        let url = stub.url().to_owned();
        stub.run(&["status"]).assert_printed(&format!(
            "broker        {url}\nversion       9.9.9\napi           v1\ntransports    unix tcp\n\
             revision      7\nage           3 s\n"
        ));
        stub.run(&["status", "-o", "json"]).assert_printed(&format!(
            "{{\"broker\":\"{url}\",\"version\":\"9.9.9\",\"api\":[\"v1\"],\"transports\":[\"unix\",\"tcp\"],\
             \"revision\":7,\"age_seconds\":3}}\n"
        ));
    }
}

#[test]
fn a_broker_that_is_up_and_not_fresh_is_not_ready() {
    let stale = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/agent/credentials" => problem(503, "upstream-unavailable"),
        _ => gitlab(asked),
    };
    Stub::unix(stale).run(&["status"]).assert_failed(5);
}

#[test]
fn another_service_is_not_a_broker() {
    let other = r#"{"service":"other","version":"1","api":["v1"],"transports":[]}"#;
    Stub::saying(answer(other)).run(&["status"]).assert_failed(1);
}

#[test]
fn completions_are_there_for_each_shell() {
    let stub = Stub::gitlab();
    for shell in ["bash", "zsh", "fish"] {
        let ran = stub.run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("credentials"), "{shell}");
    }
    assert_eq!(stub.run(&["completions", "cmd.exe"]).code, Some(2));
}

#[test]
fn the_manual_is_hidden_and_there() {
    let stub = Stub::gitlab();
    assert!(stub.run(&["man"]).stdout.contains(".TH DVXIR 1"));
    assert!(stub.run(&["man", "git-credential-dvxir"]).stdout.contains(".TH GIT-CREDENTIAL-DVXIR 1"));
    assert!(!stub.run(&["--help"]).stdout.contains("manual"));
}
