//! Who serves the socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{dvx, run};

/// A user that no system has.
const STRANGER: u32 = 3_999_999_999;

/// Serves one answer to everybody, and writes down what it read.
const SERVER: &str = r#"
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("control.sock")
os.chmod("control.sock", 0o666)
listener.listen()
body = b'{"name":"x","role":"admin","organisation":"default"}'
while True:
    connection, _ = listener.accept()
    with open("read", "ab") as log:
        log.write(connection.recv(4096))
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    except OSError:
        pass
"#;

struct Squatter {
    child: Child,
    directory: tempfile::TempDir,
}

impl Squatter {
    /// Needs root; `None` and a line that says so otherwise.
    fn start(test: &str) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            let text = format_args!("SKIPPED {test}: serving as another user needs root\n");
            std::io::Write::write_fmt(&mut std::io::stderr(), text).unwrap();
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", SERVER]).current_dir(directory.path()).stdin(Stdio::null());
        let child = command.uid(STRANGER).gid(STRANGER).spawn().unwrap();
        let socket = directory.path().join("control.sock");
        for _ in 0..1000 {
            // Connecting would be a request; the mode is set just before it listens.
            let ready =
                fs::metadata(&socket).is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == 0o666);
            if ready {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child, directory })
    }

    fn ask(&self, user: Option<&str>) -> crate::support::Outcome {
        let home = self.directory.path();
        let mut command = dvx(home, "whoami");
        command.env("DVX_CONTROL_URL", format!("unix://{}/control.sock", home.display()));
        command.env("DVX_OPERATOR_TOKEN", "dvxo_planted");
        command.envs(user.map(|user| ("DVX_CONTROL_USER", user)));
        run(&mut command, "")
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_socket_of_another_user_gets_nothing() {
    let Some(squatter) = Squatter::start("a_socket_of_another_user_gets_nothing") else { return };
    let outcome = squatter.ask(None);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (4, ""));
    let expected = format!(
        "dvx: the socket {}/control.sock is not to be trusted: user {STRANGER} serves it, and not root, \
         dvx-control or the caller\nhint: if that user runs the control plane, name it in DVX_CONTROL_USER\n",
        squatter.directory.path().display()
    );
    assert_eq!(outcome.stderr, expected);
    let trusted = squatter.ask(Some(&STRANGER.to_string()));
    assert_eq!(trusted.status, 0, "{trusted:?}");
    let read = fs::read_to_string(squatter.directory.path().join("read")).unwrap();
    assert_eq!(read.matches("dvxo_planted").count(), 1, "only the one that trusts it");
}
