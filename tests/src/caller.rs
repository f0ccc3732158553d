//! Processes under identities of their own, through which a test speaks to a broker.

use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::http::{Connection, Request, Response};
use crate::leak::Planted;
use crate::{Cgroup, users};

/// Who a [`Caller`] is.
#[derive(Debug, Clone, Default)]
pub struct CallerSpec {
    /// The user.
    pub uid: u32,
    /// The group; the user's number where it is not given.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The control group to which the process is moved before it does anything.
    pub cgroup: Option<PathBuf>,
    /// Words in front of the command before its user is changed, such as `unshare --pid --fork`.
    pub before_user: Vec<String>,
    /// Words in front of the command after its user was changed.
    pub after_user: Vec<String>,
}

impl CallerSpec {
    /// A plain process of this user.
    pub fn user(uid: u32) -> Self {
        Self { uid, ..Self::default() }
    }

    /// The same in a control group.
    #[must_use]
    pub fn in_cgroup(mut self, cgroup: &Cgroup) -> Self {
        self.cgroup = Some(cgroup.directory().to_path_buf());
        self
    }

    /// The same with supplementary groups.
    #[must_use]
    pub fn with_groups(mut self, groups: &[u32]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    /// A command that runs a program under this identity.
    pub fn command(&self, program: &Path) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
            words.extend(["sh".into(), "-c".into(), script.into(), cgroup.display().to_string()]);
        }
        words.extend(self.before_user.iter().cloned());
        if users::is_root() {
            words.extend(["setpriv".into(), format!("--reuid={}", self.uid)]);
            words.push(format!("--regid={}", self.gid.unwrap_or(self.uid)));
            words.push(self.groups_option());
            words.push("--".into());
        } else {
            assert_eq!(self.uid, users::own_uid(), "only root can act as another user");
        }
        words.extend(self.after_user.iter().cloned());
        let mut words = words.into_iter();
        let Some(first) = words.next() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(words).arg(program);
        command
    }

    fn groups_option(&self) -> String {
        if self.groups.is_empty() {
            return "--clear-groups".into();
        }
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        format!("--groups={}", groups.join(","))
    }
}

/// A running process that connects on request. What is written to its connections comes, as far as the kernel
/// is concerned, from it.
pub struct Caller {
    process: Arc<Process>,
    unix: PathBuf,
    tcp: Option<SocketAddr>,
    planted: Planted,
    /// Who it is.
    pub spec: CallerSpec,
}

impl Caller {
    pub(crate) fn start(
        spec: CallerSpec,
        helper: &Path,
        unix: &Path,
        tcp: Option<SocketAddr>,
        planted: &Planted,
    ) -> Self {
        let (control, theirs) = UnixStream::pair().expect("socket pairs can be made");
        let mut command = spec.command(helper);
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let process = Arc::new(Process { child: Mutex::new(child), control });
        Self { process, unix: unix.to_path_buf(), tcp, planted: planted.clone(), spec }
    }

    /// The process id. With a wrapper such as `unshare` it is the wrapper's.
    pub fn pid(&self) -> u32 {
        self.process.child.lock().unwrap().id()
    }

    /// A new connection to the broker's Unix socket.
    #[track_caller]
    pub fn unix(&self) -> Connection {
        self.try_unix().expect("the broker's socket takes connections")
    }

    /// The same, where it may fail.
    pub fn try_unix(&self) -> std::io::Result<Connection> {
        self.connect_unix(&self.unix)
    }

    /// A connection to any Unix socket.
    pub fn connect_unix(&self, path: &Path) -> std::io::Result<Connection> {
        let descriptor = self.process.ask(&format!("unix {}\n", path.display()))?;
        Ok(Connection::unix(UnixStream::from(descriptor)).kept_by(&self.process))
    }

    /// A new connection to the broker's loopback listener.
    #[track_caller]
    pub fn tcp(&self) -> Connection {
        let stream = self.tcp_stream(None).expect("the broker's port takes connections");
        Connection::tcp(stream).kept_by(&self.process)
    }

    /// The same as a plain stream, and from this local address where one is given.
    pub fn tcp_stream(&self, from: Option<SocketAddr>) -> std::io::Result<TcpStream> {
        let address = self.tcp.expect("this world has a loopback listener");
        self.tcp_stream_to(address, from)
    }

    /// A TCP connection to anywhere.
    pub fn tcp_stream_to(&self, address: SocketAddr, from: Option<SocketAddr>) -> std::io::Result<TcpStream> {
        let from = from.map(|from| format!(" {from}")).unwrap_or_default();
        Ok(TcpStream::from(self.process.ask(&format!("tcp {address}{from}\n"))?))
    }

    /// A listening TCP socket that belongs to the caller's user.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        Ok(TcpListener::from(self.process.ask(&format!("listen {address}\n"))?))
    }

    /// The answer to one request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.unix().exchange(request)
    }

    /// The answer to a GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send(&Request::get(path))
    }

    /// The answer to a POST with a JSON body on a connection of its own.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Response {
        self.send(&Request::post(path).json(body))
    }

    /// A new agent token, which from now on must not be found in any log.
    #[track_caller]
    pub fn token(&self) -> String {
        let response = self.send(&Request::post("/v1/agent/token"));
        assert_eq!(response.status, 200, "{response:?}");
        let token = response.json()["token"].as_str().expect("the answer has a token").to_owned();
        self.planted.remember("an agent token", &token);
        token
    }

    /// Ends the process at once; its connections live on.
    pub fn end(&mut self) {
        self.process.end();
    }
}

/// The process behind a caller. It lives as long as the caller or a connection of it, since a broker may look at
/// the process some time after it connected.
pub(crate) struct Process {
    child: Mutex<Child>,
    /// Where it takes requests; it ends when this is closed.
    control: UnixStream,
}

impl Process {
    fn ask(&self, line: &str) -> std::io::Result<OwnedFd> {
        (&self.control).write_all(line.as_bytes())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut kind = [0];
        let mut parts = [std::io::IoSliceMut::new(&mut kind)];
        recvmsg(self.control.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                return descriptors.last().ok_or_else(|| std::io::Error::other("no descriptor came"));
            }
        }
        let mut why = String::new();
        BufReader::new(&self.control).read_line(&mut why)?;
        Err(std::io::Error::other(why.trim().to_owned()))
    }

    fn end(&self) {
        let mut child = self.child.lock().unwrap();
        drop(child.kill());
        drop(child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
