//! How much memory the broker takes, how big the programs are, and how long starts, reloads and changes take.
//!
//! `cargo build --release -p dvx-broker -p dvxir && cargo bench -p dvx-tests --bench footprint`. Set in the
//! environment, with the defaults: `DVX_BENCH_STARTS=20`, `DVX_BENCH_CHANGES=50`, `DVX_BENCH_MANY=10000`; and
//! `DVX_BENCH_JSON`, `DVX_BENCH_DOCUMENT` as for `serve`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use dvx_tests::bench::{
    Acting, Bound, Broker, Cores, Load, Pace, Report, Server, Table, Transport, Use, Verdict, drive, give,
    is_asked_to_measure, median, memory, number, quantile, release_program, static_program,
};
use dvx_tests::{Agent, Connection, Ground, Request, World, fresh_uid, is_root, now, own_uid};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

const MIB: f64 = 1024.0 * 1024.0;

/// Credentials of a broker that is not asked for much.
const FEW: usize = 100;

/// Users of agents that nobody acts as.
const FIRST_UID: u32 = 200_000;

fn main() {
    if !is_asked_to_measure() {
        return;
    }
    release_program("dvx-broker");
    let mut report = Report::new("footprint");
    sizes(&mut report);
    memory_under_load(&mut report);
    times(&mut report);
    report.finish();
}

fn sizes(report: &mut Report) {
    let mut table = Table::new("Size of the programs", &["program", "MiB"]);
    let files = [
        ("dvx-broker", Ok(release_program("dvx-broker"))),
        ("dvxir", Ok(release_program("dvxir"))),
        ("dvxir, static", static_program("dvxir")),
    ];
    for (name, file) in files {
        match file {
            Ok(path) => {
                let bytes = fs::metadata(path).unwrap().len();
                table.row([name.to_owned(), format!("{:.2}", bytes as f64 / MIB)]);
                report.data(&format!("bytes of {name}"), json!(bytes));
            }
            Err(why) => report.note(&format!("Not measured: {why}.")),
        }
    }
    report.table(table);
}

/// Agents with one credential each, or with some more.
fn agents(world: &mut World, user: u32, credentials: usize) {
    for number in 0..credentials.min(FEW) {
        let name = if number == 0 { "alpha".to_owned() } else { format!("agent-{number:03}") };
        if number > 0 {
            world.config.agents.push(Agent::new(&name, FIRST_UID + u32::try_from(number).unwrap()));
        }
        for provider in 0..credentials / credentials.min(FEW) {
            let provider = if provider == 0 { "gitlab".to_owned() } else { format!("provider-{provider}") };
            world.upstream.token(&name, &provider, &format!("glpat-{number:010}{provider:0>10}"));
        }
    }
    assert_eq!(world.uid_of("alpha"), user);
    world.write_config();
}

fn load(connections: usize, connection: Use) -> Load {
    let time = Duration::from_millis(200);
    Load { connections, connection, pace: Pace::Closed, time, core: Cores::choose().clients }
}

fn memory_under_load(report: &mut Report) {
    let mut broker = Broker::with(|world, user| agents(world, user, FEW));
    let target = broker.target(Transport::Unix).unwrap();
    let mut until = |count: u64, load: Load| {
        let mut done = 0;
        while done < count {
            let _acting = Acting::as_user(broker.user());
            done += drive(&target, &load).latencies.len();
            drop(_acting);
            broker.tidy();
        }
        // What was freed is given back at the next idle moment.
        thread::sleep(Duration::from_secs(2));
        memory(broker.pid())
    };
    let idle = until(0, load(1, Use::Kept));
    let gets = until(100_000, load(32, Use::Kept));
    let connections = until(10_000, load(32, Use::Once));
    let mut table = Table::new("Memory, 100 credentials", &["when", "resident MiB", "anonymous MiB"]);
    for (when, memory) in
        [("idle", idle), ("after 100,000 gets", gets), ("and 10,000 connections", connections)]
    {
        let (resident, anonymous) = (memory.resident as f64 / MIB, memory.anonymous as f64 / MIB);
        table.row([when.to_owned(), format!("{resident:.2}"), format!("{anonymous:.2}")]);
        report.data(when, json!({"resident": memory.resident, "anonymous": memory.anonymous}));
    }
    report.table(table);
    let mut verdict = |what: &str, bytes: u64, limit: f64| {
        let (measured, bound) = (bytes as f64 / MIB, Bound::AtMost(limit));
        report.verdict(Verdict { what: what.to_owned(), measured, unit: " MiB", bound });
    };
    verdict("resident memory, idle with 100 credentials", idle.resident, 8.0);
    verdict("anonymous memory, idle with 100 credentials", idle.anonymous, 2.0);
    let grown = connections.resident.saturating_sub(idle.resident);
    verdict("resident memory more after 100,000 gets and 10,000 connections", grown, 1.0);
}

/// A service manager that hears of the broker.
struct Manager {
    /// Where this is; it must outlive the brokers.
    _ground: Ground,
    path: String,
    ready: Receiver<Instant>,
    /// Where token files go: on tmpfs, as `/run` is.
    run: TempDir,
}

impl Manager {
    fn listen() -> Self {
        let ground = Ground::new(own_uid());
        let path = ground.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let (sender, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut message = [0; 1024];
            while let Ok(length) = socket.recv(&mut message) {
                let time = now();
                let is_ready = message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
                if is_ready && sender.send(time).is_err() {
                    return;
                }
            }
        });
        let run = tempfile::Builder::new().prefix("dvx-").tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(run.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { _ground: ground, path: path.display().to_string(), ready, run }
    }

    fn ready_after(&self, start: Instant) -> f64 {
        let ready =
            self.ready.recv_timeout(Duration::from_secs(60)).expect("the broker says that it is ready");
        (ready - start).as_secs_f64() * 1e3
    }
}

/// Milliseconds.
struct Times {
    table: Table,
}

impl Times {
    fn add(&mut self, report: &mut Report, what: &str, times: &[f64]) -> f64 {
        let all = || times.iter().copied();
        let (p50, p99) = (median(all()), quantile(all(), 0.99));
        self.table.row([what.to_owned(), format!("{p50:.1}"), format!("{p99:.1}"), times.len().to_string()]);
        report.data(what, json!(times));
        p99
    }
}

fn times(report: &mut Report) {
    let many: usize = number("DVX_BENCH_MANY", 10_000);
    let starts: usize = number("DVX_BENCH_STARTS", 20);
    let mut times =
        Times { table: Table::new("How long it takes", &["what", "p50 ms", "p99 ms", "samples"]) };
    let manager = Manager::listen();
    let few = start(&manager, FEW, starts).1;
    let p99 = times.add(report, "start to ready, 100 credentials", &few);
    let verdict = |what: &str, measured, unit, limit| Verdict {
        what: what.to_owned(),
        measured,
        unit,
        bound: Bound::AtMost(limit),
    };
    report.verdict(verdict("start to ready, 100 credentials, p99", p99, " ms", 50.0));
    let (mut world, all) = start(&manager, many, starts.min(5));
    times.add(report, &format!("start to ready, {many} credentials"), &all);
    // Each changes something: an agent comes, or goes again.
    let reloads: Vec<f64> = (0..starts)
        .map(|number| {
            if number % 2 == 0 {
                world.config.agents.push(Agent::new("one-more", FIRST_UID));
            } else {
                world.config.agents.pop();
            }
            world.write_config();
            let start = now();
            world.broker().signal(Signal::SIGHUP);
            manager.ready_after(start)
        })
        .collect();
    times.add(report, &format!("reload, {many} credentials"), &reloads);
    drop(world);
    let (world, _) = start(&manager, FEW, 1);
    let changes = changes(&world);
    let p99 = times.add(report, "a changed file is served, 100 credentials", &changes);
    report.table(times.table);
    report.verdict(verdict("a changed file in the directory upstream is served, p99", p99, " ms", 1000.0));
}

/// A broker that was started so many times, and how long each start took, the change of its user included.
fn start(manager: &Manager, credentials: usize, starts: usize) -> (World, Vec<f64>) {
    let user = if is_root() { fresh_uid() } else { own_uid() };
    let builder = World::builder().agent(Agent::new("alpha", user));
    let mut world = builder.env("RUST_LOG", "info").env("NOTIFY_SOCKET", &manager.path).build();
    world.config.set("listen", "agents", &format!("{:?}", manager.run.path().join("agents")));
    give(manager.run.path(), world.broker_uid);
    agents(&mut world, user, credentials);
    let mut times = Vec::new();
    for number in 0..starts {
        if number > 0 {
            world.stop();
        }
        let start = now();
        world.start();
        times.push(manager.ready_after(start));
    }
    (world, times)
}

/// From a file's new name to the first answer with what is in it, asked for without a pause.
fn changes(world: &World) -> Vec<f64> {
    let request = Request::get("/v1/agent/credentials/gitlab");
    let mut connection = {
        // Until it is answered: the broker looks at who connected when it accepts.
        let _acting = Acting::as_user(world.uid_of("alpha"));
        let mut connection = Connection::unix(UnixStream::connect(world.socket_path()).unwrap());
        connection.exchange(&request).ok_json();
        connection
    };
    (0..number("DVX_BENCH_CHANGES", 50))
        .map(|number: usize| {
            let token = format!("glpat-changed{number:08}");
            world.upstream.token("alpha", "gitlab", &token);
            let start = now();
            // Slow enough for the rate limit.
            while !connection.exchange(&request).ok_json().contains(&token) {
                thread::sleep(Duration::from_millis(1));
            }
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}
