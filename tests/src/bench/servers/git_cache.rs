//! git's own cache of credentials: a line protocol over a Unix socket, one request a connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Server;
use crate::bench::acting::Acting;
use crate::bench::target::{Address, Answer, Target, Transport};
use crate::{CallerSpec, Daemon, Ground, eventually};

const PLACE: &str = "protocol=https\nhost=gitlab.com\n";

/// The running daemon.
pub struct GitCache {
    daemon: Daemon,
    socket: PathBuf,
    end: Vec<u8>,
}

impl GitCache {
    /// Starts it with one credential in it; only its own user can reach it.
    pub fn start(ground: &Ground, user: u32, token: &str) -> Result<Self, String> {
        let path =
            Command::new("git").arg("--exec-path").output().map_err(|error| format!("git: {error}"))?;
        let directory = PathBuf::from(String::from_utf8_lossy(&path.stdout).trim());
        let program = directory.join("git-credential-cache--daemon");
        if !program.exists() {
            return Err(format!("{} is missing", program.display()));
        }
        let socket = ground.directory("git-cache", user, 0o700).join("socket");
        let mut command = CallerSpec::user(user).command(&program);
        let daemon = Daemon::start(command.arg(&socket), &ground.path("output/servers.log"));
        let _acting = Acting::as_user(user);
        eventually("git's cache listens", || UnixStream::connect(&socket).is_ok());
        let store = format!("action=store\ntimeout=86400\n{PLACE}username=oauth2\npassword={token}\n\n");
        say(&socket, &store);
        let answer = say(&socket, &get());
        assert!(answer.contains(token), "git's cache answers {answer:?}");
        let end = answer.into_bytes();
        Ok(Self { daemon, socket, end })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn get() -> String {
    format!("action=get\ntimeout=86400\n{PLACE}\n")
}

fn say(socket: &Path, text: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Server for GitCache {
    fn name(&self) -> &str {
        "git credential-cache"
    }

    fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    fn target(&self, transport: Transport) -> Option<Target> {
        (transport == Transport::Unix).then(|| Target {
            address: Address::Unix(self.socket.clone()),
            request: get().into_bytes(),
            answer: Answer::ToEnd(self.end.clone()),
        })
    }

    fn keeps_connections(&self) -> bool {
        false
    }
}
