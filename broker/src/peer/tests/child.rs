//! This test program once more, as somebody else: it plays a script and then holds what it has until its
//! standard input ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};

use super::super::{PeerContext, Pidfd, loopback, owner};
use super::{identified, rule, rules};
use crate::clock;

const SCRIPT: &str = "DVX_TEST_PEER_SCRIPT";

/// A running script. It is killed when dropped.
pub(super) struct Child(std::process::Child);

impl Child {
    /// Plays a script: commands apart by `;`, see [`Player::play`].
    pub(super) fn play(script: &str) -> Self {
        Self::spawn(Command::new(std::env::current_exe().unwrap()), script)
    }

    /// Plays a script as the first process of a new pid namespace.
    pub(super) fn play_in_new_pid_namespace(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
        Self::spawn(command, script)
    }

    /// Plays a script in a new user namespace, whose users are not mapped yet.
    pub(super) fn play_in_new_user_namespace(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--keep-caps"]).arg(std::env::current_exe().unwrap());
        Self::spawn(command, script)
    }

    fn spawn(mut command: Command, script: &str) -> Self {
        command
            .args(["peer::tests::child::plays_its_script", "--exact", "--nocapture", "--test-threads=1"])
            .env(SCRIPT, script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets a script go on that awaits it.
    pub(super) fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    }

    /// Waits for its end without letting the kernel forget it.
    pub(super) fn wait_until_it_is_a_zombie(&mut self) {
        drop(self.0.stdin.take());
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }

    pub(super) fn reap(&mut self) {
        self.0.wait().unwrap();
    }

    /// Reads its output until there is a line that begins so; gives the rest of that line.
    pub(super) fn told(&mut self, what: &str) -> String {
        let mut output = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 {
            output.push(char::from(byte[0]));
            if output.ends_with('\n')
                && let Some(line) = output.lines().last().and_then(|line| line.strip_prefix(what))
            {
                return line.to_owned();
            }
        }
        panic!("{what}: {output}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Not a test of its own: what [`Child`] runs.
#[test]
fn plays_its_script() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let mut player = Player::default();
    for command in script.split(';') {
        player.play(&command.split_whitespace().collect::<Vec<_>>());
    }
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
}

#[derive(Default)]
struct Player {
    unix: Option<UnixStream>,
    tcp: Option<TcpStream>,
}

impl Player {
    fn play(&mut self, words: &[&str]) {
        match words {
            ["groups", list @ ..] => {
                let list: Vec<Gid> = list.iter().map(|gid| Gid::from_raw(gid.parse().unwrap())).collect();
                setgroups(&list).unwrap();
            }
            ["group", gid] => {
                let gid = Gid::from_raw(gid.parse().unwrap());
                setresgid(gid, gid, gid).unwrap();
            }
            ["user", real, effective] => {
                let [real, effective] = [real, effective].map(|uid| Uid::from_raw(uid.parse().unwrap()));
                setresuid(real, effective, effective).unwrap();
            }
            ["enter", procs] => std::fs::write(procs, std::process::id().to_string()).unwrap(),
            ["await"] => {
                println!("\nwaiting");
                std::io::stdin().read_exact(&mut [0]).ok();
            }
            ["connect", path] => self.unix = Some(UnixStream::connect(path).unwrap()),
            ["connect-tcp", address] => self.tcp = Some(TcpStream::connect(address).unwrap()),
            ["speak"] => self.unix.as_ref().unwrap().write_all(b"x").unwrap(),
            // The new process holds the connection as its standard input, and outlives this one.
            #[expect(clippy::zombie_processes, reason = "it is to outlive this process")]
            ["pass-on"] => {
                let connection = self.unix.take().unwrap();
                Command::new("cat").stdin(OwnedFd::from(connection)).stdout(Stdio::null()).spawn().unwrap();
            }
            ["identify-at", path] => identify_at(path),
            ["prove-at", address, uid] => prove_at(address, uid.parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

/// Tells who connects to a path, by the credentials alone.
fn identify_at(path: &str) {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    println!("\nready");
    let (stream, _) = listener.accept().unwrap();
    let context = PeerContext::new(Pidfd::Unused);
    let found = identified(&stream, &context, &rules([]));
    println!("\nfound {:?}", found.map(|facts| facts.uid).map_err(|unidentified| unidentified.reason));
}

/// Tells who connects to an address, looking at the processes too.
fn prove_at(address: &str, uid: u32) {
    let listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).unwrap();
    let local = listener.local_addr().unwrap();
    println!("\nready {local}");
    let (stream, peer) = listener.accept().unwrap();
    let context = PeerContext::new(Pidfd::Used).with_loopback();
    let rules = rules([rule("agent", uid)]);
    let found = loopback::identify(stream.as_fd(), peer, local, &context, &rules, clock::monotonic())
        .and_then(|facts| owner::prove(facts, stream.as_fd()));
    let found = found.map(|facts| (facts.uid, facts.groups.known().map(<[u32]>::to_vec), facts.namespace));
    println!("\nfound {:?}", found.map_err(|unidentified| unidentified.reason));
}
