use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

mod control;

const SURROUNDINGS: Surroundings<'static> = Surroundings {
    env: &|name| (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/x".to_owned()),
    uid_of: &|name| (name == "agent1").then_some(1001),
};

const MINIMAL: &str = "enclave = \"e\"\n[upstream]\nkind = \"directory\"\npath = \"/u\"\n";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/b.toml"), text, SURROUNDINGS)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn errors(text: &str) -> String {
    parse(text).unwrap_err()
}

/// The error of a minimal configuration with these lines behind it.
fn error_of(lines: &str) -> String {
    errors(&format!("{MINIMAL}{lines}"))
}

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.listen.unix, Path::new("/run/dvx/broker.sock"));
    assert_eq!(config.listen.admin, Path::new("/run/dvx/broker-admin.sock"));
    assert_eq!(config.listen.agents, Path::new("/run/dvx/agents"));
    assert_eq!(config.listen.tcp, None);
    assert_eq!(config.upstream, UpstreamConfig::Directory { path: "/u".into(), allow_mode: None });
    assert_eq!(config.max_stale, Duration::from_secs(3600));
    assert_eq!(config.limits.requests_per_second.unwrap().get(), 2000);
    assert_eq!((config.limits.connections, config.limits.total_connections), (64, 1024));
    assert_eq!(config.hardening, Hardening { seccomp: Seccomp::Kill, require_secretmem: false });
    assert_eq!(config.audit, AuditSink::Stderr);
    assert!(config.agents.is_empty());
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        enclave = "lab-1"
        [listen]
        unix = "/a/b.sock"
        tcp = "[::1]:0"
        admin = "/a/c.sock"
        agents = "/a/agents"
        [upstream]
        kind = "directory"
        path = "${CREDENTIALS_DIRECTORY}/up"
        allow_mode = "0644"
        max_stale = "2d"
        [limits]
        requests_per_second = 0
        connections = 1
        total_connections = 2
        [hardening]
        seccomp = "errno"
        require_secretmem = true
        [[agents]]
        name = "one"
        user = "agent1"
        unit = "one.service"
        [[agents]]
        name = "two"
        uid = 0x7d0
        gid = 5
        cgroup = "/machine.slice/two"
        [audit]
        file = "/var/log/dvx/audit.jsonl"
        "#,
    )
    .unwrap();
    assert_eq!(config.listen.tcp.unwrap().to_string(), "[::1]:0");
    assert_eq!(
        config.upstream,
        UpstreamConfig::Directory { path: "/run/credentials/x/up".into(), allow_mode: Some(0o644) }
    );
    assert_eq!(config.max_stale, Duration::from_secs(2 * 24 * 3600));
    assert_eq!(config.limits.requests_per_second, None);
    assert_eq!(config.agents.iter().map(|agent| agent.uid).collect::<Vec<_>>(), [1001, 2000]);
    assert_eq!(config.audit, AuditSink::File("/var/log/dvx/audit.jsonl".into()));
}

#[test]
fn all_errors_of_a_file_are_reported_in_its_order() {
    let text = "enclave = \"Lab 1\"\n\
        \n\
        [listen]\n\
        tcp = \"0.0.0.0:8471\"\n\
        tpc = 1\n\
        [upstream]\n\
        kind = \"directory\"\n\
        max_stale = \"2 fortnights\"\n\
        [limits]\n\
        connections = 0\n\
        [hardening]\n\
        seccomp = true\n\
        [[agents]]\n\
        name = \"a\"\n\
        user = \"nobody-here\"\n";
    let expected = "\
/b.toml:1: enclave: \"Lab 1\" is not an enclave's name; expected [a-z0-9][a-z0-9_-]{0,63}
/b.toml:4: listen.tcp: \"0.0.0.0:8471\" is not a loopback address; expected 127.0.0.1:port or [::1]:port
/b.toml:5: listen.tpc: unknown key; expected unix, tcp, admin or agents
/b.toml:6: upstream.path: missing; expected an absolute path
/b.toml:8: upstream.max_stale: \"2 fortnights\" is not a duration; expected \"1s\" to \"30d\"
/b.toml:10: limits.connections: 0 is not a number of connections; expected 1 to 100000
/b.toml:12: hardening.seccomp: true is not a seccomp mode; expected \"kill\", \"errno\", \"log\" or \"off\"
/b.toml:15: agents.user: \"nobody-here\" is not a user of this machine; expected a name that getent(1) finds, or uid instead";
    assert_eq!(errors(text), expected);
}

#[test]
fn what_is_not_toml_is_an_error_with_its_line() {
    let found = errors("enclave = \"e\"\n[upstream\n");
    assert!(found.starts_with("/b.toml:2: not TOML: "), "{found}");
    assert!(found.lines().all(|line| line.starts_with("/b.toml:")), "{found}");
}

#[test]
fn what_is_not_toml_is_one_error_and_hides_no_other() {
    let found = errors("enclave =\nfoo = 1\n");
    let lines: Vec<_> = found.lines().collect();
    assert!(
        matches!(lines[..], [syntax, key] if syntax.starts_with("/b.toml:1: not TOML: ")
        && key.starts_with("/b.toml:2: foo: unknown key")),
        "{found}"
    );
}

#[test]
fn unknown_tables_and_keys_are_errors() {
    assert_eq!(
        error_of("[control]\nurl = 1\n"),
        "/b.toml:5: control: unknown key; expected enclave, listen, upstream, limits, hardening, audit or agents"
    );
    assert!(error_of("url = \"https://x\"\n").starts_with("/b.toml:5: upstream.url: unknown key"));
    assert!(
        error_of("[[agents]]\nname = \"a\"\nuid = 1\nroot = true\n").contains("agents.root: unknown key")
    );
}

#[test]
fn tables_of_the_wrong_shape_are_errors() {
    assert_eq!(
        error_of("[agents]\n"),
        "/b.toml:5: agents: this is not a list of tables; expected [[agents]]"
    );
    let text = format!("listen = 1\n{MINIMAL}");
    assert_eq!(errors(&text), "/b.toml:1: listen: this is not a table; expected a section of keys");
    assert!(error_of("[audit]\nfile = [1]\n").contains("audit.file: an array is not a path"));
}

#[test]
fn upstreams_of_later_versions_are_named_as_such() {
    assert_eq!(
        errors("enclave = \"e\"\n[upstream]\nkind = \"vault\"\nurl = \"x\"\n"),
        "/b.toml:3: upstream.kind: \"vault\" is not available in this version; expected \"control\" or \"directory\""
    );
    assert!(
        errors("enclave = \"e\"\n").contains("/b.toml:1: upstream.kind: missing; expected \"control\" or")
    );
}

#[test]
fn addresses_that_others_can_reach_are_refused() {
    for good in ["127.0.0.1:8471", "[::1]:1", "[::ffff:127.0.0.1]:5"] {
        let config = parse(&format!("{MINIMAL}[listen]\ntcp = \"{good}\"\n")).unwrap();
        assert!(config.listen.tcp.unwrap().ip().is_loopback());
    }
    for bad in
        ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "localhost:1", "127.0.0.1", ":1", ""]
    {
        assert!(error_of(&format!("[listen]\ntcp = \"{bad}\"\n")).contains("listen.tcp"), "{bad}");
    }
}

#[test]
fn durations_have_one_number_and_one_unit() {
    for (good, seconds) in [("1s", 1), ("90m", 5400), ("1h", 3600), ("30d", 2_592_000)] {
        let config = parse(&format!("{MINIMAL}max_stale = \"{good}\"\n")).unwrap();
        assert_eq!(config.max_stale.as_secs(), seconds, "{good}");
    }
    for bad in [
        "",
        "s",
        "1",
        "0s",
        "31d",
        "+1s",
        "-1s",
        "1.5h",
        "1 h",
        "1h30m",
        "1ms",
        "1é",
        "99999999999999999999d",
    ] {
        assert!(error_of(&format!("max_stale = \"{bad}\"\n")).contains("is not a duration"), "{bad}");
    }
    assert!(error_of("max_stale = 3600\n").contains("3600 is not a duration"));
}

#[test]
fn paths_are_absolute_and_sockets_fit_their_addresses() {
    assert!(error_of("[audit]\nfile = \"audit.jsonl\"\n").contains("audit.file"));
    assert!(
        error_of("[audit]\nfile = \"${HOME}/x\"\n")
            .ends_with("audit.file: \"${HOME}/x\" needs the environment variable HOME, which is not set")
    );
    assert!(error_of("[audit]\nfile = \"/a${HOME\"\n").contains("is not a path"));
    let long = format!("[listen]\nunix = \"/{}\"\n", "a".repeat(107));
    assert!(error_of(&long).contains("listen.unix"));
    assert!(
        error_of("[listen]\nunix = \"/x\"\nadmin = \"/x\"\n").contains("listen.admin: is the same socket")
    );
}

#[test]
fn modes_are_octal_texts() {
    for bad in ["\"644x\"", "\"0888\"", "\"1\"", "\"7777\"", "420", "\"+644\""] {
        assert!(error_of(&format!("allow_mode = {bad}\n")).contains("is not a file mode"), "{bad}");
    }
}

#[test]
fn an_agent_is_one_user_with_a_name_of_its_own() {
    let agent = |rest: &str| format!("[[agents]]\nname = \"a\"\n{rest}");
    assert!(error_of(&agent("")).contains("agents.user: missing; expected user or uid"));
    assert!(error_of(&agent("user = \"agent1\"\nuid = 5\n")).contains("agents.uid: given beside user"));
    for bad in ["-1", "65534", "4294967295", "1.0", "\"5\""] {
        assert!(error_of(&agent(&format!("uid = {bad}\n"))).contains("is not a user id"), "{bad}");
    }
    assert!(error_of(&agent("uid = 5\ngid = 65534\n")).contains("is not a group id"));
    let twice = format!("{}{}", agent("uid = 5\n"), agent("uid = 6\n"));
    let found = error_of(&twice);
    assert!(found.contains("/b.toml:9: agents.name: \"a\" is the name of the agent on line 6"), "{found}");
}

#[test]
fn agents_that_one_process_could_be_are_refused() {
    let agent = |name: &str, rest: &str| format!("[[agents]]\nname = \"{name}\"\nuid = 5\n{rest}\n");
    let two = |a: &str, b: &str| format!("{MINIMAL}{}{}", agent("one", a), agent("two", b));
    let found = errors(&two("", "unit = \"two.service\""));
    assert_eq!(
        found,
        "/b.toml:10: agents: \"two\" overlaps \"one\" on line 6: one process could be both; expected another user, \
         or on each a unit or a cgroup that excludes the other's"
    );
    let config = parse(&two("unit = \"one.service\"", "unit = \"two.service\"")).unwrap();
    assert_eq!(config.rules.iter().len(), 2);
}

#[test]
fn selectors_that_no_process_can_match_are_refused() {
    for bad in ["unit = \"x\"", "unit = \"a.slice\"", "unit = 5", "cgroup = \"a/b\"", "cgroup = \"/a/../b\""]
    {
        let found = error_of(&format!("[[agents]]\nname = \"a\"\nuid = 5\n{bad}\n"));
        assert!(found.contains("expected"), "{found}");
    }
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = parse(MINIMAL).unwrap();
    let new =
        parse(&format!("{MINIMAL}max_stale = \"5s\"\n[audit]\nfile = \"/x\"\n[limits]\nconnections = 3\n"));
    let new = new.unwrap();
    assert_eq!(old.fixed_differences(&new), ["audit"]);
}

/// A directory that only its owner can write, whatever this process's umask is.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

fn load(path: &Path) -> Result<Config, String> {
    Config::load(path, &|_| None).map_err(|errors| errors.first().unwrap().to_string())
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let directory = directory();
    let path = directory.path().join("broker.toml");
    fs::write(&path, MINIMAL).unwrap();
    for (mode, fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let found = load(&path);
        assert_eq!(found.is_ok(), fine, "{mode:o}: {found:?}");
        assert!(fine || found.unwrap_err().contains("is writable by other users"));
    }
}

#[test]
fn a_directory_that_others_can_write_is_refused_unless_sticky() {
    let directory = directory();
    let path = directory.path().join("broker.toml");
    fs::write(&path, MINIMAL).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    for (mode, fine) in [(0o755, true), (0o777, false), (0o775, false), (0o1777, true)] {
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let found = load(&path);
        assert_eq!(found.is_ok(), fine, "{mode:o}: {found:?}");
        assert!(fine || found.unwrap_err().contains("its directory"));
    }
}

#[test]
fn a_link_is_followed_and_both_directories_are_checked() {
    let (real, link) = (directory(), directory());
    let target = real.path().join("broker.toml");
    fs::write(&target, MINIMAL).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
    let path = link.path().join("broker.toml");
    symlink(&target, &path).unwrap();
    assert!(load(&path).is_ok());
    for open in [real.path(), link.path()] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
        assert!(load(&path).unwrap_err().contains("is writable by other users"), "{open:?}");
        fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn what_is_not_a_file_is_refused_at_once() {
    let directory = directory();
    assert!(load(directory.path()).unwrap_err().contains("is not a regular file"));
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(load(&fifo).unwrap_err().contains("is not a regular file"));
    assert!(load(&directory.path().join("none")).unwrap_err().contains("cannot be read"));
}

const SAMPLE: &str = include_str!("../../broker.toml");

#[test]
fn the_sample_is_sound() {
    let config = parse(SAMPLE).unwrap();
    let minimal = MINIMAL.replace("\"e\"", "\"lab-1\"").replace("\"/u\"", "\"/run/dvx/upstream\"");
    assert_eq!(format!("{config:?}"), format!("{:?}", parse(&minimal).unwrap()));
}

#[test]
fn the_sample_is_sound_with_everything_in_it_turned_on() {
    let on = |line: &str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()).then(|| rest.to_owned())
    };
    let text: Vec<_> = SAMPLE.lines().map(|line| on(line).unwrap_or_else(|| line.to_owned())).collect();
    let config = parse(&text.join("\n")).unwrap();
    assert_eq!(config.agents.len(), 1);
    assert_eq!(config.listen.tcp.unwrap().port(), 8471);
    assert_eq!(config.audit, AuditSink::File("/var/log/dvx/audit.jsonl".into()));
    // Where the comment shows a default, it is the default.
    let defaults = parse(SAMPLE).unwrap();
    assert_eq!((config.limits, config.hardening), (defaults.limits, defaults.hardening));
    assert_eq!((config.max_stale, config.listen.unix), (defaults.max_stale, defaults.listen.unix));
}

#[test]
fn an_error_is_one_line_and_repeats_no_key_that_stands_in_the_wrong_place() {
    const KEY: &str = "dvxe_6f1D0c9ab35e47288d21f0a4b7c3e956";
    for (text, expected) in [
        (format!("[audit]\nfile = \"{KEY}\"\n"), "audit.file: (not shown) is not a path"),
        (
            format!("[audit]\nfile = \"${{{KEY}}}\"\n"),
            "audit.file: (not shown) needs the environment variable",
        ),
        (format!("{KEY} = 1\n"), "upstream.(not shown): unknown key"),
        (
            format!("[[agents]]\nname = \"{KEY}\"\nuid = 1\n"),
            "agents.name: (not shown) is not an agent's name",
        ),
        (format!("[[agents]]\nname = \"a\"\nuser = \"{KEY}\"\n"), "agents.user: (not shown) is not a user"),
        ("\"a\\n\\u001b[31mb\" = 1\n".to_owned(), "upstream.\"a\\n\\u{1b}[31mb\": unknown key"),
        ("[audit]\nfile = \"${A\\nB}/x\"\n".to_owned(), "environment variable \"A\\nB\", which is not set"),
    ] {
        let error = error_of(&text);
        assert!(error.contains(expected), "{error:?}");
        assert!(!error.contains(KEY) && !error.contains(char::is_control), "{error:?}");
    }
}
