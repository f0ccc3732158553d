//! The broker, with each upstream.

use std::fs;

use dvx_proto::Fingerprint;
use dvx_tests::{
    Caller, Connection, ControlPlane, Request, World, eventually, look_at_its_end, skip_without_root,
};
use nix::sys::signal::Signal;

use crate::plants::Plants;
use crate::report::{self, Row};

mod requests;

const GITLAB: &str = "/v1/agent/credentials/gitlab";
const GIT: &str = r#"{"protocol":"https","host":"gitlab.com"}"#;

/// Where values come from.
enum Source {
    Directory,
    Control(Box<ControlPlane>),
}

/// A broker, an agent, and what was planted.
struct Stage {
    world: World,
    source: Source,
    plants: Plants,
    caller: Option<Caller>,
    /// Connections that stay open.
    kept: Vec<Connection>,
    /// Connections whose clients leave the broker waiting.
    slow: Vec<Connection>,
    /// What was found, where a path has looked by itself.
    row: Option<Row>,
}

/// With which upstreams a path can be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Each,
    Directory,
    Control,
}
use With::{Control, Directory, Each};

/// Everything that touches a secret, in the order in which it is done. After each the memory is searched.
const PATHS: &[Path] = &[
    (Each, "the first synchronisation", Stage::start),
    (Each, "a get over the Unix socket", Stage::get_by_unix),
    (Each, "a get over loopback", Stage::get_by_loopback),
    (Each, "agents' tokens, issued and shown", Stage::issue),
    (Each, "lists", Stage::list),
    (Each, "values of secrets", Stage::get_secrets),
    (Each, "a credential for git", Stage::git),
    (Each, "connections that are kept", Stage::keep),
    (Each, "a kept connection whose request came in pieces", Stage::pieces),
    (Each, "a hundred gets in one go", Stage::pipeline),
    (Directory, "ten thousand gets", Stage::ten_thousand),
    (Each, "two hundred connections at once", Stage::crowd),
    (Each, "requests with wrong tokens", Stage::wrong_tokens),
    (Each, "requests of somebody else", Stage::strangers),
    (Each, "a credential that has expired", Stage::expired),
    (Each, "requests above the rate, and a configuration that is read again", Stage::limited),
    (Each, "HEAD, and bytes that are no request", Stage::garbage),
    (Each, "a client that leaves in mid-answer", Stage::leave),
    (Each, "a client that never reads its answers", Stage::never_read),
    (Each, "a client that stalls within a request", Stage::stall),
    (Each, "a value that is replaced", Stage::replace),
    (Each, "a token that is reported, and git's wait for another", Stage::report),
    (Each, "values that are removed", Stage::remove),
    (Control, "an agent that is isolated", Stage::isolate),
    (Control, "an agent that is restored", Stage::restore),
    (Control, "a stream that is cut and taken up again", Stage::cut),
    (Directory, "files that cannot be used", Stage::bad_files),
    (Directory, "files that change as Kubernetes changes them", Stage::kubernetes),
    (Each, "draining, with a client that does not read", Stage::drain),
    (Each, "the end of the process", Stage::end),
    (Each, "an upstream that has been gone for too long", Stage::stale),
];

type Path = (With, &'static str, fn(&mut Stage));

const FILES: &str = "dvx-broker, which reads files";
const TLS: &str = "dvx-broker of a control plane, by TLS";
const SOCKET: &str = "dvx-broker of a control plane, by its socket";
const SLOW: &str = "dvx-broker, when slow clients have been cut off";

/// The tables of this program, with their rows.
pub(crate) fn tables() -> Vec<(&'static str, Vec<String>)> {
    let brokers = [(FILES, Directory), (TLS, Control), (SOCKET, Control)];
    let tables =
        brokers.map(|(title, with)| (title, paths(with).map(|(_, name, _)| (*name).to_owned()).collect()));
    tables.into_iter().chain([(SLOW, brokers.map(|(title, _)| title.to_owned()).into())]).collect()
}

/// What can be done with an upstream.
fn paths(with: With) -> impl Iterator<Item = &'static Path> {
    PATHS.iter().filter(move |(needs, ..)| *needs == Each || *needs == with)
}

impl Stage {
    fn caller(&self) -> &Caller {
        self.caller.as_ref().expect("the broker runs")
    }

    /// Puts a new token in place of the one before, and waits until it is served.
    fn put_token(&mut self, provider: &str) -> String {
        let token = self.plants.token(provider);
        match &self.source {
            Source::Directory => self.world.upstream.token("alpha", provider, &token),
            Source::Control(control) => {
                control.admin().set_token("alpha", provider, &token);
            }
        }
        token
    }

    fn put_secret(&self, name: &str, value: &str) {
        match &self.source {
            Source::Directory => self.world.upstream.secret("alpha", name, value.as_bytes()),
            Source::Control(control) => {
                control.admin().set_secret(Some("alpha"), name, value);
            }
        }
    }

    fn take_away(&mut self, name: &str, file: &str) {
        match &self.source {
            Source::Directory => self.world.upstream.remove("alpha", file),
            Source::Control(control) => {
                control.admin().delete_secret(Some("alpha"), name);
            }
        }
    }

    /// Waits until a GET has this status.
    fn eventually(&self, path: &str, status: u16) {
        eventually(path, || self.caller().get(path).status == status);
    }

    fn eventually_serves(&self, provider: &str, token: &str) {
        let path = format!("/v1/agent/credentials/{provider}");
        eventually("the new token is served", || {
            let answer = self.caller().get(&path);
            answer.status == 200 && answer.json()["token"] == token
        });
    }

    fn start(&mut self) {
        self.world.start();
        self.caller = Some(self.world.caller("alpha"));
    }

    fn replace(&mut self) {
        let token = self.put_token("gitlab");
        let text = self.plants.text("TEXT");
        self.put_secret("TEXT", &text);
        let large = self.plants.large("LARGE");
        self.put_secret("LARGE", &large);
        self.eventually_serves("gitlab", &token);
        for (name, value) in [("TEXT", text), ("LARGE", large)] {
            eventually("the new value is served", || {
                self.caller().get(&format!("/v1/agent/secrets/{name}")).json()["value"] == value.as_str()
            });
        }
    }

    fn report(&mut self) {
        let held = self.caller().get(GITLAB).json()["token"].as_str().unwrap().to_owned();
        let body = format!(r#"{{"fingerprint":"{}"}}"#, Fingerprint::of(held.as_bytes()));
        let answer = self.caller().post("/v1/agent/credentials/gitlab/rejected", &body);
        assert_eq!(answer.status, 202);
        // It is good for all that the control plane knows, so that git waits for no other.
        let mut waiting = self.caller().unix();
        waiting.send(&Request::post("/v1/agent/git-credential").json(GIT).bytes("dvx")).unwrap();
        let token = self.put_token("gitlab");
        let answer = waiting.response().unwrap();
        assert_eq!(answer.status, 200);
        if matches!(self.source, Source::Directory) {
            assert_eq!(answer.json()["password"], token.as_str());
        }
        self.eventually_serves("gitlab", &token);
    }

    fn remove(&mut self) {
        self.take_away("gone:token", "gone.token");
        self.take_away("GONE", "secrets/GONE");
        self.plants.remove("gone");
        self.plants.remove("GONE");
        self.eventually("/v1/agent/credentials/gone", 404);
        self.eventually("/v1/agent/secrets/GONE", 404);
    }

    fn control(&self) -> &ControlPlane {
        match &self.source {
            Source::Control(control) => control,
            Source::Directory => panic!("this broker has no control plane"),
        }
    }

    fn isolate(&mut self) {
        let revision = self.control().admin().set_state("alpha", "isolate");
        self.control().admin().delivered(revision);
        assert_eq!(self.caller().get(GITLAB).status, 403);
    }

    fn restore(&mut self) {
        let revision = self.control().admin().set_state("alpha", "restore");
        self.control().admin().delivered(revision);
        assert_eq!(self.caller().get(GITLAB).status, 200);
    }

    fn cut(&mut self) {
        let Source::Control(control) = &mut self.source else { panic!("this broker has no control plane") };
        control.kill();
        control.start_all();
        let token = self.put_token("gitlab");
        self.eventually_serves("gitlab", &token);
    }

    fn bad_files(&mut self) {
        let bad = self.plants.text("bad");
        self.world.upstream.token("alpha", "gitlab", &bad);
        let json = format!(r#"{{"instance_url":"https://u:{}@h.example"}}"#, self.plants.token("in a URL"));
        self.world.upstream.json("alpha", "forge", &json);
        let token = self.plants.token("of a bad description");
        self.world.upstream.token("alpha", "forge", &token);
        let path = self.world.upstream.path_of("alpha", "open.token");
        self.world.upstream.write(&path, self.plants.token("open").as_bytes(), 0o644);
        eventually("all are named", || {
            let ready = self.world.admin("/readyz").text().to_owned();
            ["gitlab.token", "forge.json", "open.token"].iter().all(|name| ready.contains(name))
        });
        for name in ["gitlab.token", "forge.json", "forge.token", "open.token"] {
            self.world.upstream.remove("alpha", name);
        }
        let token = self.put_token("gitlab");
        self.eventually_serves("gitlab", &token);
    }

    fn kubernetes(&mut self) {
        for _ in 0..2 {
            let token = self.plants.token("volume");
            self.world.upstream.publish("alpha", &[("volume.token", token.as_bytes())]);
            self.eventually_serves("volume", &token);
        }
    }

    fn cut_off(&mut self, title: &str) -> Row {
        for connection in &mut self.slow {
            connection.read_to_end();
        }
        let pid = self.world.broker().pid();
        self.plants.look(pid, title)
    }

    fn drain(&mut self) {
        self.never_read();
        self.world.broker().signal(Signal::SIGTERM);
        eventually("no connection is taken any more", || self.caller().try_unix().is_err());
    }

    /// All of it, when it has given up everything and is about to end.
    fn end(&mut self) {
        let pid = self.world.broker().pid();
        let Self { plants, slow, .. } = self;
        self.row = Some(look_at_its_end(pid, || slow.clear(), || plants.look(pid, "the end of the process")));
        self.world.stop();
    }

    fn stale(&mut self) {
        self.world.config.set("upstream", "max_stale", "\"2s\"");
        self.world.write_config();
        self.kept.clear();
        self.start();
        match &mut self.source {
            Source::Directory => {
                fs::rename(self.world.upstream.path(), self.world.ground.path("away")).unwrap()
            }
            Source::Control(control) => control.kill(),
        }
        self.eventually(GITLAB, 503);
    }
}

fn take_all(mut stage: Stage, title: &str) {
    let with = if matches!(stage.source, Source::Directory) { Directory } else { Control };
    let mut rows: Vec<Row> = Vec::new();
    for (_, name, take) in paths(with) {
        take(&mut stage);
        rows.push(stage.row.take().unwrap_or_else(|| {
            let pid = stage.world.broker().pid();
            stage.plants.look(pid, name)
        }));
    }
    report::settle(title, &rows);
}

impl Stage {
    /// A world that is not started yet, with something in every place.
    fn new(world: World, source: Source) -> Self {
        let plants = Plants::new(&world.ground.root().display().to_string());
        let mut stage =
            Self { world, source, plants, caller: None, kept: Vec::new(), slow: Vec::new(), row: None };
        for provider in ["gitlab", "gone"] {
            stage.put_token(provider);
        }
        let texts = [("TEXT", stage.plants.text("TEXT")), ("GONE", stage.plants.text("GONE"))];
        let large = stage.plants.large("LARGE");
        for (name, value) in texts.into_iter().chain([("LARGE", large)]) {
            stage.put_secret(name, &value);
        }
        stage
    }

    fn with_files() -> Self {
        Self::new(world().build(), Source::Directory)
    }

    /// One that takes its values from a control plane, by this address.
    fn with_control(url: fn(&mut ControlPlane) -> String) -> Self {
        let mut control = ControlPlane::start();
        let url = url(&mut control);
        let world =
            world().env("DVX_CONTROL_USER", &control.uid.to_string()).control_at(&control, &url).build();
        let key = fs::read_to_string(world.ground.path("keys/enclave-key")).unwrap();
        let mut stage = Self::new(world, Source::Control(Box::new(control)));
        stage.plants.set("the enclave's key", key.trim().trim_start_matches("dvxe_"));
        stage
    }
}

fn by_tls(control: &mut ControlPlane) -> String {
    control.url()
}

fn by_socket(control: &mut ControlPlane) -> String {
    format!("unix://{}", control.replica().socket.display())
}

fn world() -> dvx_tests::Builder {
    World::single().tcp().set("limits", "connections", "400").set("limits", "requests_per_second", "0")
}

#[test]
fn a_broker_that_reads_files_shows_nothing() {
    if !skip_without_root("a_broker_that_reads_files_shows_nothing") {
        take_all(Stage::with_files(), FILES);
    }
}

#[test]
fn a_broker_of_a_control_plane_by_tls_shows_nothing() {
    if !skip_without_root("a_broker_of_a_control_plane_by_tls_shows_nothing") {
        take_all(Stage::with_control(by_tls), TLS);
    }
}

#[test]
fn a_broker_of_a_control_plane_by_its_socket_shows_nothing() {
    if !skip_without_root("a_broker_of_a_control_plane_by_its_socket_shows_nothing") {
        take_all(Stage::with_control(by_socket), SOCKET);
    }
}

/// Apart from all other paths, and for all upstreams at once: a broker waits for half a minute.
#[test]
fn brokers_that_have_cut_slow_clients_off_show_nothing() {
    if skip_without_root("brokers_that_have_cut_slow_clients_off_show_nothing") {
        return;
    }
    let mut stages = [
        (FILES, Stage::with_files()),
        (TLS, Stage::with_control(by_tls)),
        (SOCKET, Stage::with_control(by_socket)),
    ];
    for (_, stage) in &mut stages {
        stage.start();
        stage.never_read();
        stage.stall();
    }
    let rows: Vec<Row> = stages.iter_mut().map(|(title, stage)| stage.cut_off(title)).collect();
    report::settle(SLOW, &rows);
}
