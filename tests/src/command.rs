//! Running commands to their end, with a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::clock;

const DEADLINE: Duration = Duration::from_secs(60);

/// How a command ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit status; -1 when a signal ended it.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The output as text, of a command that must have succeeded.
    #[track_caller]
    pub fn success(&self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self.text()
    }

    /// Checks the conventions for a failure: this exit status, nothing on stdout, something on stderr.
    #[track_caller]
    pub fn failure(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        assert_eq!(self.text(), "", "a failure writes nothing to stdout");
        assert!(!self.stderr.is_empty(), "a failure says why");
        &self.stderr
    }
}

/// Runs a command without input.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    run_with_input(command, b"")
}

/// Runs a command with this on its stdin.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read its input closes the pipe: no failure of the test.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let status = wait(&mut child).unwrap_or_else(|| panic!("{command:?}: still running after {DEADLINE:?}"));
    writer.join().unwrap();
    Outcome {
        status,
        stdout: stdout.join().unwrap(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is.
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

fn wait(child: &mut Child) -> Option<i32> {
    let status = clock::within(DEADLINE, || child.try_wait().expect("a child can be waited for"));
    if status.is_none() {
        drop(child.kill());
        drop(child.wait());
    }
    status.map(|status| status.code().unwrap_or(-1))
}
