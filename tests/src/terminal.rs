//! A command on a terminal, with somebody who answers its question.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::Outcome;

/// Runs a command on a terminal of its own by script(1) and types `answer` once `question` was asked. What the
/// terminal shows is the outcome's stdout.
#[track_caller]
pub fn answer_on_terminal(command: &Command, question: &str, answer: &str) -> Outcome {
    on_terminal(command, question, || answer.to_owned())
}

/// The same, where something is done once the question was asked, which gives the answer.
#[track_caller]
pub fn on_terminal(command: &Command, question: &str, then: impl FnOnce() -> String) -> Outcome {
    let quoted = |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| quoted(&word.to_owned())).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
    script.env_clear().env("SHELL", "/bin/sh");
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("script: {error}"));
    let mut output = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&shown).contains(question) {
        assert!(output.read(&mut byte).is_ok_and(|read| read == 1), "never asked: {shown:?}");
        shown.push(byte[0]);
    }
    let answer = then();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{answer}\n").as_bytes()).unwrap();
    // What was typed is the end of the input: script(1) goes on until the command ends.
    drop(input);
    output.read_to_end(&mut shown).unwrap();
    let status = child.wait().unwrap();
    Outcome { status: status.code().unwrap_or(-1), stdout: shown, stderr: String::new() }
}
