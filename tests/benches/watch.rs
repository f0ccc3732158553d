//! How long a change takes to every broker, how long until an isolated agent is refused, and what brokers and agents
//! cost the control plane.
//!
//! `cargo bench -p dvx-tests --bench watch`. Brokers are simulated by this process, over TLS, each with a stream
//! and a connection for what it confirms; only the one that refuses is real. `DVX_BENCH_BROKERS` (such as `1,100`),
//! `DVX_BENCH_REFUSE` and `DVX_BENCH_AGENTS` choose other numbers of brokers and agents, 0 for none.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dvx_proto::enclave::Ack;
use dvx_tests::bench::{Acting, Bound, Report, Table, Verdict, median, quantile};
use dvx_tests::{
    Agent, Connection, ControlPlane, Daemon, EnclaveClient, Metrics, Operator, Request, State, World,
    eventually, fresh_uid, is_root, own_uid,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

/// Changes that are timed with so many brokers.
const fn rounds(brokers: usize) -> usize {
    if brokers > 1000 { 30 } else { 100 }
}

/// How long one change may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    // Cargo also runs benchmarks as tests, and then they are not asked to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for brokers in numbers("DVX_BENCH_BROKERS", "1,100,2000").into_iter().filter(|brokers| *brokers > 0) {
        runtime.block_on(deliver(brokers));
    }
    for brokers in numbers("DVX_BENCH_REFUSE", "100").into_iter().filter(|brokers| *brokers > 0) {
        runtime.block_on(refuse(brokers));
    }
    for agents in numbers("DVX_BENCH_AGENTS", "10000").into_iter().filter(|agents| *agents > 0) {
        runtime.block_on(populate(agents));
    }
}

fn numbers(variable: &str, default: &str) -> Vec<usize> {
    let text = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|number| number.trim().parse().expect("numbers")).collect()
}

/// A control plane without the trace that tests have it write.
struct Quiet {
    control: ControlPlane,
    daemon: Daemon,
}

impl Quiet {
    fn start() -> Self {
        let mut control = ControlPlane::builder().build();
        control.initialise();
        let daemon = Self::serve(&mut control);
        Self { control, daemon }
    }

    fn serve(control: &mut ControlPlane) -> Daemon {
        let mut command = control.command(&["serve"]);
        let daemon = Daemon::start(command.env("RUST_LOG", "warn"), &control.ground.path("output/bench.log"));
        let replica = control.replica();
        eventually("the control plane is ready", || {
            replica.ask(&Request::get("/readyz")).is_some_and(|response| response.status == 200)
        });
        daemon
    }

    fn admin(&self) -> Operator {
        self.control.admin()
    }

    /// Resident memory in bytes.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Processor time that it has used.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second; these begin with the third.
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn metrics(&mut self) -> Metrics {
        self.control.metrics()
    }
}

/// The value below which so many of a hundred lie.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!("  {what}: p50 {p50:.1?}, p99 {p99:.1?} ({} samples)", times.len());
}

async fn deliver(brokers: usize) {
    println!("{brokers} brokers");
    let mut quiet = Quiet::start();
    let keys: Vec<String> =
        (0..brokers).map(|number| quiet.admin().create_enclave(&format!("e-{number}"))).collect();
    quiet.admin().set_secret(None, "SHARED", "0");
    let before = quiet.memory();
    let (reports, mut received) = mpsc::unbounded_channel();
    let started = Instant::now();
    // Handshakes are this process's work, and not what is measured.
    let turns = Arc::new(Semaphore::new(64));
    let endpoint = EnclaveClient::of(&quiet.control, 0, "").endpoint;
    for key in keys {
        let broker = EnclaveClient::new(endpoint.clone(), key);
        tokio::spawn(simulate(broker, turns.clone(), reports.clone()));
    }
    for _ in 0..brokers {
        received.recv().await.unwrap();
    }
    println!("  all connected and up to date after {:.1?}", started.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = quiet.memory().saturating_sub(before) / brokers / 1024;
    println!(
        "  memory: {} KiB, {each} KiB for each broker (stream and ack connection)",
        quiet.memory() / 1024
    );
    let (cpu, began) = (quiet.cpu(), Instant::now());
    let (mut last, mut all) = (Vec::new(), Vec::new());
    for round in 1..=rounds(brokers) {
        let admin = quiet.admin();
        let started = Instant::now();
        let value = round.to_string();
        let set = tokio::task::spawn_blocking(move || admin.set_secret(None, "SHARED", &value));
        let mut times = Vec::with_capacity(brokers);
        let mut revisions = Vec::with_capacity(brokers);
        while times.len() < brokers {
            let report =
                tokio::time::timeout(PATIENCE, received.recv()).await.expect("every broker confirms");
            let (revision, time): (u64, Instant) = report.unwrap();
            times.push(time.saturating_duration_since(started));
            revisions.push(revision);
        }
        let set = set.await.unwrap();
        assert!(revisions.iter().all(|revision| *revision == set), "a broker confirms something else");
        last.push(times.iter().max().copied().unwrap());
        all.extend(times);
    }
    let used = quiet.cpu().saturating_sub(cpu);
    show("from the operator's request to the last ack", last);
    show("from the operator's request to each ack", all);
    let count = u32::try_from(rounds(brokers)).unwrap();
    println!(
        "  processor: {:.1?} for each change, {:.0} % of one core",
        used / count,
        100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64()
    );
    println!("  streams: {}", quiet.metrics().sum("dvx_control_watch_streams", &[]));
    quiet.daemon.kill();
}

/// One real broker among others: from the operator's request to the agent's first refusal. The agent asks all the
/// time, and it is restored after each.
async fn refuse(brokers: usize) {
    println!("{brokers} brokers, one of them real");
    let quiet = Quiet::start();
    let (reports, mut received) = mpsc::unbounded_channel();
    let turns = Arc::new(Semaphore::new(64));
    let endpoint = EnclaveClient::of(&quiet.control, 0, "").endpoint;
    for number in 1..brokers {
        let key = quiet.admin().create_enclave(&format!("e-{number}"));
        let broker = EnclaveClient::new(endpoint.clone(), key);
        tokio::spawn(simulate(broker, turns.clone(), reports.clone()));
    }
    for _ in 1..brokers {
        received.recv().await.unwrap();
    }
    let user = if is_root() { fresh_uid() } else { own_uid() };
    let builder = World::builder().agent(Agent::new("alpha", user)).control(&quiet.control);
    let mut world = builder.set("limits", "requests_per_second", "1000000").env("RUST_LOG", "warn").build();
    quiet.admin().plant("alpha", "gitlab");
    world.start();
    let request = Request::get("/v1/agent/credentials/gitlab");
    let mut connection = {
        // Until it is answered: the broker looks at who connected when it accepts.
        let _acting = Acting::as_user(user);
        let mut connection = Connection::unix(UnixStream::connect(world.socket_path()).unwrap());
        assert_eq!(connection.exchange(&request).status, 200);
        connection
    };
    let mut until = move |status: u16| {
        eventually("the agent gets another answer", || connection.exchange(&request).status == status);
        Instant::now()
    };
    let (mut refused, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..rounds(brokers) {
        let admin = quiet.admin();
        let start = Instant::now();
        let isolate = thread::spawn(move || {
            admin.set_state("alpha", "isolate");
            Instant::now()
        });
        refused.push((until(403) - start).as_secs_f64() * 1e3);
        answered.push((isolate.join().unwrap() - start).as_secs_f64() * 1e3);
        quiet.admin().set_state("alpha", "restore");
        until(200);
    }
    let mut report = Report::new("watch");
    let title = format!("An operator isolates an agent; {brokers} brokers, one of them real");
    let mut table = Table::new(&title, &["from the operator's request to", "p50 ms", "p99 ms"]);
    let p99 = quantile(refused.iter().copied(), 0.99);
    for (what, times) in [("the operator's answer", answered), ("the agent's first refusal", refused)] {
        let (p50, p99) = (median(times.iter().copied()), quantile(times.iter().copied(), 0.99));
        table.row([what.to_owned(), format!("{p50:.1}"), format!("{p99:.1}")]);
        report.data(what, json!(times));
    }
    report.table(table);
    let what = "isolated by the operator to refused at the agent, p99".to_owned();
    report.verdict(Verdict { what, measured: p99, unit: " ms", bound: Bound::AtMost(100.0) });
    report.finish();
}

/// Confirms each commit, and reports when that was answered.
async fn simulate(
    broker: EnclaveClient,
    turns: Arc<Semaphore>,
    reports: mpsc::UnboundedSender<(u64, Instant)>,
) {
    let turn = turns.acquire().await.unwrap();
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    let mut connection = broker.endpoint.connect().await.unwrap();
    drop(turn);
    loop {
        let ack = Ack { revision: state.revision.unwrap(), degraded: Vec::new() };
        assert_eq!(broker.ack(&mut connection, &watch, &ack).await.unwrap(), 204);
        if reports.send((ack.revision, Instant::now())).is_err() || watch.commit(&mut state).await.is_err() {
            return;
        }
    }
}

async fn populate(agents: usize) {
    println!("{agents} agents with 3 secrets each");
    let mut quiet = Quiet::start();
    let started = Instant::now();
    let mut keys = Vec::new();
    for enclave in 0..agents.div_ceil(500) {
        keys.push(quiet.admin().create_enclave(&format!("e-{enclave:03}")));
    }
    let admin = quiet.admin();
    let make = move || {
        for number in 0..agents {
            let agent = format!("agent-{number:05}");
            let user = u32::try_from(10_000 + number).unwrap();
            admin.create_agent(&agent, &format!("e-{:03}", number / 500), user);
            admin.set_token(&agent, "gitlab", "glpat-0123456789abcdefghij");
            admin.set_secret(Some(&agent), "DATABASE_URL", "postgres://user:password@localhost/name");
            admin.set_secret(Some(&agent), "API_KEY", "0123456789abcdef0123456789abcdef");
        }
    };
    tokio::task::spawn_blocking(make).await.unwrap();
    println!("  made in {:.1?}", started.elapsed());
    let admin = quiet.admin();
    let pages = (0..20).map(|_| {
        let started = Instant::now();
        let page = admin.get("/agents");
        assert_eq!(page["items"].as_array().unwrap().len(), agents.min(100), "{}", json!(null));
        started.elapsed()
    });
    show("first page of agents", pages.collect());
    let broker = EnclaveClient::of(&quiet.control, 0, keys.remove(0));
    let mut snapshots = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let mut state = State::default();
        broker.connected(&mut state).await;
        assert_eq!(state.secrets.len(), 3 * agents.min(500));
        snapshots.push(started.elapsed());
    }
    show(&format!("snapshot of {} agents, with its connection", agents.min(500)), snapshots);
    quiet.daemon.stop();
    let started = Instant::now();
    quiet.daemon = Quiet::serve(&mut quiet.control);
    println!("  start until ready: {:.1?}", started.elapsed());
    quiet.daemon.kill();
}
