//! One broker with everything around it.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::audit::{AuditLine, audit_lines};
use crate::http::{Connection, Request, Response};
use crate::{
    Agent, Caller, CallerSpec, Config, Daemon, Ground, Metrics, Outcome, Planted, UpstreamDirectory, clock,
    run, users,
};

mod builder;

pub use builder::Builder;

/// One broker with everything around it.
pub struct World {
    /// Its directories.
    pub ground: Ground,
    /// The broker's upstream.
    pub upstream: UpstreamDirectory,
    /// The broker's configuration; see [`World::write_config`].
    pub config: Config,
    /// The secrets that must not be found in anything that was written.
    pub planted: Planted,
    /// The user that the broker runs as.
    pub broker_uid: u32,
    environment: Vec<(String, String)>,
    descriptors: Option<u32>,
    broker_program: Option<PathBuf>,
    broker: Option<Daemon>,
    tcp: Option<SocketAddr>,
    clock: Vec<String>,
}

impl World {
    /// A world without agents.
    pub fn builder() -> Builder {
        let broker_uid = if users::is_root() { users::fresh_uid() } else { users::own_uid() };
        Builder {
            config: Config::new(),
            broker_uid,
            environment: Vec::new(),
            descriptors: None,
            broker_program: None,
            movable_clock: false,
            joins: None,
        }
    }

    /// A world with the agent `alpha`: under a user of its own where tests can act as others.
    pub fn single() -> Builder {
        let uid = if users::is_root() { users::fresh_uid() } else { users::own_uid() };
        Self::builder().agent(Agent::new("alpha", uid))
    }

    /// A world with the agents `alpha` and `beta` under two users.
    pub fn pair() -> Builder {
        let agent = |name| Agent::new(name, users::fresh_uid());
        Self::builder().agent(agent("alpha")).agent(agent("beta"))
    }

    /// Gives an agent a new token for a provider, which from now on must not be found in any log.
    pub fn plant(&self, agent: &str, provider: &str) -> String {
        let token = self.planted.token(&format!("{provider} token of {agent}"));
        self.upstream.token(agent, provider, &token);
        token
    }

    /// Writes the configuration again, after a change of it.
    pub fn write_config(&self) {
        let path = self.config_path();
        fs::write(&path, self.config.render(&self.ground)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    /// Moves the broker's wall clock to this many seconds after the real one.
    pub fn advance_clock(&self, seconds: u32) {
        let next = self.ground.path("etc/clock.next");
        fs::write(&next, format!("+{seconds}\n")).unwrap();
        fs::rename(next, self.clock_path()).unwrap();
    }

    fn clock_path(&self) -> PathBuf {
        self.ground.path("etc/clock")
    }

    /// Where the configuration lies.
    pub fn config_path(&self) -> PathBuf {
        self.ground.path("etc/broker.toml")
    }

    /// A program of ours, at a place where every user can run it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.ground.program(name)
    }

    /// A command that runs the broker's program as the broker's user.
    pub fn broker_command(&self, arguments: &[&str]) -> Command {
        let mut spec = CallerSpec::user(self.broker_uid);
        if let Some(limit) = self.descriptors {
            spec.before_user =
                ["sh", "-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"].map(String::from).into();
        }
        spec.after_user.clone_from(&self.clock);
        let program = self.broker_program.clone().unwrap_or_else(|| self.program("dvx-broker"));
        let mut command = spec.command(&program);
        command.args(arguments);
        self.set_environment(&mut command);
        command
    }

    /// Gives a command the broker's environment.
    pub fn set_environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("RUST_LOG", "trace");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// The command of a broker that serves this world.
    pub fn run_command(&self) -> Command {
        let mut command = self.broker_command(&["run", "--config"]);
        command.arg(self.config_path());
        command
    }

    /// Starts the broker and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_and_wait_for("/readyz");
    }

    /// Starts the broker and waits until it lives, ready or not.
    #[track_caller]
    pub fn start_unready(&mut self) {
        self.start_and_wait_for("/healthz");
    }

    #[track_caller]
    fn start_and_wait_for(&mut self, path: &str) {
        let command = self.run_command();
        self.adopt(command, path);
    }

    /// Starts a command that becomes this world's broker and waits until its admin socket says yes at `path`.
    #[track_caller]
    pub fn adopt(&mut self, mut command: Command, path: &str) {
        self.broker = Some(Daemon::start(&mut command, &self.log_path()));
        let broker = self.broker.as_mut().unwrap();
        let admin = self.ground.path("run/broker-admin.sock");
        clock::eventually("the broker answers on its admin socket", || {
            if let Some(status) = broker.ended() {
                panic!("the broker ended with {status}:\n{}", tail(&broker.log()));
            }
            try_admin(&admin, path).is_some_and(|response| response.status == 200)
        });
        self.tcp = self.status()["listen"]["tcp"].as_str().and_then(|address| address.parse().ok());
    }

    /// Runs the broker's program to its end, which should come by itself.
    #[track_caller]
    pub fn run_to_end(&self) -> Outcome {
        run(&mut self.run_command())
    }

    /// The running broker.
    pub fn broker(&mut self) -> &mut Daemon {
        self.broker.as_mut().expect("the broker was started")
    }

    /// Asks the broker to read its configuration again.
    pub fn reload(&mut self) {
        self.write_config();
        self.broker().signal(Signal::SIGHUP);
    }

    /// Ends the broker in the regular way.
    pub fn stop(&mut self) {
        self.broker().stop();
        self.broker = None;
    }

    /// Ends the broker as a crash does.
    pub fn kill(&mut self) {
        self.broker().kill();
        self.broker = None;
    }

    /// The user of an agent.
    #[track_caller]
    pub fn uid_of(&self, agent: &str) -> u32 {
        let found = self.config.agents.iter().find(|candidate| candidate.name == agent);
        found.unwrap_or_else(|| panic!("this world has no agent {agent}")).uid
    }

    /// A process under an agent's user.
    #[track_caller]
    pub fn caller(&self, agent: &str) -> Caller {
        self.caller_as(CallerSpec::user(self.uid_of(agent)))
    }

    /// A process under any identity.
    pub fn caller_as(&self, spec: CallerSpec) -> Caller {
        self.caller_program(spec, &self.program("dvx-caller"))
    }

    /// The same with a copy of the helper program at another place.
    pub fn caller_program(&self, spec: CallerSpec, helper: &Path) -> Caller {
        Caller::start(spec, helper, &self.socket_path(), self.tcp, &self.planted)
    }

    /// The agent socket's path.
    pub fn socket_path(&self) -> PathBuf {
        self.ground.path("run/broker.sock")
    }

    /// The address of the loopback listener.
    #[track_caller]
    pub fn tcp(&self) -> SocketAddr {
        self.tcp.expect("this world has a loopback listener")
    }

    /// Asks the admin socket.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Response {
        let socket = self.ground.path("run/broker-admin.sock");
        try_admin(&socket, path).unwrap_or_else(|| panic!("{}: no answer", socket.display()))
    }

    /// What the broker says of itself.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// What the broker counts.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.admin("/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(response.text()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The decisions so far.
    #[track_caller]
    pub fn audit(&self) -> Vec<AuditLine> {
        audit_lines(&self.audit_path())
    }

    /// Where they are written.
    pub fn audit_path(&self) -> PathBuf {
        self.ground.path("log/audit.jsonl")
    }

    /// Everything that the brokers of this world wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.ground.path("output/broker.log")
    }

    /// A command under an agent's user, in that user's home, told where the broker is.
    pub fn command(&self, agent: &str, program: impl AsRef<Path>) -> Command {
        self.command_as(&CallerSpec::user(self.uid_of(agent)), program)
    }

    /// The same for any identity.
    pub fn command_as(&self, spec: &CallerSpec, program: impl AsRef<Path>) -> Command {
        let home = self.ground.home(spec.uid);
        let mut command = spec.command(program.as_ref());
        command
            .current_dir(&home)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", &home)
            .env("DVX_BROKER_URL", format!("unix://{}", self.socket_path().display()))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        command
    }

    /// Runs `dvxir` as an agent and checks that its stderr shows no secret.
    #[track_caller]
    pub fn dvxir(&self, agent: &str, arguments: &[&str]) -> Outcome {
        let outcome = run(self.command(agent, self.program("dvxir")).args(arguments));
        self.assert_clean("dvxir's stderr", outcome.stderr.as_bytes());
        outcome
    }

    /// Checks that a text shows no planted secret.
    #[track_caller]
    pub fn assert_clean(&self, what: &str, text: &[u8]) {
        let found = self.planted.found_in(text);
        assert!(found.is_empty(), "{what} shows {found:?}");
    }

    /// Searches everything that was written for the planted secrets.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        let written = ["log", "output", "etc"]
            .iter()
            .flat_map(|name| self.planted.found_below(&self.ground.path(name)));
        let found: Vec<String> = written.collect();
        assert!(found.is_empty(), "secrets were written: {found:#?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the broker's last words:\n{}", tail(&self.log()));
            return;
        }
        if let Some(mut broker) = self.broker.take() {
            broker.stop();
        }
        self.assert_no_leaks();
        let log = self.log();
        assert!(!log.contains("panicked at"), "the broker panicked:\n{}", tail(&log));
    }
}

fn try_admin(socket: &Path, path: &str) -> Option<Response> {
    let mut connection = Connection::unix(UnixStream::connect(socket).ok()?);
    let request = Request::get(path).header("Connection", "close").bytes(connection.host());
    connection.send(&request).ok()?;
    connection.response().ok()
}

/// The end of a log, without the finest level and what the database's driver says.
pub(crate) fn tail(log: &str) -> String {
    let told = |line: &&str| !line.contains("TRACE") && !line.contains(" sqlx::");
    let lines: Vec<&str> = log.lines().filter(told).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
