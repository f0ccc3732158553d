//! One process of a control plane.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::{CallerSpec, Connection, Daemon, Ground, Request, Response, clock};

/// One process of a control plane.
pub struct Replica {
    /// Where operators on this machine connect.
    pub socket: PathBuf,
    /// Where everybody else does.
    pub https: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    pub(super) config: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Replica {
    pub(super) fn new(ground: &Ground, number: usize) -> Self {
        Self {
            socket: ground.path(&format!("run/control-{number}.sock")),
            https: free_address(),
            admin: free_address(),
            config: ground.path(&format!("etc/control-{number}.toml")),
            log: ground.path(&format!("output/control-{number}.log")),
            daemon: None,
        }
    }

    pub(super) fn command(&self, ground: &Ground, spec: &CallerSpec, words: &[&str]) -> Command {
        let mut command = spec.command(&ground.program("dvx-control"));
        command
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_LOG", "trace");
        command
    }

    pub(super) fn launch(&mut self, mut command: Command) {
        if self.daemon.as_mut().is_none_or(|daemon| daemon.ended().is_some()) {
            self.daemon = Some(Daemon::start(&mut command, &self.log));
        }
    }

    #[track_caller]
    pub(super) fn start(&mut self, command: Command) {
        self.launch(command);
        clock::eventually("the control plane is ready", || {
            if let Some(status) = self.daemon().ended() {
                panic!("the control plane ended with {status}:\n{}", crate::world::tail(&self.log()));
            }
            self.ask(&Request::get("/readyz")).is_some_and(|response| response.status == 200)
        });
    }

    /// The running process.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the replica was started")
    }

    /// Ends it in the regular way.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Asks its admin listener.
    pub fn ask(&self, request: &Request) -> Option<Response> {
        let mut connection = Connection::tcp(TcpStream::connect(self.admin).ok()?).with_chunks();
        let request = request.clone().header("Connection", "close").bytes(connection.host());
        connection.send(&request).ok()?;
        connection.response().ok()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// A loopback address that keeps being free over restarts: below the ports that the kernel gives out.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u16 = 10_000;
    const EACH: u16 = 20;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let process = u16::try_from(std::process::id() % 1_000).unwrap_or_default();
        let port = FIRST + (process * EACH + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
