use crate::stub::{Asked, Stub, TOKEN, answer, gitlab, problem, ran};

#[test]
fn by_default_gitlab_s_variable_is_set() {
    let stub = Stub::gitlab();
    stub.run(&["exec", "--", "printenv", "GITLAB_TOKEN"]).assert_printed(&format!("{TOKEN}\n"));
    let mut command = stub.dvxir(&["exec", "printenv", "GITLAB_TOKEN"]);
    ran(command.env("GITLAB_TOKEN", "stale")).assert_printed(&format!("{TOKEN}\n"));
}

#[test]
fn each_variable_gets_its_provider_s_token() {
    let several = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/agent/credentials/other" => answer(r#"{"token":"other-token","expires_at":null}"#),
        _ => gitlab(asked),
    };
    let stub = Stub::unix(several);
    let script = "echo $A $B $C ${GITLAB_TOKEN-none}";
    stub.run(&["exec", "--env", "A=gitlab", "--env=B=other", "--env", "C=gitlab", "--", "sh", "-c", script])
        .assert_printed(&format!("{TOKEN} other-token {TOKEN} none\n"));
    assert_eq!(
        stub.lines(),
        ["GET /v1/agent/credentials/gitlab", "GET /v1/agent/credentials/other"],
        "each once"
    );
}

#[test]
fn the_token_is_in_no_argument_list() {
    let stub = Stub::gitlab();
    let ran = stub.run(&["exec", "--", "sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline"]);
    assert!(ran.stdout.contains("tr") && !ran.stdout.contains("glpat"), "{ran:?}");
}

#[test]
fn the_command_replaces_us() {
    let stub = Stub::gitlab();
    let ran = stub.run_with_input(&["exec", "--", "sh", "-c", "cat; echo e >&2; exit 42"], "in");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(42), "in", "e\n"));
    let ran = stub.run(&["exec", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(ran.code, None, "{ran:?}");
    // Broken pipes kill programs that do not ask for anything else.
    let ran = stub.run(&["exec", "--", "sh", "-c", "trap; kill -PIPE $$; echo alive"]);
    assert_eq!(ran.code, None, "{ran:?}");
    let ran = stub.run(&["exec", "--", "grep", "SigBlk", "/proc/self/status"]);
    assert_eq!(ran.stdout, "SigBlk:\t0000000000000000\n");
    // Nothing stays open that the command would not have without us.
    let mut plain = std::process::Command::new("ls");
    stub.surround(&mut plain);
    stub.run(&["exec", "--", "ls", "/proc/self/fd"])
        .assert_printed(&crate::stub::ran(plain.arg("/proc/self/fd")).stdout);
}

#[test]
fn without_every_token_nothing_runs() {
    let stub = Stub::gitlab();
    let mark = stub.path().join("mark");
    let touch = ["exec", "--env", "A=gitlab", "--env", "B=other", "--", "touch", mark.to_str().unwrap()];
    stub.run(&touch).assert_failed(3);
    assert!(!mark.exists());
    Stub::saying(problem(410, "credential-expired")).run(&["exec", "true"]).assert_failed(6);
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(&["exec", "--", "no-such-command-here"]);
    // A directory that cannot be searched would be what the system reports.
    let ran = ran(command.env("PATH", "/usr/bin:/bin"));
    ran.assert_failed(1);
    assert_eq!(ran.stderr, "dvxir: cannot run no-such-command-here: command not found\n");
    stub.run(&["exec", "--", "/etc/passwd"]).assert_failed(1);
}

#[test]
fn assignments_that_cannot_be_meant_are_usage_errors() {
    let stub = Stub::gitlab();
    for assignment in ["A", "=gitlab", "A=GitLab", "A B=gitlab", "1=gitlab"] {
        let ran = stub.run(&["exec", "--env", assignment, "--", "true"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
    assert_eq!(stub.run(&["exec", "--env", "A=gitlab", "--env", "A=other", "--", "true"]).code, Some(2));
    assert_eq!(stub.lines(), [""; 0]);
}
