//! The broker, with everything on.

use std::fs;
use std::path::Path;

use super::{Exchange, Server};
use crate::bench::target::{Address, Answer, Target, Transport};
use crate::bench::{acting::Acting, settings};
use crate::{Agent, Request, World, users};

/// The agent that asks.
const AGENT: &str = "alpha";

/// So high that nobody reaches it: each request is counted, and none refused.
const REQUESTS_PER_SECOND: &str = "1000000";

/// A broker with one agent, on both transports, with its audit log in a file.
pub struct Broker {
    name: String,
    world: World,
    pid: u32,
    user: u32,
    body: Vec<u8>,
}

impl Broker {
    /// Starts the release build; or each of the programs in `DVX_BENCH_BROKER`, to compare them.
    #[track_caller]
    pub fn all() -> Vec<Self> {
        let user = asking_user();
        let named = settings::words("DVX_BENCH_BROKER", "");
        if named.is_empty() {
            settings::release_program("dvx-broker");
            return vec![Self::start("dvx-broker", None, user, |_| {})];
        }
        named.iter().map(|path| Self::start(path, Some(Path::new(path)), user, |_| {})).collect()
    }

    /// Starts the release build in a world that was changed before, which is told the user that asks.
    #[track_caller]
    pub fn with(change: impl FnOnce(&mut World, u32)) -> Self {
        settings::release_program("dvx-broker");
        let user = asking_user();
        Self::start("dvx-broker", None, user, |world| change(world, user))
    }

    #[track_caller]
    fn start(name: &str, program: Option<&Path>, user: u32, change: impl FnOnce(&mut World)) -> Self {
        let mut builder = World::builder().agent(Agent::new(AGENT, user)).tcp();
        if let Some(program) = program {
            builder = builder.program(program);
        }
        let mut world =
            builder.set("limits", "requests_per_second", REQUESTS_PER_SECOND).env("RUST_LOG", "warn").build();
        world.plant(AGENT, "gitlab");
        change(&mut world);
        world.start();
        let body = {
            let _acting = Acting::as_user(user);
            let path = world.socket_path();
            let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let response = crate::Connection::unix(stream).exchange(&request());
            assert_eq!(response.status, 200, "{response:?}");
            response.body
        };
        let pid = world.broker().pid();
        Self { name: name.to_owned(), world, pid, user, body }
    }

    /// The user that asks.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// What the other servers are asked for, and answer.
    pub(super) fn exchange(&self) -> Exchange {
        Exchange { request: request().bytes("dvx"), body: self.body.clone() }
    }

    fn token(&self) -> String {
        fs::read_to_string(self.world.ground.path(&format!("run/agents/{AGENT}/token"))).unwrap()
    }
}

/// All brokers of a run have the same agent, since one load generator asks them all.
fn asking_user() -> u32 {
    if users::is_root() { users::fresh_uid() } else { users::own_uid() }
}

fn request() -> Request {
    Request::get("/v1/agent/credentials/gitlab")
}

impl Server for Broker {
    fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn target(&self, transport: Transport) -> Option<Target> {
        let (address, request) = match transport {
            Transport::Unix => (Address::Unix(self.world.socket_path()), request().bytes("dvx")),
            Transport::Tcp => {
                let address = self.world.tcp();
                let request = request().bearer(self.token().trim()).bytes(&address.to_string());
                (Address::Tcp(address), request)
            }
        };
        Some(Target { address, request, answer: Answer::Http(self.body.clone()) })
    }

    /// Cuts the audit log off, which has a line for each request.
    fn tidy(&mut self) {
        fs::OpenOptions::new().write(true).open(self.world.audit_path()).unwrap().set_len(0).unwrap();
    }
}
