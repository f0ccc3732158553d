//! A control plane with everything around it: a database, keys, certificates, one or more replicas.
//!
//! It serves both on a Unix socket and on TLS. Worlds join it by [`Builder::control`](crate::Builder::control).
//! When it ends, its logs and its database are searched for every secret that was planted.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ground::give;
use crate::{
    Authority, CallerSpec, Ground, Metrics, Outcome, Planted, Postgres, Request, faketime, run, users,
};

mod builder;
mod operator;
mod replica;

pub use builder::ControlBuilder;
pub use operator::Operator;
pub use replica::Replica;
pub(crate) use replica::free_address;

/// A control plane with everything around it.
pub struct ControlPlane {
    /// Its directories.
    pub ground: Ground,
    /// The secrets that must not be found in anything that was written.
    pub planted: Planted,
    /// The user that it runs as.
    pub uid: u32,
    /// Who vouches for its certificate.
    pub authority: Authority,
    replicas: Vec<Replica>,
    postgres: Option<Postgres>,
    token: String,
    environment: Vec<(String, String)>,
    /// What puts replicas under a clock of the test's.
    clock: Option<PathBuf>,
}

impl ControlPlane {
    /// One replica on SQLite.
    pub fn builder() -> ControlBuilder {
        ControlBuilder::new()
    }

    /// One running replica on SQLite.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// The first replica.
    pub fn replica(&mut self) -> &mut Replica {
        self.replica_number(0)
    }

    /// Any replica.
    pub fn replica_number(&mut self, number: usize) -> &mut Replica {
        &mut self.replicas[number]
    }

    /// Its database server, where it has one.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("this control plane is on PostgreSQL")
    }

    /// The first operator, by token over the first replica's Unix socket.
    pub fn admin(&self) -> Operator {
        self.operator(&self.token)
    }

    /// The same at any replica.
    pub fn admin_at(&self, number: usize) -> Operator {
        Operator::unix(&self.replicas[number].socket, Some(&self.token), &self.planted)
    }

    /// Whoever has this token, over the first replica's Unix socket.
    pub fn operator(&self, token: &str) -> Operator {
        Operator::unix(&self.replicas[0].socket, Some(token), &self.planted)
    }

    /// Whoever the kernel says that the test is.
    pub fn peer(&self) -> Operator {
        Operator::unix(&self.replicas[0].socket, None, &self.planted)
    }

    /// Whoever has this token, over TLS.
    pub fn operator_by_tls(&self, token: Option<&str>) -> Operator {
        Operator::tls(self.replicas[0].https, &self.authority, token, &self.planted)
    }

    /// The first operator's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What brokers connect to.
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// The same of any replica.
    pub fn url_of(&self, number: usize) -> String {
        format!("https://{}", self.replicas[number].https)
    }

    /// Where the replicas take TLS connections.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.https).collect()
    }

    /// Where the authority's certificate lies.
    pub fn ca_path(&self) -> PathBuf {
        self.ground.path("etc/ca.pem")
    }

    /// Where the database lies; everything below is searched for secrets.
    pub fn data(&self) -> PathBuf {
        self.ground.path("data")
    }

    /// Where the key-encryption key lies.
    pub fn kek_path(&self) -> PathBuf {
        self.ground.path("keys/kek")
    }

    /// Where the key of the certificate lies.
    pub fn tls_key_path(&self) -> PathBuf {
        self.ground.path("keys/tls.key")
    }

    /// A command that runs the control plane's program as its user; `--config` of the first replica comes last.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_of(0, words)
    }

    fn command_of(&self, number: usize, words: &[&str]) -> Command {
        let words_of_clock = |library| faketime::words(library, &self.clock_path(number));
        let after_user = self.clock.as_deref().map(words_of_clock).unwrap_or_default();
        let spec = CallerSpec { after_user, ..CallerSpec::user(self.uid) };
        let mut command = self.replicas[number].command(&self.ground, &spec, words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What replicas that are started from now on find in their environment, beside the usual.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Moves the replicas' wall clock so many seconds away from the real one.
    pub fn shift_clock(&self, seconds: i64) {
        (0..self.replicas.len()).for_each(|number| self.shift_clock_of(number, seconds));
    }

    /// The same of one replica.
    pub fn shift_clock_of(&self, number: usize, seconds: i64) {
        self.set_clock(number, &format!("{seconds:+}"));
    }

    /// Lets the replicas' wall clock stand still at the present.
    pub fn stop_clock(&self) {
        let now = jiff::Timestamp::now().as_second().to_string();
        (0..self.replicas.len()).for_each(|number| self.set_clock(number, &now));
    }

    fn set_clock(&self, number: usize, text: &str) {
        let next = self.ground.path("etc/clock.next");
        fs::write(&next, format!("{text}\n")).unwrap();
        fs::rename(next, self.clock_path(number)).unwrap();
    }

    fn clock_path(&self, number: usize) -> PathBuf {
        self.ground.path(&format!("etc/clock-{number}"))
    }

    /// Starts every replica that does not run.
    #[track_caller]
    pub fn start_all(&mut self) {
        for number in 0..self.replicas.len() {
            self.start_replica(number);
        }
    }

    /// Starts a replica and waits until it is ready.
    #[track_caller]
    pub fn start_replica(&mut self, number: usize) {
        let command = self.command_of(number, &["serve"]);
        self.replicas[number].start(command);
    }

    /// Starts a replica and does not wait for it.
    pub fn launch_replica(&mut self, number: usize) {
        let command = self.command_of(number, &["serve"]);
        self.replicas[number].launch(command);
    }

    /// Ends every replica in the regular way.
    pub fn stop(&mut self) {
        self.replicas.iter_mut().for_each(Replica::stop);
    }

    /// Ends every replica as a crash does.
    pub fn kill(&mut self) {
        self.replicas.iter_mut().for_each(Replica::kill);
    }

    /// Runs `dvx` with the first operator's token over the Unix socket, and checks that its stderr shows no secret.
    #[track_caller]
    pub fn dvx(&self, arguments: &[&str]) -> Outcome {
        let outcome = run(self.dvx_command().args(arguments));
        self.assert_clean("dvx's stderr", outcome.stderr.as_bytes());
        outcome
    }

    /// `dvx`, told where the control plane is and who asks.
    pub fn dvx_command(&self) -> Command {
        let uid = users::own_uid();
        let mut command = CallerSpec::user(uid).command(&self.ground.program("dvx"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.ground.home(uid))
            .env("DVX_CONTROL_URL", format!("unix://{}", self.replicas[0].socket.display()))
            .env("DVX_CONTROL_USER", self.uid.to_string())
            .env("DVX_OPERATOR_TOKEN", &self.token);
        command
    }

    /// What the first replica counts.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.replicas[0].ask(&Request::get("/metrics")).expect("the replica runs");
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(response.text()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Everything that all replicas wrote.
    pub fn log(&self) -> String {
        self.replicas.iter().map(Replica::log).collect()
    }

    /// Writes a file of the control plane's user that nobody else can read.
    pub fn write_private(&self, path: &Path, text: &str) {
        write_private(path, text, self.uid);
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
        let mut places = ["log", "output", "etc", "data"].map(|name| self.ground.path(name)).to_vec();
        places.extend(self.postgres.as_ref().map(|postgres| postgres.directory().to_path_buf()));
        let found: Vec<String> = places.iter().flat_map(|place| self.planted.found_below(place)).collect();
        assert!(found.is_empty(), "secrets were written: {found:#?}");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the control plane's last words:\n{}", crate::world::tail(&self.log()));
            return;
        }
        self.stop();
        self.assert_no_leaks();
        let log = self.log();
        assert!(!log.contains("panicked at"), "the control plane panicked:\n{}", crate::world::tail(&log));
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str, owner: u32) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    give(path, owner);
}
