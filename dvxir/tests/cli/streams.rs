use std::fs::File;
use std::process::Stdio;

use crate::stub::{Stub, TOKEN, answer};

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let stub = Stub::gitlab();
    for arguments in
        [&["credentials", "get", "gitlab"][..], &["credentials", "list"], &["completions", "bash"], &["man"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = stub.dvxir(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let stub = Stub::gitlab();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = stub.dvxir(&["credentials", "get", "gitlab"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "dvxir: cannot write to standard output: no space left on device\n");
}

#[test]
fn closed_streams_do_no_harm() {
    let stub = Stub::gitlab();
    let dvxir = env!("CARGO_BIN_EXE_dvxir");
    // Whatever the socket's number is then, it is neither written to nor read from in place of a stream.
    for (script, expected) in [
        ("credentials get gitlab 2>&-", format!("{TOKEN}0")),
        ("credentials get gitlab <&-", format!("{TOKEN}0")),
        ("credentials get gitlab <&- 2>&-", format!("{TOKEN}0")),
        ("credentials get other 2>&- <&-", "3".to_owned()),
        ("git-credential erase <&-", "0".to_owned()),
    ] {
        let mut shell = std::process::Command::new("sh");
        stub.surround(&mut shell);
        let ran = crate::stub::ran(shell.arg("-c").arg(format!("{dvxir} {script}; printf %s $?")));
        assert_eq!(ran.stdout, expected, "{script}: {ran:?}");
    }
    assert!(stub.asked().iter().all(|asked| !format!("{asked:?}").contains(TOKEN)));
}

#[test]
fn a_message_that_cannot_be_written_changes_nothing() {
    let stub = Stub::gitlab();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status =
        stub.dvxir(&["credentials", "get", "other"]).stdout(Stdio::null()).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_large_value_goes_through_a_small_pipe() {
    let value = "x".repeat(60_000);
    let stub = Stub::saying(answer(&format!(r#"{{"name":"x","value":"{value}"}}"#)));
    stub.run(&["secrets", "get", "x"]).assert_printed(&value);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let stub = Stub::gitlab();
    let version = stub.run(&["--version"]);
    version.assert_printed(concat!("dvxir ", env!("CARGO_PKG_VERSION"), "\n"));
    for arguments in
        [&["--help"][..], &["credentials", "--help"], &["exec", "--help"], &["git-credential", "--help"]]
    {
        let ran = stub.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.stdout.contains("Usage: dvxir"), "{ran:?}");
    }
    assert_eq!(stub.lines(), [""; 0]);
}

#[test]
fn proxies_are_never_used() {
    let stub = Stub::tcp(crate::stub::gitlab);
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"] {
        command.env(name, "http://127.0.0.1:1");
    }
    crate::stub::ran(&mut command).assert_printed(TOKEN);
}
