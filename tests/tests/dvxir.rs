//! `dvxir` against a real broker: what it prints, and the status it exits with.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use dvx_tests::{CallerSpec, Outcome, Request, World, eventually, fresh_uid, run, skip_without_root};
use serde_json::json;

fn linked() -> (World, String) {
    let mut world = World::single().tcp().trusted().build();
    let token = world.plant("alpha", "gitlab");
    world.upstream.json("alpha", "gitlab", r#"{"display_name":"my-user"}"#);
    world.plant("alpha", "a-longer-name");
    let json = r#"{"display_name":"Bot","auth_type":"service_account","instance_url":"https://x.example"}"#;
    world.upstream.json("alpha", "a-longer-name", json);
    world.upstream.secret("alpha", "KEY", b"line one\nline two\n\xc3\xa9");
    world.start();
    (world, token)
}

/// Checks the form of a failure: one line that names the program, and at most a hint.
#[track_caller]
fn refused(outcome: &Outcome, status: i32) {
    let stderr = outcome.failure(status);
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines[0].starts_with("dvxir: "), "{stderr}");
    assert!(lines[0].matches(": ").count() >= 2, "what: why: {stderr}");
    assert!(lines.len() <= 2 && lines.get(1).is_none_or(|line| line.starts_with("hint: ")), "{stderr}");
}

#[test]
fn lists_are_aligned_and_values_are_raw() {
    let (world, token) = linked();
    assert_eq!(
        world.dvxir("alpha", &["credentials", "list"]).success(),
        "a-longer-name    service_account    Bot\ngitlab           pat                my-user\n"
    );
    assert_eq!(world.dvxir("alpha", &["credentials", "get", "gitlab"]).success(), token);
    assert_eq!(world.dvxir("alpha", &["secrets", "list"]).success(), "KEY\n");
    assert_eq!(world.dvxir("alpha", &["secrets", "get", "KEY"]).success(), "line one\nline two\né");
}

#[test]
fn lists_are_json_where_that_is_asked_for() {
    let (world, _) = linked();
    let listed = |what: &str| -> serde_json::Value {
        serde_json::from_str(&world.dvxir("alpha", &[what, "list", "-o", "json"]).success()).unwrap()
    };
    assert_eq!(
        listed("credentials")[1],
        json!({"provider": "gitlab", "display_name": "my-user", "auth_type": "pat"})
    );
    assert_eq!(listed("secrets"), json!([{"name": "KEY"}]));
}

#[test]
fn it_says_who_the_caller_is_and_how_the_broker_does() {
    let (world, _) = linked();
    let whoami = world.dvxir("alpha", &["whoami"]).success();
    assert!(whoami.contains("alpha") && whoami.contains("lab-1"), "{whoami}");
    world.dvxir("alpha", &["status"]).success();
}

#[test]
fn over_tcp_the_token_file_is_used() {
    let (world, token) = linked();
    let file = world.ground.path("run/agents/alpha/token");
    let dvxir = |variables: &[(&str, &str)]| {
        let mut command = world.command("alpha", world.program("dvxir"));
        command.env("DVX_BROKER_URL", format!("http://{}", world.tcp())).args([
            "credentials",
            "get",
            "gitlab",
        ]);
        // A proxy would see the agent's token.
        command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
        run(command.envs(variables.iter().copied()))
    };
    let outcome = dvxir(&[("DVX_TOKEN_FILE", file.to_str().unwrap())]);
    assert_eq!(outcome.success(), token);
    refused(&dvxir(&[]), 4);
    refused(&dvxir(&[("DVX_TOKEN_FILE", "/nonexistent")]), 4);
}

#[test]
fn each_kind_of_failure_has_its_status() {
    let (mut world, _) = linked();
    world.plant("alpha", "old");
    let json = r#"{"instance_url":"https://old.example","expires_at":"2001-01-01T00:00:00Z"}"#;
    world.upstream.json("alpha", "old", json);
    let caller = world.caller("alpha");
    eventually("expired", || caller.get("/v1/agent/credentials/old").status == 410);
    refused(&world.dvxir("alpha", &["credentials", "get", "none"]), 3);
    refused(&world.dvxir("alpha", &["secrets", "get", "NONE"]), 3);
    refused(&world.dvxir("alpha", &["credentials", "get", "old"]), 6);
    world.dvxir("alpha", &["credentials", "get", "../../etc/passwd"]).failure(2);
    world.dvxir("alpha", &["credentials", "get", "GitLab"]).failure(2);
    world.dvxir("alpha", &["credentials", "get"]).failure(2);
    world.dvxir("alpha", &["no-such-command"]).failure(2);
    world.stop();
    refused(&world.dvxir("alpha", &["credentials", "get", "gitlab"]), 5);
    refused(&world.dvxir("alpha", &["status"]), 5);
}

#[test]
fn a_stranger_is_refused() {
    if skip_without_root("a_stranger_is_refused") {
        return;
    }
    let (world, _) = linked();
    let stranger = CallerSpec::user(fresh_uid());
    for arguments in [["credentials", "list"].as_slice(), &["credentials", "get", "gitlab"], &["whoami"]] {
        let outcome = run(world.command_as(&stranger, world.program("dvxir")).args(arguments));
        refused(&outcome, 4);
        world.assert_clean("a stranger's stderr", outcome.stderr.as_bytes());
    }
}

#[test]
fn a_stale_upstream_is_not_ready() {
    let mut world = World::single().trusted().set("upstream", "max_stale", "\"1s\"").build();
    world.plant("alpha", "gitlab");
    world.start();
    let away = world.ground.path("away");
    fs::rename(world.upstream.path(), &away).unwrap();
    eventually("stale", || world.admin("/readyz").status == 503);
    refused(&world.dvxir("alpha", &["credentials", "get", "gitlab"]), 5);
    fs::rename(&away, world.upstream.path()).unwrap();
}

#[test]
fn a_spent_rate_has_its_own_status() {
    let mut world = World::single().trusted().set("limits", "requests_per_second", "1").build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let mut connection = caller.unix();
    let outcome = dvx_tests::eventually_some("refused for its rate", || {
        for _ in 0..5 {
            connection.exchange(&Request::get("/v1/agent/whoami"));
        }
        let outcome = world.dvxir("alpha", &["credentials", "get", "gitlab"]);
        (outcome.status != 0).then_some(outcome)
    });
    refused(&outcome, 7);
}

#[test]
fn a_socket_served_by_somebody_else_is_not_trusted() {
    if skip_without_root("a_socket_served_by_somebody_else_is_not_trusted") {
        return;
    }
    let (world, _) = linked();
    let squatter = world.ground.directory("squat", fresh_uid(), 0o755);
    let path = squatter.join("broker.sock");
    let mut fake = World::single();
    fake = fake.set("listen", "unix", &format!("{path:?}"));
    let mut fake = fake.build();
    // A whole broker that feeds poisoned tokens, under a user that nobody trusts.
    fake.config.agents[0].uid = world.uid_of("alpha");
    fake.write_config();
    std::os::unix::fs::chown(&squatter, Some(fake.broker_uid), None).unwrap();
    fake.plant("alpha", "gitlab");
    fake.start();
    for arguments in [["credentials", "get", "gitlab"].as_slice(), &["whoami"], &["secrets", "list"]] {
        let mut command = world.command("alpha", world.program("dvxir"));
        command.env("DVX_BROKER_URL", format!("unix://{}", path.display())).args(arguments);
        refused(&run(&mut command), 4);
    }
    let mut git = world.command("alpha", world.program("dvxir"));
    git.env("DVX_BROKER_URL", format!("unix://{}", path.display())).args(["git-credential", "get"]);
    let outcome = dvx_tests::run_with_input(&mut git, b"protocol=https\nhost=gitlab.com\n\n");
    assert!(!outcome.text().contains("password="));
    assert!(fake.audit().is_empty(), "not a byte was sent to it");
}

#[test]
fn a_silent_server_is_not_waited_for_forever() {
    let (world, _) = linked();
    let path = world.ground.path("etc/silent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut command = world.command("alpha", world.program("dvxir"));
    command.env("DVX_BROKER_URL", format!("unix://{}", path.display())).args([
        "credentials",
        "get",
        "gitlab",
    ]);
    refused(&run(&mut command), 5);
}

#[test]
fn addresses_off_this_machine_are_refused() {
    let (world, _) = linked();
    for url in [
        "http://10.0.0.1:8471",
        "https://127.0.0.1:1",
        "unix://relative",
        "http://evil.example:80",
        "nonsense",
    ] {
        let mut command = world.command("alpha", world.program("dvxir"));
        let outcome = run(command.env("DVX_BROKER_URL", url).args(["credentials", "get", "gitlab"]));
        assert!(matches!(outcome.status, 1 | 2), "{url}: {outcome:?}");
        assert!(outcome.stderr.contains("DVX_BROKER_URL"), "{url}: {}", outcome.stderr);
    }
}

#[test]
fn exec_gives_the_token_to_the_command_alone() {
    let (world, token) = linked();
    let outcome = world.dvxir("alpha", &["exec", "--", "sh", "-c", "printf %s \"$GITLAB_TOKEN\""]);
    assert_eq!(outcome.success(), token);
    let arguments = ["exec", "--env", "MINE=gitlab", "--", "sh", "-c", "printf %s \"$MINE\"; exit 42"];
    let outcome = world.dvxir("alpha", &arguments);
    assert_eq!((outcome.status, outcome.text()), (42, token));
    refused(&world.dvxir("alpha", &["exec", "--env", "X=none", "--", "true"]), 3);
    let outcome = world.dvxir("alpha", &["exec", "--", "/no/such/program"]);
    assert_ne!(outcome.status, 0);
}

#[test]
fn init_links_the_token_and_prints_what_a_shell_needs() {
    let (world, _) = linked();
    let exports = world.dvxir("alpha", &["init"]).success();
    let home = world.ground.home(world.uid_of("alpha"));
    let link = fs::read_link(home.join(".dvx/token")).unwrap();
    assert_eq!(link, world.ground.path("run/agents/alpha/token"));
    assert!(exports.lines().all(|line| line.starts_with("export ")), "{exports}");
    assert!(exports.contains("DVX_BROKER_URL=") && exports.contains("no_proxy="), "{exports}");
    // What it prints can be evaluated, and plain curl then works over TCP with the linked token.
    let script = format!(
        "{exports}\nno_proxy='*' exec curl -sS --fail -H \"Authorization: Bearer $(cat ~/.dvx/token)\" \
         http://{}/v1/agent/credentials",
        world.tcp()
    );
    if run(Command::new("sh").args(["-c", "command -v curl"])).status == 0 {
        let outcome = run(world.command("alpha", "sh").args(["-c", &script]));
        assert!(outcome.success().starts_with("[{\"provider\":\"a-longer-name\""), "{outcome:?}");
    }
    let config = fs::read_to_string(home.join(".gitconfig")).unwrap();
    assert!(config.contains("https://gitlab.com") && config.contains("https://x.example"), "{config}");
    world.assert_clean("the user's files", config.as_bytes());
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let (world, _) = linked();
    let program = world.program("dvxir");
    let script = format!("{} credentials get gitlab | true; exit ${{PIPESTATUS[0]}}", program.display());
    let outcome = run(world.command("alpha", "bash").args(["-c", &script]));
    outcome.success();
}

#[test]
fn a_full_disk_is_a_failure() {
    let (world, _) = linked();
    let script = format!("{} credentials get gitlab > /dev/full", world.program("dvxir").display());
    let outcome = run(world.command("alpha", "sh").args(["-c", &script]));
    assert_eq!(outcome.status, 1, "a cut token is worse than none: {}", outcome.stderr);
}

#[test]
fn completions_and_version_need_no_broker() {
    let (mut world, _) = linked();
    world.stop();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.dvxir("alpha", &["completions", shell]).success().contains("dvxir"), "{shell}");
    }
    let version = world.dvxir("alpha", &["--version"]).success();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}
