//! What a session offers.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::{TOKEN, World};

#[test]
fn a_command_gets_the_token_from_the_broker_and_its_status_is_ours() {
    let world = World::new();
    let output =
        world.dvx(&["dev", "--", "sh", "-c", "dvxir credentials get gitlab; exit 7"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), TOKEN, "{stderr}");
    assert_eq!(output.status.code(), Some(7));
    assert!(!stderr.contains(TOKEN));
    world.assert_clean();
}

#[test]
fn the_listing_names_the_provider_and_the_agent() {
    let world = World::new();
    assert_eq!(world.run("dvxir credentials list"), "gitlab    pat    me\n");
}

#[test]
fn curl_gets_the_listing_with_the_agent_token() {
    let world = World::new();
    let url = "$DVX_BROKER_URL/v1/agent/credentials";
    let answer = world.run(&format!("curl -sS -H \"Authorization: Bearer $(cat $DVX_TOKEN_FILE)\" {url}"));
    assert_eq!(answer, r#"[{"provider":"gitlab","display_name":"me","auth_type":"pat"}]"#);
    let refused = world.run(&format!("curl -sS -o /dev/null -w '%{{http_code}}' {url}"));
    assert_eq!(refused, "401");
}

#[test]
fn git_gets_the_token_for_the_instance_alone_and_no_file_is_changed() {
    let world = World::new();
    let fill = |host: &str| {
        world.run(&format!(
            "printf 'protocol=https\\nhost={host}\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill 2>&1; true"
        ))
    };
    assert!(fill("gitlab.com").contains(&format!("password={}\n", TOKEN)));
    let other = fill("gitlab.com.evil.example");
    assert!(!other.contains("password="), "{other}");
    assert_eq!(fs::read_dir(world.home()).unwrap().count(), 0, "something was written to the home directory");
}

#[test]
fn another_instance_gets_a_helper_of_its_own() {
    let world = World::new();
    let script = "printf 'protocol=http\\nhost=127.0.0.1:8080\\npath=git/a.git\\n\\n' | git credential fill";
    let mut command =
        world.dvx(&["dev", "--instance-url", "http://127.0.0.1:8080/git", "--", "sh", "-c", script]);
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains(&format!("password={}\n", TOKEN)), "{output:?}");
}

#[test]
fn the_token_is_in_no_environment_below_us() {
    let world = World::new();
    assert!(!world.run("env").contains(TOKEN));
    assert!(!world.run("cat $DVX_DEV_DIR/*.log $DVX_DEV_DIR/audit.jsonl").contains(TOKEN));
}

#[test]
fn the_directory_holds_what_an_operator_looks_for_and_is_private() {
    let world = World::new();
    let files = "broker.toml control.toml broker.pid control.pid broker.log control.log audit.jsonl broker.sock \
                 broker-admin.sock control.sock";
    let listed = world.run(&format!("cd $DVX_DEV_DIR && dvxir whoami >&2 && ls -d {files}"));
    assert_eq!(listed.lines().count(), 10);
    let private = "cd $DVX_DEV_DIR && stat -c %a kek control.db enclave-key control.log";
    assert_eq!(world.run(private), "600\n".repeat(4));
    assert_eq!(world.run("stat -c '%a %u' $DVX_DEV_DIR"), format!("700 {}\n", nix::unistd::Uid::current()));
    assert_eq!(world.run("stat -f -c %T $DVX_DEV_DIR"), "tmpfs\n");
    let daemons =
        "kill -0 $(cat $DVX_DEV_DIR/broker.pid) && kill -0 $(cat $DVX_DEV_DIR/control.pid) && echo alive";
    assert_eq!(world.run(daemons), "alive\n");
    assert_eq!(world.run("dvx-broker status --socket $DVX_DEV_DIR/broker-admin.sock >&2 && echo up"), "up\n");
}

#[test]
fn the_user_is_the_control_planes_admin_and_a_change_is_in_force_when_dvx_returns() {
    let world = World::new();
    let script = "set -e
        dvx whoami -o json
        printf 'glpat-x\n' | dvx agent secret set me gitlab:token --from-file - --no-agent-accessible \
            --display-name my-user >&2
        dvxir credentials get gitlab; echo; dvxir credentials list
        dvx agent secret set me DATABASE_URL --value postgres://x >&2
        dvxir secrets list; dvxir secrets get DATABASE_URL; echo
        dvx agent isolate me --reason test >&2
        dvxir credentials get gitlab 2>&1 || echo $?
        dvx agent restore me >&2
        dvxir credentials get gitlab";
    let output = world.run(script);
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].contains(r#""role":"admin""#), "{output}");
    assert_eq!(lines[1..5], ["glpat-x", "gitlab    pat    my-user", "DATABASE_URL", "postgres://x"]);
    assert!(lines[5].starts_with("dvxir: cannot get the credential for gitlab: "), "{output}");
    assert_eq!(lines[lines.len() - 2..], ["4", "glpat-x"]);
    world.assert_clean();
}

#[test]
fn what_is_about_another_control_plane_stays_outside() {
    let world = World::new();
    let mut command = world.dvx(&["dev", "--", "sh", "-c", "dvx status && env"]);
    command.env("DVX_CONTROL_URL", "https://control.example").env("DVX_OPERATOR_TOKEN", "dvxo_planted");
    let output = command.env("DVX_CA_FILE", "/no/such/file").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("\nenclaves: all connected\nagents: 1 active"), "{output:?}");
    assert!(!stdout.contains("dvxo_planted") && !stdout.contains("control.example"), "{stdout}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's patience is measured on the real clock")]
fn a_session_starts_fast() {
    let world = World::new();
    let fastest = (0..3).map(|_| {
        let start = std::time::Instant::now();
        world.run("true");
        start.elapsed()
    });
    // Unoptimised programs on a busy machine; optimised ones take a fifth of it.
    assert!(fastest.min().unwrap() < std::time::Duration::from_secs(3));
}

#[test]
fn a_token_comes_from_stdin_and_the_command_gets_no_stdin_then() {
    let world = World::new();
    let script = "dvxir credentials get gitlab; cat";
    let mut command = world.dvx(&["dev", "--token-stdin", "--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"glpat-from-stdin\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "glpat-from-stdin");
    world.assert_clean();
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_made() {
    let world = World::new();
    for (text, why) in [("a b", "white space"), ("", "empty"), ("x\n\n", "white space")] {
        let mut command = world.dvx(&["dev", "--token-stdin", "--", "true"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {stderr}");
        assert!(stderr.contains(why), "{stderr}");
        world.assert_clean();
    }
}

#[test]
fn without_a_token_there_is_a_sample_that_says_so() {
    let world = World::new();
    let mut command = world.dvx(&["dev", "--", "dvxir", "credentials", "get", "gitlab"]);
    let output = command.env_remove("GITLAB_TOKEN").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "glpat-sample-not-a-real-token");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no token given, so the agent gets a sample"));
}

#[test]
fn two_sessions_do_not_know_of_each_other() {
    let world = World::new();
    let outer = "dvxir credentials get gitlab; echo; GITLAB_TOKEN=glpat-inner dvx dev -- \
                 sh -c 'dvxir credentials get gitlab; echo'; dvxir credentials get gitlab";
    let output = world.run(outer);
    assert_eq!(output, format!("{0}\nglpat-inner\n{0}", TOKEN));
    world.assert_clean();
}

#[test]
fn a_shell_reads_its_commands_from_stdin_where_there_is_no_terminal() {
    let world = World::new();
    let mut command = world.dvx(&["dev"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"dvxir credentials get gitlab\nexit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), TOKEN);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("curl -H \"Authorization: Bearer $(cat $DVX_TOKEN_FILE)\""), "{stderr}");
}

#[test]
fn a_command_that_cannot_be_run_is_told_as_env_tells_it() {
    let world = World::new();
    for (command, status) in [("/no/such/command", 127), ("/etc/passwd", 126)] {
        let output = world.dvx(&["dev", "--", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("dvx: cannot run {command}: ")));
        world.assert_clean();
    }
}

/// A container's root is root for the kernel too, so root as an agent has to be told from it.
#[test]
fn root_is_served_beside_a_container() {
    let world = World::new();
    if !nix::unistd::Uid::effective().is_root() {
        std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED root_is_served_beside_a_container: needs root\n"),
        )
        .unwrap();
        return;
    }
    let script = "unshare --pid --fork sh -c 'touch $WORLD/inside; sleep 600' &
                  until [ -e $WORLD/inside ]; do sleep 0.01; done; dvxir whoami -o json";
    assert!(world.run(script).contains(r#""agent":"me""#));
}
