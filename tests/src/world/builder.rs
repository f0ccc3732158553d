//! How a world comes to be.

use super::World;
use crate::{Agent, Config, Ground, Planted, UpstreamDirectory, faketime, users};

/// How a world will be.
pub struct Builder {
    pub(super) config: Config,
    pub(super) broker_uid: u32,
    pub(super) environment: Vec<(String, String)>,
    pub(super) descriptors: Option<u32>,
    pub(super) movable_clock: bool,
}

impl Builder {
    /// Adds an agent.
    #[must_use]
    pub fn agent(mut self, agent: Agent) -> Self {
        self.config.agents.push(agent);
        self
    }

    /// Adds a loopback listener on any free port.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.set("listen", "tcp", "\"127.0.0.1:0\"")
    }

    /// Sets a key of the configuration, in TOML's syntax; an empty value leaves it out.
    #[must_use]
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        self.config.set(table, key, value);
        self
    }

    /// Names the enclave.
    #[must_use]
    pub fn enclave(mut self, name: &str) -> Self {
        self.config.enclave = name.to_owned();
        self
    }

    /// Runs the broker as root where tests are root, so that `dvxir` trusts it. Otherwise it runs under a user
    /// of its own, without any capability.
    #[must_use]
    pub fn trusted(mut self) -> Self {
        self.broker_uid = users::own_uid();
        self
    }

    /// Adds a variable to the broker's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits how many descriptors the broker may have open.
    #[must_use]
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Puts the broker's wall clock under [`World::advance_clock`]; only where
    /// [`faketime_library`](crate::faketime_library) is there.
    #[must_use]
    pub fn movable_clock(mut self) -> Self {
        self.movable_clock = true;
        self
    }

    /// Makes the directories and the configuration. Nothing runs yet.
    pub fn build(self) -> World {
        let ground = Ground::new(self.broker_uid);
        let upstream = UpstreamDirectory::create(&ground.path("upstream"), self.broker_uid);
        let mut world = World {
            ground,
            upstream,
            config: self.config,
            planted: Planted::default(),
            broker_uid: self.broker_uid,
            environment: self.environment,
            descriptors: self.descriptors,
            broker: None,
            tcp: None,
            clock: Vec::new(),
        };
        world.write_config();
        if self.movable_clock {
            world.advance_clock(0);
            let library = faketime::library().expect("asked for by tests that found it");
            world.clock = faketime::words(&library, &world.clock_path());
        }
        world
    }
}
