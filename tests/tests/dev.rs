//! `dvx dev` against a git server: the session that the README promises.

use std::process::Command;

use dvx_tests::git::GitServer;
use dvx_tests::{Ground, Outcome, binary, own_uid, run};

const TOKEN: &str = "glpat-planted-session-token-000001";

/// Runs a script in a session whose instance is the server.
fn session(ground: &Ground, server: &GitServer, script: &str) -> Outcome {
    let mut command = Command::new(binary("dvx"));
    binary("dvx-control");
    binary("dvx-broker");
    binary("dvxir");
    command.args(["dev", "--instance-url", server.url(), "--", "sh", "-euc", script]);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", ground.home(own_uid()));
    command.env("GITLAB_TOKEN", TOKEN).env("GIT_TERMINAL_PROMPT", "0").env("GIT_TRACE", "2");
    run(command.current_dir(ground.home(own_uid())))
}

#[test]
fn git_clones_and_pushes_without_being_set_up() {
    let ground = Ground::new(own_uid());
    let server = GitServer::start(&ground.path("repositories"));
    server.accept(TOKEN);
    let url = server.repository("private.git");
    let script = format!(
        "git clone --quiet {url} work && cd work
         git -c user.name=A -c user.email=a@example.org commit --quiet --allow-empty -m first
         git push --quiet origin HEAD:main
         git clone --quiet {url} again && git -C again log --oneline | grep -q first
         git config --global --list --show-origin >&2 || true"
    );
    let outcome = session(&ground, &server, &script);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(TOKEN) && !ground.home(own_uid()).join(".gitconfig").exists());
    assert_eq!(server.refusals(), 0);
}

#[test]
fn a_token_that_is_replaced_and_revoked_meanwhile_costs_no_failure() {
    let ground = Ground::new(own_uid());
    let server = GitServer::start(&ground.path("repositories"));
    server.accept("glpat-the-next-session-token-000002");
    let url = server.repository("private.git");
    // The server knows the next token only. It is set while git already waits for it.
    let script = format!(
        "(sleep 1; printf glpat-the-next-session-token-000002 | dvx agent secret set me gitlab:token \
          --no-agent-accessible --instance-url {instance} >&2) &
         git ls-remote {url}; wait",
        instance = server.url(),
    );
    let outcome = session(&ground, &server, &script);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(server.refusals(), 1, "the old token was tried once");
}
