//! Who serves the socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::stub::{Ran, Stub, TOKEN, answer, ran};

/// A user that no system has.
const STRANGER: u32 = 3_999_999_999;

/// What the other user's process finds its socket by.
const SOCKET_VARIABLE: &str = "DVXIR_TEST_SOCKET";

/// Not a test: the body of the process that serves a socket as another user.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn serve_as_another_user() {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else { return };
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    eprintln!("ready");
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let count = stream.read(&mut request).unwrap();
        eprintln!("read {count}");
        let _gone = stream.write_all(&answer(&format!(r#"{{"token":"{TOKEN}","expires_at":null}}"#)));
    }
}

struct OtherUser {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl OtherUser {
    /// Needs root; `None` and a line that says so otherwise.
    fn start(test: &str, socket: &Path, uid: u32) -> Option<Self> {
        if !is_root() {
            std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED {test}: serving as another user needs root\n"),
            )
            .unwrap();
            return None;
        }
        // Where the other user can execute it, whatever the way to the target directory is like.
        let copy = socket.with_file_name("server");
        crate::stub::copy_program(&std::env::current_exe().unwrap(), &copy);
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&copy)
            .args(["--exact", "trust::serve_as_another_user", "--ignored", "--nocapture"])
            .env(SOCKET_VARIABLE, socket)
            .uid(uid)
            .gid(uid)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Some(Self { child, log })
    }

    /// What each connection sent, in bytes.
    fn stop(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.lines().map(Result::unwrap).collect()
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t")
}

/// A directory in which another user may make a socket.
fn open_directory(stub: &Stub) -> std::path::PathBuf {
    let directory = stub.path().join("open");
    std::fs::create_dir(&directory).unwrap();
    for path in [stub.path(), &directory] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    directory.join("broker.sock")
}

fn get(stub: &Stub, socket: &Path, more: &[(&str, &str)]) -> Ran {
    let mut command = stub.dvxir(&["credentials", "get", "gitlab"]);
    command.env("DVX_BROKER_URL", format!("unix://{}", socket.display())).envs(more.iter().copied());
    // Were it sent, a squatter would have the agent's token.
    let token = stub.path().join("token");
    std::fs::write(&token, "eyJ.a.b").unwrap();
    ran(command.env("DVX_TOKEN_FILE", token))
}

#[test]
fn a_stranger_s_socket_gets_nothing_and_gives_nothing() {
    let stub = Stub::gitlab();
    let socket = open_directory(&stub);
    let name = "a_stranger_s_socket_gets_nothing_and_gives_nothing";
    let Some(server) = OtherUser::start(name, &socket, STRANGER) else { return };
    let ran = get(&stub, &socket, &[]);
    ran.assert_failed(4);
    assert!(ran.stderr.contains(&format!("user {STRANGER} serves it")), "{ran:?}");
    let ran = get(&stub, &socket, &[("DVX_BROKER_USER", "daemon")]);
    ran.assert_failed(4);
    let read = server.stop();
    assert!(read.iter().all(|line| line == "read 0"), "{read:?}");
}

#[test]
fn a_user_who_is_named_is_trusted() {
    let stub = Stub::gitlab();
    let socket = open_directory(&stub);
    let Some(server) = OtherUser::start("a_user_who_is_named_is_trusted", &socket, STRANGER) else { return };
    get(&stub, &socket, &[("DVX_BROKER_USER", &STRANGER.to_string())]).assert_printed(TOKEN);
    server.stop();
}

#[test]
fn the_overflow_user_is_nobody_even_when_named() {
    let stub = Stub::gitlab();
    let socket = open_directory(&stub);
    let Some(server) = OtherUser::start("the_overflow_user_is_nobody_even_when_named", &socket, 65534) else {
        return;
    };
    get(&stub, &socket, &[("DVX_BROKER_USER", "nobody")]).assert_failed(4);
    get(&stub, &socket, &[("DVX_BROKER_USER", "65534")]).assert_failed(4);
    server.stop();
}

#[test]
fn what_is_not_a_socket_is_unreachable() {
    let stub = Stub::gitlab();
    let file = stub.path().join("file");
    std::fs::write(&file, "").unwrap();
    get(&stub, &file, &[]).assert_failed(5);
    get(&stub, stub.path(), &[]).assert_failed(5);
    let dangling = stub.path().join("dangling");
    std::os::unix::fs::symlink("/nowhere", &dangling).unwrap();
    get(&stub, &dangling, &[]).assert_failed(5);
    get(&stub, Path::new(&format!("/{}", "x".repeat(300))), &[]).assert_failed(5);
}
