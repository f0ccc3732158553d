use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::stub::{Asked, Ran, Stub, answer_with, gitlab, link, problem, ran};

const OURS: &str = concat!(env!("CARGO_BIN_EXE_dvxir"), " git-credential");

fn git_config(stub: &Stub, arguments: &[&str]) -> Ran {
    let mut command = Command::new("git");
    stub.surround(&mut command);
    ran(command.args(["config", "--global"]).args(arguments))
}

fn helpers(stub: &Stub, url: &str) -> Vec<String> {
    let values = git_config(stub, &["--null", "--get-all", &format!("credential.{url}.helper")]).stdout;
    values.split_terminator('\0').map(str::to_owned).collect()
}

/// A broker that keeps the agent's token where it usually is.
fn broker() -> Stub {
    let stub = Stub::gitlab();
    fs::create_dir_all(stub.path().join("agents/my-agent")).unwrap();
    fs::write(stub.path().join("agents/my-agent/token"), "eyJ.a.b").unwrap();
    stub
}

#[test]
fn a_token_that_is_not_there_is_told_of() {
    let ran = Stub::gitlab().run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("agents/my-agent/token yet\nhint: "), "{ran:?}");
}

#[test]
fn an_account_is_set_up() {
    let stub = broker();
    let ran = stub.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stdout,
        format!(
            "export DVX_BROKER_URL={}\nexport no_proxy=127.0.0.1,localhost,::1\n\
             export NO_PROXY=127.0.0.1,localhost,::1\n",
            stub.url()
        )
    );
    let expected = stub.path().join("agents/my-agent/token");
    assert_eq!(fs::read_link(stub.home().join(".dvx/token")).unwrap(), expected);
    assert_eq!(fs::metadata(stub.home().join(".dvx")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(helpers(&stub, "https://gitlab.com"), ["", OURS]);
    assert_eq!(git_config(&stub, &["--get", "credential.https://gitlab.com.useHttpPath"]).stdout, "");
}

#[test]
fn again_changes_nothing_and_says_nothing() {
    let stub = broker();
    let first = stub.run(&["init"]);
    let config = fs::read_to_string(stub.home().join(".gitconfig")).unwrap();
    let link = fs::symlink_metadata(stub.home().join(".dvx/token")).unwrap().ino();
    stub.run(&["init"]).assert_printed(&first.stdout);
    assert_eq!(fs::read_to_string(stub.home().join(".gitconfig")).unwrap(), config);
    assert_eq!(fs::symlink_metadata(stub.home().join(".dvx/token")).unwrap().ino(), link);
}

#[test]
fn a_shell_takes_the_lines_over() {
    let stub = Stub::gitlab();
    let script = format!(
        "eval \"$({} init 2>/dev/null)\"; printf '%s|' \"$DVX_BROKER_URL\" \"$no_proxy\" \"$NO_PROXY\"; env | grep -c '^EVIL'",
        env!("CARGO_BIN_EXE_dvxir")
    );
    let mut shell = Command::new("sh");
    stub.surround(&mut shell);
    let ran = ran(shell.args(["-c", &script]).env("no_proxy", "a b,$(id),';export EVIL=1;'"));
    let list = "a b,$(id),';export EVIL=1;',127.0.0.1,localhost,::1";
    assert_eq!(ran.stdout, format!("{}|{list}|{list}|0\n", stub.url()));
}

#[test]
fn what_is_in_no_proxy_stays() {
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(&["init"]);
    let ran = ran(command.env("no_proxy", "corp.example,localhost").env("NO_PROXY", "*"));
    assert!(ran.stdout.contains("\nexport no_proxy=corp.example,localhost,127.0.0.1,::1\n"), "{ran:?}");
    assert!(ran.stdout.contains("\nexport NO_PROXY='*'\n"), "{ran:?}");
}

#[test]
fn a_named_token_file_is_what_the_link_leads_to() {
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(&["init"]);
    ran(command.current_dir(stub.path()).env("DVX_TOKEN_FILE", "named"));
    assert_eq!(fs::read_link(stub.home().join(".dvx/token")).unwrap(), stub.path().join("named"));
    let usual = stub.home().join(".dvx/token");
    let ran = ran(stub.dvxir(&["init"]).env("DVX_TOKEN_FILE", &usual));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_ne!(fs::read_link(&usual).unwrap(), usual, "never a link to itself");
}

#[test]
fn a_token_file_that_a_person_made_is_never_replaced() {
    let stub = Stub::gitlab();
    fs::create_dir(stub.home().join(".dvx")).unwrap();
    fs::write(stub.home().join(".dvx/token"), "mine").unwrap();
    let ran = stub.run(&["init"]);
    ran.assert_failed(1);
    assert_eq!(fs::read_to_string(stub.home().join(".dvx/token")).unwrap(), "mine");
    assert!(!stub.home().join(".gitconfig").exists(), "nothing else is changed either");
}

#[test]
fn a_link_is_replaced_and_the_directory_closed() {
    let stub = Stub::gitlab();
    let directory = stub.home().join(".dvx");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink("/nowhere", directory.join("token")).unwrap();
    assert_eq!(stub.run(&["init"]).code, Some(0));
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    assert!(fs::read_link(directory.join("token")).unwrap().ends_with("agents/my-agent/token"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn an_instance_under_a_path_is_asked_about_with_its_path() {
    let pathed = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/agent/credentials" => answer_with(
            200,
            &[link("https://host.example/git", "a"), link("http://127.0.0.1:8080", "b")].concat(),
            "[]",
        ),
        _ => gitlab(asked),
    };
    let stub = Stub::unix(pathed);
    assert_eq!(stub.run(&["init"]).code, Some(0));
    assert_eq!(helpers(&stub, "https://host.example/git"), ["", OURS]);
    assert_eq!(helpers(&stub, "http://127.0.0.1:8080"), ["", OURS]);
    let usage = git_config(&stub, &["--get-regexp", "usehttppath"]).stdout;
    assert_eq!(usage, "credential.https://host.example/git.usehttppath true\n");
    // git itself takes it that way.
    let mut command = Command::new("git");
    stub.surround(&mut command);
    let input = b"url=https://host.example/git/a.git\n\n";
    crate::stub::ran_with_input(command.args(["credential", "fill"]), input);
    let last = stub.asked().pop().unwrap();
    assert!(last.body.contains(r#""path":"git/a.git""#), "{last:?}");
}

#[test]
fn a_person_s_helpers_stay_and_are_without_effect() {
    let stub = Stub::gitlab();
    let key = "credential.https://gitlab.com.helper";
    git_config(&stub, &["--add", "credential.helper", "store"]);
    git_config(&stub, &["--add", key, "!glab auth git-credential"]);
    git_config(&stub, &["--add", key, ""]);
    git_config(&stub, &["--add", key, "/old/dvxir git-credential"]);
    let ran = stub.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(helpers(&stub, "https://gitlab.com"), ["!glab auth git-credential", "", OURS]);
    assert!(!ran.stderr.contains("store"), "{ran:?}");
    // What git would run: ours and nothing else, so nothing writes the token into a file.
    let mut command = Command::new("git");
    stub.surround(&mut command);
    let input = b"protocol=https\nhost=gitlab.com\nusername=u\npassword=p\n\n";
    crate::stub::ran_with_input(command.args(["credential", "approve"]), input);
    assert!(!stub.home().join(".git-credentials").exists());
}

#[test]
fn a_helper_that_comes_later_is_warned_of() {
    let stub = Stub::gitlab();
    stub.run(&["init"]);
    git_config(&stub, &["--add", "credential.helper", "store"]);
    let ran = stub.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("\"store\"") && ran.stderr.contains("\nhint: "), "{ran:?}");
}

#[test]
fn a_path_with_spaces_is_quoted_for_git_s_shell() {
    let stub = broker();
    let directory = stub.path().join("it's a place");
    fs::create_dir(&directory).unwrap();
    let copy = directory.join("dvxir");
    crate::stub::copy_program(env!("CARGO_BIN_EXE_dvxir").as_ref(), &copy);
    let mut command = Command::new(&copy);
    stub.surround(&mut command);
    assert_eq!(ran(command.arg("init")).code, Some(0));
    let mut command = Command::new("git");
    stub.surround(&mut command);
    let input = b"protocol=https\nhost=gitlab.com\n\n";
    let filled = crate::stub::ran_with_input(command.args(["credential", "fill"]), input);
    assert!(filled.stdout.contains(&format!("password={}\n", crate::stub::TOKEN)), "{filled:?}");
    let again = {
        let mut command = Command::new(&copy);
        stub.surround(&mut command);
        ran(command.arg("init"))
    };
    assert_eq!(again.stderr, "");
    assert_eq!(helpers(&stub, "https://gitlab.com").len(), 2);
}

#[test]
fn without_git_the_rest_is_set_up() {
    let stub = Stub::gitlab();
    let mut command = stub.dvxir(&["init"]);
    let ran = ran(command.env("PATH", stub.path()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("git is not installed"), "{ran:?}");
    assert!(ran.stdout.starts_with("export DVX_BROKER_URL="), "{ran:?}");
}

#[test]
fn a_git_configuration_that_cannot_be_written_is_a_failure() {
    let stub = Stub::gitlab();
    fs::write(stub.home().join(".gitconfig"), "[broken").unwrap();
    stub.run(&["init"]).assert_failed(1);
}

#[test]
fn without_a_broker_nothing_is_changed() {
    let stub = Stub::saying(problem(403, "peer-unknown"));
    stub.run(&["init"]).assert_failed(4);
    let isolated = |asked: &Asked| match asked.line.as_str() {
        "GET /v1/agent/credentials" => problem(403, "agent-isolated"),
        _ => gitlab(asked),
    };
    let second = Stub::unix(isolated);
    second.run(&["init"]).assert_failed(4);
    for stub in [stub, second] {
        assert_eq!(fs::read_dir(stub.home()).unwrap().count(), 0);
    }
}

#[test]
fn over_tcp_the_broker_s_usual_place_is_linked() {
    let stub = Stub::tcp(gitlab);
    let ran = stub.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        fs::read_link(stub.home().join(".dvx/token")).unwrap(),
        Path::new("/run/dvx/agents/my-agent/token")
    );
}
