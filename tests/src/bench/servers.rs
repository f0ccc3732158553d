//! What the load generator drives.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::target::{Address, Answer, Target, Transport};
use crate::{Daemon, Ground, eventually};

mod broker;
mod epoll;
mod git_cache;
mod hyper;
mod nginx;

pub use broker::Broker;
pub use git_cache::GitCache;

/// A running server.
pub trait Server {
    /// Its name in the tables.
    fn name(&self) -> &str;

    /// Its process.
    fn pid(&self) -> u32;

    /// What to send where, if it serves this way.
    fn target(&self, transport: Transport) -> Option<Target>;

    /// Whether a connection can be used again.
    fn keeps_connections(&self) -> bool {
        true
    }

    /// Called between two measurements.
    fn tidy(&mut self) {}
}

/// What all of them are asked for, and answer.
pub(super) struct Exchange {
    request: Vec<u8>,
    body: Vec<u8>,
}

/// As long as the broker's.
const STORED: &str = "glpat-0123456789abcdefghij";

/// Starts the servers that this machine has; of the others, says why not.
pub fn servers(ground: &Ground, brokers: Vec<Broker>) -> (Vec<Box<dyn Server>>, Vec<String>) {
    let exchange = brokers.first().expect("at least one broker").exchange();
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    let user = brokers[0].user();
    servers.extend(brokers.into_iter().map(|broker| Box::new(broker) as Box<dyn Server>));
    servers.push(Box::new(own(ground, "bare hyper", "hyper", &exchange)));
    servers.push(Box::new(own(ground, "raw epoll", "epoll", &exchange)));
    let mut missing = Vec::new();
    match nginx::start(ground, &exchange) {
        Ok(server) => servers.push(Box::new(server)),
        Err(why) => missing.push(format!("nginx: {why}")),
    }
    match GitCache::start(ground, user, STORED) {
        Ok(server) => servers.push(Box::new(server)),
        Err(why) => missing.push(format!("git credential-cache: {why}")),
    }
    (servers, missing)
}

/// A server of HTTP that answers all requests with the same.
struct Fixed {
    name: &'static str,
    daemon: Daemon,
    unix: Target,
    tcp: Target,
}

impl Fixed {
    /// Starts a command that listens at both places.
    fn start(
        ground: &Ground,
        name: &'static str,
        places: (&Path, SocketAddr),
        exchange: &Exchange,
        command: &mut Command,
    ) -> Self {
        let (socket, address) = places;
        let mut daemon = Daemon::start(command, &ground.path("output/servers.log"));
        eventually(name, || {
            assert!(daemon.ended().is_none(), "{name} ended:\n{}", daemon.log());
            std::os::unix::net::UnixStream::connect(socket).is_ok()
                && std::net::TcpStream::connect(address).is_ok()
        });
        let target = |address| Target {
            address,
            request: exchange.request.clone(),
            answer: Answer::Http(exchange.body.clone()),
        };
        Self {
            name,
            daemon,
            unix: target(Address::Unix(socket.to_path_buf())),
            tcp: target(Address::Tcp(address)),
        }
    }
}

impl Server for Fixed {
    fn name(&self) -> &str {
        self.name
    }

    fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    fn target(&self, transport: Transport) -> Option<Target> {
        Some(match transport {
            Transport::Unix => self.unix.clone(),
            Transport::Tcp => self.tcp.clone(),
        })
    }
}

/// A port that is free now.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// The word by which this program is told to be a server.
const SERVE: &str = "--serve";

/// Starts one of the servers that are in this program.
fn own(ground: &Ground, name: &'static str, kind: &str, exchange: &Exchange) -> Fixed {
    let socket = ground.path(&format!("{kind}.sock"));
    let address = free_port();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SERVE, kind]).arg(&socket).arg(address.to_string());
    command.arg(String::from_utf8(exchange.body.clone()).unwrap());
    Fixed::start(ground, name, (&socket, address), exchange, &mut command)
}

/// Is one of the servers that are in this program, where it was started as such; does not return then.
pub fn run_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(SERVE) {
        return;
    }
    let mut next = || arguments.next().expect("it is started by this program");
    let (kind, socket, address, body) = (next(), next(), next(), next());
    let unix = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    match kind.as_str() {
        "hyper" => hyper::serve(unix, tcp, body),
        "epoll" => epoll::serve(&unix, &tcp, &body),
        other => panic!("there is no server {other}"),
    }
}
