use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const MINIMAL: &str =
    "[database]\nurl = \"sqlite:///d/control.db\"\n[kek]\nfile = \"/k\"\n[listen]\nunix = \"/s/c.sock\"\n";

fn env(name: &str) -> Option<String> {
    (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/x".to_owned())
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/c.toml"), text, &env)
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
    assert_eq!(config.database.url(), "sqlite:///d/control.db");
    assert!(matches!(&config.database, Database::Sqlite { path, .. } if path == Path::new("/d/control.db")));
    assert_eq!(config.kek, Path::new("/k"));
    assert_eq!(config.listen, Listen { unix: Some("/s/c.sock".into()), https: None, admin: None });
    assert_eq!(config.retention.as_secs(), 90 * 24 * 3600);
    assert!(config.allow_private.is_empty());
    assert_eq!(config.seccomp, Seccomp::Kill);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        [database]
        url = "postgres://dvx:planted@db/dvx"
        [kek]
        file = "${CREDENTIALS_DIRECTORY}/kek"
        [listen]
        unix = "/run/dvx/control.sock"
        https = "0.0.0.0:8470"
        cert_file = "/etc/dvx/tls.pem"
        key_file = "${CREDENTIALS_DIRECTORY}/tls-key"
        admin = "127.0.0.1:8469"
        [audit]
        retention = "365d"
        [gitlab]
        allow_private = ["10.0.0.0/8", "::1"]
        [hardening]
        seccomp = "log"
        "#,
    )
    .unwrap();
    assert_eq!(config.database.kind(), "postgres");
    assert_eq!(config.kek, Path::new("/run/credentials/x/kek"));
    let https = config.listen.https.clone().unwrap();
    assert_eq!(https.address.to_string(), "0.0.0.0:8470");
    assert_eq!(https.files.key, Path::new("/run/credentials/x/tls-key"));
    assert_eq!(config.listen.admin.unwrap().to_string(), "127.0.0.1:8469");
    assert_eq!(config.retention.as_secs(), 365 * 24 * 3600);
    assert!(config.allow_private[0].contains("10.1.2.3".parse().unwrap()));
    assert_eq!(config.seccomp, Seccomp::Log);
    assert!(!format!("{config:?}").contains("planted"));
}

#[test]
fn all_errors_of_a_file_are_reported_in_its_order() {
    let text = "[database]\n\
        url = \"mysql://u:planted@h/d\"\n\
        [listen]\n\
        unix = \"control.sock\"\n\
        https = \"example.com:8470\"\n\
        admin = \"0.0.0.0:8469\"\n\
        hptts = 1\n\
        [audit]\n\
        retention = \"2 fortnights\"\n\
        [gitlab]\n\
        allow_private = [\"10.0.0.1/8\"]\n\
        [hardening]\n\
        seccomp = true\n";
    let found = errors(text);
    let expected = [
        "/c.toml:1: kek.file: missing; expected an absolute path",
        "/c.toml:2: database.url: this is not a database's URL; expected \"sqlite:///absolute/path\" or \
         \"postgres://user@host/database\"",
        "/c.toml:3: listen.cert_file: missing; expected the certificate that goes with https",
        "/c.toml:3: listen.key_file: missing; expected the key that goes with the certificate",
        "/c.toml:4: listen.unix: \"control.sock\" is not a socket's path; expected an absolute path of at most 107 \
         bytes",
        "/c.toml:5: listen.https: \"example.com:8470\" is not an address to listen on; expected an IP address and a \
         port, such as \"0.0.0.0:8470\"",
        "/c.toml:6: listen.admin: \"0.0.0.0:8469\" is not a loopback address; expected 127.0.0.1:port or \
         [::1]:port, since nobody is asked for a token there",
        "/c.toml:7: listen.hptts: unknown key; expected unix, https, cert_file, key_file or admin",
        "/c.toml:9: audit.retention: \"2 fortnights\" is not a duration; expected \"1d\" to \"3650d\"",
        "/c.toml:11: gitlab.allow_private: \"10.0.0.1/8\" is not a list of networks; expected networks such as \
         [\"10.0.0.0/8\", \"fd00::/8\"], with no bit set behind the prefix",
        "/c.toml:13: hardening.seccomp: true is not a seccomp mode; expected \"kill\", \"errno\", \"log\" or \"off\"",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_error_never_shows_the_database_url() {
    for bad in [
        "\"mysql://u:planted@h/d\"",
        "\"planted\"",
        "[\"planted\"]",
        "\"sqlite://planted\"",
        "\"sqlite:///planted?mode=memory\"",
        "\"postgres://u:planted@${HOST}/d\"",
        "\"postgres://u:planted${\"",
        "\"postgres://\"",
    ] {
        let found = errors(&MINIMAL.replace("\"sqlite:///d/control.db\"", bad));
        assert!(found.starts_with("/c.toml:2: database.url: ") && !found.contains("planted"), "{found}");
    }
}

#[test]
fn there_must_be_something_to_listen_on() {
    let none = MINIMAL.replace("unix = \"/s/c.sock\"\n", "admin = \"127.0.0.1:0\"\n");
    assert!(errors(&none).contains("listen.unix: missing; expected unix or https, or both"));
}

#[test]
fn a_certificate_a_key_and_an_address_go_together() {
    let (https, cert, key) = ("https = \"[::]:1\"\n", "cert_file = \"/c\"\n", "key_file = \"/k\"\n");
    assert!(parse(&format!("{MINIMAL}{https}{cert}{key}")).unwrap().listen.https.is_some());
    for (lines, missing) in [
        (format!("{https}{cert}"), "key_file"),
        (format!("{https}{key}"), "cert_file"),
        (format!("{cert}{key}"), "https"),
    ] {
        let found = error_of(&lines);
        assert!(found.contains(&format!("listen.{missing}: missing")), "{found}");
    }
}

#[test]
fn what_is_not_toml_is_an_error_with_its_line() {
    let found = errors("[database]\nurl = \"sqlite:///d\"\n[kek\n");
    assert!(found.starts_with("/c.toml:3: not TOML: "), "{found}");
}

#[test]
fn unknown_tables_and_keys_are_errors() {
    assert_eq!(
        error_of("[limits]\nx = 1\n"),
        "/c.toml:7: limits: unknown key; expected database, kek, listen, audit, gitlab or hardening"
    );
    assert!(error_of("[kek]\n").starts_with("/c.toml:7: not TOML"));
    assert_eq!(
        errors(&format!("audit = 1\n{MINIMAL}")),
        "/c.toml:1: audit: this is not a table; expected a section of keys"
    );
}

#[test]
fn the_admin_listener_is_for_this_machine() {
    for good in ["127.0.0.1:8469", "[::1]:1", "[::ffff:127.0.0.1]:5"] {
        let config = parse(&format!("{MINIMAL}admin = \"{good}\"\n")).unwrap();
        assert!(config.listen.admin.unwrap().ip().is_loopback());
    }
    for bad in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "localhost:1", "127.0.0.1", ""] {
        assert!(error_of(&format!("admin = \"{bad}\"\n")).contains("is not a loopback address"), "{bad}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let found = errors(&MINIMAL.replace("/k", "${NOWHERE}/k"));
    assert_eq!(found, "/c.toml:4: kek.file: needs the environment variable NOWHERE, which is not set");
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
    let path = directory.path().join("control.toml");
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
    let path = directory.path().join("control.toml");
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
    let target = real.path().join("control.toml");
    fs::write(&target, MINIMAL).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
    let path = link.path().join("control.toml");
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

const SAMPLE: &str = include_str!("../../control.toml");

#[test]
fn the_sample_is_sound() {
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.listen.unix.as_deref(), Some(Path::new("/run/dvx-control/control.sock")));
    assert_eq!(config.listen.https, None);
}

#[test]
fn the_sample_is_sound_with_everything_in_it_turned_on() {
    let on = |line: &str| {
        let rest = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        rest.unwrap_or(line).to_owned()
    };
    // The credential is instead of the file.
    let lines = SAMPLE.lines().filter(|line| !line.starts_with("file = "));
    let text: Vec<_> = lines.map(on).collect();
    let config = parse(&text.join("\n")).unwrap();
    assert_eq!(config.kek, Path::new("/run/credentials/x/kek"));
    assert_eq!(config.listen.https.unwrap().address.port(), 8470);
    // Where the comment shows a default, it is the default.
    let defaults = parse(SAMPLE).unwrap();
    assert_eq!((config.retention, config.allow_private), (defaults.retention, defaults.allow_private));
}

#[test]
fn an_error_is_one_line_and_repeats_no_key_that_stands_in_the_wrong_place() {
    const KEK: &str = "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng=";
    let file = |line: &str| {
        format!("[database]\nurl = \"sqlite:///c.db\"\n[listen]\nunix = \"/c\"\n[kek]\n{line}\n")
    };
    for (line, expected) in [
        (format!("file = \"{KEK}\""), "kek.file: (not shown) is not a path"),
        (format!("file = \"/k\"\n\"{KEK}\" = 1"), "kek.(not shown): unknown key"),
        ("file = \"/k\"\n\"a\\nb\" = 1".to_owned(), "kek.\"a\\nb\": unknown key"),
        ("file = \"${A\\nB}\"".to_owned(), "needs the environment variable \"A\\nB\", which is not set"),
    ] {
        let error = errors(&file(&line));
        assert!(error.contains(expected), "{error:?}");
        assert!(!error.contains(KEK) && !error.contains(char::is_control), "{error:?}");
    }
}
