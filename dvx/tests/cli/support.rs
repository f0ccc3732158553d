//! What the tests share: a user's directories, and `dvx` run in them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::stub::Stub;

/// A user's home, and the control plane that is meant.
pub(crate) struct World {
    pub(crate) base: TempDir,
    pub(crate) stub: Stub,
    url: String,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new(stub: Stub) -> Self {
        let base = tempfile::tempdir().unwrap();
        let url = stub.listen(base.path());
        assert!(crate::stub::can_connect(&url));
        Self { base, stub, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = dvx(self.base.path(), line);
        command.env("DVX_CONTROL_URL", &self.url);
        command
    }

    pub(crate) fn run(&self, line: &str) -> Outcome {
        run(&mut self.command(line), "")
    }

    pub(crate) fn run_with(&self, line: &str, stdin: &str) -> Outcome {
        run(&mut self.command(line), stdin)
    }
}

/// `dvx` with these arguments, in an environment that depends on nothing around the tests.
pub(crate) fn dvx(home: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dvx"));
    command.args(line.split_whitespace()).env_clear();
    command.env("HOME", home).env("PATH", "/usr/bin:/bin").current_dir(home);
    command
}

pub(crate) fn run(command: &mut Command, stdin: &str) -> Outcome {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who does not read stdin may be gone already.
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn outcome(status: i32, stdout: &str, stderr: &str) -> Outcome {
    Outcome { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}
