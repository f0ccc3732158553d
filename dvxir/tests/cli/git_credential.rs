//! The helper, asked as git asks.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::stub::{
    Asked, FINGERPRINT, Ran, Stub, TOKEN, answer, answer_with, git_credential, gitlab, link, problem,
    ran_with_input,
};

const GET: &[&str] = &["git-credential", "get"];
const QUESTION: &str = "protocol=https\nhost=gitlab.com\n\n";
const STATEFUL: &str = "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=gitlab.com\n\n";

fn get(stub: &Stub, question: &str) -> Ran {
    stub.run_with_input(GET, question)
}

#[test]
fn an_old_git_gets_user_and_password() {
    let stub = Stub::gitlab();
    get(&stub, QUESTION).assert_printed(&format!("username=oauth2\npassword={TOKEN}\n"));
    assert_eq!(stub.asked()[0].body, r#"{"protocol":"https","host":"gitlab.com"}"#);
}

#[test]
fn a_git_that_keeps_state_is_asked_to_come_back() {
    get(&Stub::gitlab(), STATEFUL).assert_printed(&format!(
        "capability[]=state\nusername=oauth2\npassword={TOKEN}\nstate[]=dvx:attempt=1\n\
         state[]=dvx:fingerprint={FINGERPRINT}\ncontinue=1\n"
    ));
}

#[test]
fn called_by_its_other_name_it_is_the_same() {
    let stub = Stub::gitlab();
    let name = stub.path().join("git-credential-dvxir");
    symlink(env!("CARGO_BIN_EXE_dvxir"), &name).unwrap();
    let mut command = Command::new(&name);
    stub.surround(&mut command);
    ran_with_input(command.arg("get"), QUESTION.as_bytes())
        .assert_printed(&format!("username=oauth2\npassword={TOKEN}\n"));
}

#[test]
fn what_git_knows_travels_to_the_broker() {
    let stub = Stub::gitlab();
    let question =
        "protocol=https\nhost=gitlab.com\npath=a/b.git\nusername=bob\nwwwauth[]=Basic realm=\"x\"\n\n";
    get(&stub, question);
    assert_eq!(
        stub.asked()[0].body,
        r#"{"protocol":"https","host":"gitlab.com","path":"a/b.git","wwwauth":["Basic realm=\"x\""]}"#
    );
}

#[test]
fn a_host_that_is_not_ours_is_left_to_other_helpers() {
    let stub = Stub::gitlab();
    for host in ["github.com", "gitlab.com.evil.example", "evil-gitlab.com", "gitlab.com:8443"] {
        get(&stub, &format!("protocol=https\nhost={host}\n\n")).assert_printed("");
    }
    // git asks helpers about these too; they are no instance's and the broker need not know.
    let asked = stub.lines().len();
    for protocol in ["ssh", "ftp", "smtp", "cert", "file"] {
        get(&stub, &format!("protocol={protocol}\nhost=gitlab.com\n\n")).assert_printed("");
    }
    get(&stub, "protocol=cert\nhost=\npath=/a\n\n").assert_printed("");
    // No instance is reached in the clear, but for one on loopback.
    get(&stub, "protocol=http\nhost=gitlab.com\n\n").assert_printed("");
    get(&stub, "protocol=http\nhost=127.0.0.1.evil.example\n\n").assert_printed("");
    assert_eq!(stub.lines().len(), asked);
}

#[test]
fn what_is_not_a_question_of_git_s_is_refused_and_not_passed_on() {
    let stub = Stub::gitlab();
    let long = format!("protocol=https\nhost=gitlab.com\nx={}\n\n", "x".repeat(70_000));
    for question in [
        "",
        "\n",
        "host=gitlab.com\n\n",
        "protocol=https\n\n",
        "protocol=\nhost=gitlab.com\n\n",
        "protocol=https\nhost=\n\n",
        "protocol=https\r\nhost=gitlab.com\r\n\r\n",
        "protocol=https\nhost=gitlab.com\r\n\n",
        "protocol=https\nhost=gitlab.com\0.evil.example\n\n",
        "protocol=https\nhost=gitlab.com@evil.example\n\n",
        "protocol=https\nhost=user:pass@gitlab.com\n\n",
        "protocol=https\nhost=gitlab.com.\n\n",
        "protocol=https\nhost=gitlab.com/x\n\n",
        "protocol=https\nhost=gitl\u{430}b.com\n\n",
        "protocol=https\nhost=gitlab.com:0\n\n",
        "protocol=https\nhost=[::1\n\n",
        "protocol=https\nhost=gitlab.com\nhost=evil.example\n\n",
        "protocol=https\nhost=gitlab.com\nurl=https://evil.example\n\n",
        "url=https://gitlab.com\n\n",
        "protocol=https\nhost=gitlab.com\nnonsense\n\n",
        &long,
    ] {
        get(&stub, question).assert_failed(1);
    }
    let ran = stub.run_with_input(GET, b"protocol=https\nhost=gitlab\xff.com\n\n");
    ran.assert_failed(1);
    assert_eq!(stub.lines(), [""; 0]);
}

#[test]
fn loopback_may_be_asked_about_in_clear() {
    let stub = Stub::unix(|_| git_credential(TOKEN, FINGERPRINT));
    for host in ["127.0.0.1:8080", "localhost", "[::1]:8080"] {
        get(&stub, &format!("protocol=http\nhost={host}\n\n"))
            .assert_printed(&format!("username=oauth2\npassword={TOKEN}\n"));
    }
}

#[test]
fn when_an_operator_says_no_git_is_told_to_ask_nobody_else() {
    for code in ["agent-isolated", "agent-revoked", "peer-unknown"] {
        let ran = get(&Stub::saying(problem(403, code)), STATEFUL);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), "quit=1\n"), "{code}");
        assert!(
            ran.stderr.starts_with("dvxir: no credential for https://gitlab.com: The detail of"),
            "{ran:?}"
        );
    }
}

#[test]
fn what_may_pass_is_said_and_leaves_git_free_to_go_on() {
    for (status, code, exit) in [
        (410, "credential-expired", 6),
        (503, "upstream-unavailable", 5),
        (429, "rate-limited", 7),
        (401, "token-invalid", 4),
        (500, "of-the-future", 1),
    ] {
        get(&Stub::saying(problem(status, code)), STATEFUL).assert_failed(exit);
    }
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(GET);
    command.env("DVX_BROKER_URL", "unix:///nowhere/broker.sock");
    ran_with_input(&mut command, QUESTION.as_bytes()).assert_failed(5);
}

#[test]
fn an_answer_that_git_would_misread_is_not_given() {
    for body in [
        r#"{"username":"a\nhost=evil","password":"x","expires_at":null,"fingerprint":"0123456789abcdef"}"#,
        r#"{"username":"a","password":"x\ny","expires_at":null,"fingerprint":"0123456789abcdef"}"#,
        r#"{"username":"a","password":"x","expires_at":null,"fingerprint":"0123\ncontinue=1"}"#,
        r#"{"username":"a","password":"x"}"#,
    ] {
        get(&Stub::saying(answer(body)), STATEFUL).assert_failed(1);
    }
}

#[test]
fn an_end_is_told_ahead_of_its_time_and_never_when_it_is_near() {
    let body = |end: &str| {
        answer(&format!(
            r#"{{"username":"oauth2","password":"x","expires_at":"{end}","fingerprint":"0123456789abcdef"}}"#
        ))
    };
    get(&Stub::saying(body("2099-01-01T00:01:00Z")), QUESTION)
        .assert_printed("username=oauth2\npassword=x\npassword_expiry_utc=4070908800\n");
    get(&Stub::saying(body("2001-01-01T00:00:00Z")), QUESTION)
        .assert_printed("username=oauth2\npassword=x\n");
}

/// A broker that has another token once the first has been reported.
fn rotating() -> impl FnMut(&Asked) -> Vec<u8> + Send {
    let mut reported = false;
    move |asked| match asked.line.as_str() {
        "POST /v1/agent/git-credential" if reported => git_credential("glpat-newer", "fedcba9876543210"),
        "POST /v1/agent/credentials/gitlab/rejected" => {
            reported |= asked.body == format!(r#"{{"fingerprint":"{FINGERPRINT}"}}"#);
            answer_with(202, "", "")
        }
        _ => gitlab(asked),
    }
}

const SECOND: &str = "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=gitlab.com\nusername=oauth2\n\
                      wwwauth[]=Basic realm=\"x\"\nstate[]=dvx:attempt=1\n";

#[test]
fn the_second_round_reports_the_token_and_gives_the_newer_one() {
    let stub = Stub::unix(rotating());
    get(&stub, &format!("{SECOND}state[]=dvx:fingerprint={FINGERPRINT}\n\n"))
        .assert_printed("capability[]=state\nusername=oauth2\npassword=glpat-newer\nstate[]=dvx:attempt=2\n");
    assert_eq!(
        stub.lines(),
        [
            "GET /v1/agent/credentials",
            "POST /v1/agent/credentials/gitlab/rejected",
            "POST /v1/agent/git-credential"
        ]
    );
}

#[test]
fn a_second_round_without_the_fingerprint_finds_it_out() {
    let stub = Stub::unix(rotating());
    get(&stub, &format!("{SECOND}\n"))
        .assert_printed("capability[]=state\nusername=oauth2\npassword=glpat-newer\nstate[]=dvx:attempt=2\n");
}

#[test]
fn a_report_that_fails_does_not_stand_in_the_way() {
    let failing = |asked: &Asked| match asked.line.as_str() {
        "POST /v1/agent/git-credential" => git_credential(TOKEN, FINGERPRINT),
        _ => problem(503, "audit-unavailable"),
    };
    let ran = get(&Stub::unix(failing), &format!("{SECOND}state[]=dvx:fingerprint={FINGERPRINT}\n\n"));
    ran.assert_printed(&format!(
        "capability[]=state\nusername=oauth2\npassword={TOKEN}\nstate[]=dvx:attempt=2\n"
    ));
}

#[test]
fn only_the_provider_of_that_host_hears_of_a_refusal() {
    let two = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/agent/credentials" => answer_with(
            200,
            &[link("https://gitlab.com", "gitlab"), link("https://other.example/git", "other")].concat(),
            "[]",
        ),
        _ => answer_with(202, "", ""),
    };
    let erase = |stub: &Stub, place: &str| {
        stub.run_with_input(&["git-credential", "erase"], format!("protocol=https\n{place}password=x\n\n"))
            .assert_printed("");
        stub.lines().into_iter().filter(|line| line.contains("rejected")).collect::<Vec<_>>()
    };
    let rejected = |provider: &str| vec![format!("POST /v1/agent/credentials/{provider}/rejected")];
    assert_eq!(erase(&Stub::unix(two), "host=GitLab.com:443\n"), rejected("gitlab"));
    assert_eq!(erase(&Stub::unix(two), "host=other.example\npath=git/a.git\n"), rejected("other"));
    assert_eq!(erase(&Stub::unix(two), "host=other.example\npath=elsewhere\n"), [""; 0]);
    assert_eq!(erase(&Stub::unix(two), "host=evil.example\n"), [""; 0]);
}

#[test]
fn erase_reports_the_fingerprint_and_never_the_token() {
    let stub = Stub::gitlab();
    let question = format!("protocol=https\nhost=gitlab.com\nusername=oauth2\npassword={TOKEN}\n\n");
    stub.run_with_input(&["git-credential", "erase"], question).assert_printed("");
    let last = stub.asked().pop().unwrap();
    assert_eq!(last.line, "POST /v1/agent/credentials/gitlab/rejected");
    assert_eq!(last.body, format!(r#"{{"fingerprint":"{FINGERPRINT}"}}"#));
    assert!(stub.asked().iter().all(|asked| !format!("{asked:?}").contains(TOKEN)));
}

#[test]
fn store_and_erase_are_quiet_whatever_happens() {
    let good = format!("protocol=https\nhost=gitlab.com\nusername=u\npassword={TOKEN}\n\n");
    let stub = Stub::gitlab();
    stub.run_with_input(&["git-credential", "store"], &good).assert_printed("");
    stub.run_with_input(&["git-credential", "something-new"], &good).assert_printed("");
    assert_eq!(stub.lines(), [""; 0], "nothing is asked");
    for operation in ["store", "erase"] {
        for input in [good.as_str(), "", "nonsense", "host=\0\n\n", "protocol=https\nhost=gitlab.com\n\n"] {
            let mut command = stub.dvxir(&["git-credential", operation]);
            command.env("DVX_BROKER_URL", "unix:///nowhere/broker.sock");
            ran_with_input(&mut command, input.as_bytes()).assert_printed("");
        }
        let stub = Stub::saying("rubbish");
        stub.run_with_input(&["git-credential", operation], &good).assert_printed("");
        let stub = Stub::saying(problem(403, "agent-isolated"));
        stub.run_with_input(&["git-credential", operation], &good).assert_printed("");
    }
}
