//! How long a whole process takes that prints a credential, beside others that print one.
//!
//! `cargo build --release -p dvx-broker -p dvxir && cargo bench -p dvx-tests --bench cold`; the static dvxir, which
//! is the one that is packaged, is measured where
//! `cargo build --release -p dvxir --target x86_64-unknown-linux-musl` has made it.
//!
//! The commands take turns, `DVX_BENCH_RUNS=500` times and each time in another order, since each finds the processor's
//! caches as the one before has left them. They and the servers share one core. Set in the environment
//! `DVX_BENCH_CORES`, `DVX_BENCH_JSON` and `DVX_BENCH_DOCUMENT` as for `serve`; `LANG` is what the commands get.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dvx_tests::bench::{
    Acting, Bound, Cores, GitCache, Report, Table, Verdict, is_asked_to_measure, median, number, pin_process,
    pin_this_thread, quantile, release_program, static_program,
};
use dvx_tests::{Agent, Ground, World, fresh_uid, is_root, now, own_uid};
use serde_json::json;

/// A command, and what it printed the first time; times in microseconds.
struct Contestant {
    place: usize,
    name: String,
    command: Box<dyn Fn() -> Command>,
    times: Vec<f64>,
}

fn main() {
    if !is_asked_to_measure() {
        return;
    }
    let mut report = Report::new("cold");
    let user = if is_root() { fresh_uid() } else { own_uid() };
    release_program("dvx-broker");
    // dvxir trusts brokers of root and of its own user.
    let builder = World::builder().trusted().agent(Agent::new("alpha", user));
    let mut world = builder.env("RUST_LOG", "warn").build();
    let token = world.plant("alpha", "gitlab");
    world.start();
    let mut contestants = contestants(&world, user, &token, &mut report);
    let core = Cores::choose().server;
    pin_process(world.broker().pid(), core);
    pin_this_thread(core);
    let _acting = Acting::as_user(user);
    for contestant in &contestants {
        let output = (contestant.command)().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && (contestant.name == "true" || text.contains(&token)),
            "{output:?}"
        );
    }
    for _ in 0..number("DVX_BENCH_RUNS", 500) {
        fastrand::shuffle(&mut contestants);
        for contestant in &mut contestants {
            let mut command = (contestant.command)();
            command.stdout(Stdio::null());
            let start = now();
            let status = command.status().unwrap();
            contestant.times.push(start.elapsed().as_secs_f64() * 1e6);
            assert!(status.success(), "{}: {status}", contestant.name);
        }
    }
    drop(_acting);
    contestants.sort_by_key(|contestant| contestant.place);
    show(&mut report, &contestants);
    report.finish();
}

/// Everything that can be measured on this machine; the report says what cannot.
fn contestants(world: &World, user: u32, token: &str, report: &mut Report) -> Vec<Contestant> {
    let ground = &world.ground;
    let mut all = Vec::new();
    let mut add = |name: &str, command: Box<dyn Fn() -> Command>| {
        all.push(Contestant { place: all.len(), name: name.to_owned(), command, times: Vec::new() });
    };
    if let Some(program) = which("true") {
        add("true", Box::new(move || command(&program, &[])));
    }
    let file = ground.home(user).join("token");
    fs::write(&file, token).unwrap();
    dvx_tests::bench::give(&file, user);
    let cat = which("cat").expect("cat is everywhere");
    add(CAT, Box::new(move || command(&cat, &[file.to_str().unwrap()])));
    let url = format!("unix://{}", world.socket_path().display());
    let mut add_dvxir = |name: &str, program: &Path| {
        let copy = copy(ground, program, &name.replace(' ', "-"));
        let (home, url) = (ground.home(user), url.clone());
        add(
            name,
            Box::new(move || {
                let mut command = command(&copy, &["credentials", "get", "gitlab"]);
                command.env("HOME", &home).env("DVX_BROKER_URL", &url);
                command
            }),
        );
    };
    add_dvxir(PLAIN, &release_program("dvxir"));
    match static_program("dvxir") {
        Ok(program) => add_dvxir(STATIC, &program),
        Err(why) => report.note(&format!("Not measured: {why}.")),
    }
    match (which("git"), GitCache::start(ground, user, token)) {
        (Some(git), Ok(cache)) => {
            let question = ground.path("question");
            fs::write(&question, "protocol=https\nhost=gitlab.com\n\n").unwrap();
            add(
                "git credential-cache get",
                Box::new(move || {
                    let socket = cache.socket().to_str().unwrap();
                    let mut command = command(&git, &["credential-cache", "--socket", socket, "get"]);
                    command.stdin(File::open(&question).unwrap());
                    command
                }),
            );
        }
        _ => report.note("Not measured: git credential-cache get, there is no git with it."),
    }
    match which("curl") {
        Some(curl) => {
            let socket = world.socket_path();
            let url = "http://dvx/v1/agent/credentials/gitlab";
            add(
                "curl --unix-socket",
                Box::new(move || command(&curl, &["-s", "--unix-socket", socket.to_str().unwrap(), url])),
            );
        }
        None => report.note("Not measured: curl is not installed."),
    }
    all
}

const CAT: &str = "cat FILE";
const PLAIN: &str = "dvxir credentials get gitlab";
const STATIC: &str = "dvxir credentials get gitlab, static";

/// A program with nothing in its environment but where programs are, and the language of whoever measures: Debian's
/// tools look for its files first.
fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::null());
    command.envs(std::env::vars_os().filter(|(name, _)| name == "LANG"));
    command
}

fn which(name: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

/// At a place where the agent can run it.
fn copy(ground: &Ground, program: &Path, name: &str) -> PathBuf {
    let copy = ground.path(name);
    fs::copy(program, &copy).unwrap();
    copy
}

fn show(report: &mut Report, contestants: &[Contestant]) {
    let runs = contestants[0].times.len();
    let title = format!("A whole process, {runs} runs each");
    let mut table = Table::new(&title, &["command", "p50 µs", "p99 µs", "p50 × cat"]);
    let p50 = |contestant: &Contestant| median(contestant.times.iter().copied());
    let cat = contestants.iter().find(|contestant| contestant.name == CAT).map(p50).unwrap();
    for contestant in contestants {
        let p99 = quantile(contestant.times.iter().copied(), 0.99);
        let ratio = p50(contestant) / cat;
        table.row([
            contestant.name.clone(),
            format!("{:.0}", p50(contestant)),
            format!("{p99:.0}"),
            format!("{ratio:.2}"),
        ]);
        report.data(&contestant.name, json!({"p50": p50(contestant), "p99": p99}));
        let bound = match contestant.name.as_str() {
            PLAIN => Bound::AtMost(1.0),
            STATIC => Bound::AtMost(0.5),
            _ => continue,
        };
        let what = format!("{}: p50 / {CAT}", contestant.name);
        report.verdict(Verdict { what, measured: ratio, unit: "", bound });
    }
    report.table(table);
}
