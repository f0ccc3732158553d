//! How a world comes to be.

use std::path::{Path, PathBuf};

use super::World;
use crate::control::write_private;
use crate::{Agent, Config, ControlPlane, Ground, Operator, Planted, UpstreamDirectory, faketime, users};

/// How a world will be.
pub struct Builder {
    pub(super) config: Config,
    pub(super) broker_uid: u32,
    pub(super) environment: Vec<(String, String)>,
    pub(super) descriptors: Option<u32>,
    pub(super) broker_program: Option<PathBuf>,
    pub(super) movable_clock: bool,
    pub(super) joins: Option<Joins>,
}

/// How a world takes its secrets from a control plane.
pub(super) struct Joins {
    operator: Operator,
    planted: Planted,
    ca: PathBuf,
    url: String,
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

    /// Runs the broker as this user.
    #[must_use]
    pub fn run_as(mut self, uid: u32) -> Self {
        self.broker_uid = uid;
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

    /// Runs this program as the broker, instead of the one that was built with the tests.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Self {
        self.broker_program = Some(path.to_path_buf());
        self
    }

    /// Puts the broker's wall clock under [`World::advance_clock`]; only where
    /// [`faketime_library`](crate::faketime_library) is there.
    #[must_use]
    pub fn movable_clock(mut self) -> Self {
        self.movable_clock = true;
        self
    }

    /// Takes agents and secrets from a control plane, in which the enclave and the agents are made. It must be
    /// running when the world is built.
    #[must_use]
    pub fn control(self, control: &ControlPlane) -> Self {
        let url = control.url();
        self.control_at(control, &url)
    }

    /// The same by another way, such as a proxy.
    #[must_use]
    pub fn control_at(mut self, control: &ControlPlane, url: &str) -> Self {
        self.joins = Some(Joins {
            operator: control.admin(),
            planted: control.planted.clone(),
            ca: control.ca_path(),
            url: url.to_owned(),
        });
        self
    }

    /// Makes the directories and the configuration. Nothing runs yet.
    #[track_caller]
    pub fn build(mut self) -> World {
        let ground = Ground::new(self.broker_uid);
        let planted = self.joins.take().map(|joins| self.join(&ground, joins)).unwrap_or_default();
        let upstream = UpstreamDirectory::create(&ground.path("upstream"), self.broker_uid);
        let mut world = World {
            ground,
            upstream,
            config: self.config,
            planted,
            broker_uid: self.broker_uid,
            environment: self.environment,
            descriptors: self.descriptors,
            broker_program: self.broker_program,
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

    /// Makes enclave and agents, and configures the broker for them.
    #[track_caller]
    fn join(&mut self, ground: &Ground, joins: Joins) -> Planted {
        let key = joins.operator.create_enclave(&self.config.enclave);
        for agent in &self.config.agents {
            joins.operator.change("POST", "/agents", &agent.json(&self.config.enclave));
        }
        let path = ground.directory("keys", self.broker_uid, 0o700).join("enclave-key");
        write_private(&path, &key, self.broker_uid);
        self.config.agents_elsewhere = true;
        for (key, value) in [
            ("kind", "\"control\"".to_owned()),
            ("path", String::new()),
            ("url", format!("{:?}", joins.url)),
            ("api_key_file", format!("{path:?}")),
            ("ca_file", format!("{:?}", joins.ca)),
        ] {
            self.config.set("upstream", key, &value);
        }
        joins.planted
    }
}
