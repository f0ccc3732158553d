//! How fast the broker answers, beside what else answers on a socket.
//!
//! `cargo build --release -p dvx-broker -p dvxir && cargo bench -p dvx-tests --bench serve`
//!
//! All servers run the whole time, each on the same core, and take turns under the same load generator, in rounds.
//! A single client shares their core, and many clients have another. Set in the environment, with the defaults:
//!
//! - `DVX_BENCH_ROUNDS=5`, `DVX_BENCH_SECONDS=0.4`: turns for each server and row, and how long one is.
//! - `DVX_BENCH_ROWS`: only rows whose name contains one of these words, such as `kept-unix,open`.
//! - `DVX_BENCH_SERVERS`: only servers whose name contains one of these words, such as `dvx-broker,hyper`.
//! - `DVX_BENCH_CONNECTIONS=32`, `DVX_BENCH_RATE=20000`: many clients, and requests a second in the open loop.
//! - `DVX_BENCH_BROKER`: programs to run as brokers instead of the release build, to compare them with each other.
//! - `DVX_BENCH_CORES`, such as `2,3`: the servers' core, and that of many clients.
//! - `DVX_BENCH_JSON=FILE`: all numbers; `DVX_BENCH_DOCUMENT=docs/speed.md`: puts the tables into this document.

use std::time::Duration;

use dvx_tests::Ground;
use dvx_tests::bench::{
    Acting, Bound, Broker, Cores, Load, Pace, Report, Server, Table, Transport, Use, Verdict, cpu_time,
    drive, is_asked_to_measure, median, number, pin_process, run_if_asked, servers, words,
};
use serde_json::json;

/// One way of asking.
struct Row {
    name: String,
    title: String,
    transport: Transport,
    load: Load,
}

/// The turns of each server, by its name.
type Turns = Vec<(String, Vec<Turn>)>;

/// One turn of one server; times in microseconds.
struct Turn {
    p50: f64,
    p99: f64,
    p999: f64,
    rate: f64,
    cpu: f64,
}

fn main() {
    run_if_asked();
    if !is_asked_to_measure() {
        return;
    }
    let mut report = Report::new("serve");
    let cores = Cores::choose();
    let ground = Ground::new(dvx_tests::own_uid());
    let brokers = Broker::all();
    let user = brokers[0].user();
    let (mut servers, missing) = servers(&ground, brokers);
    missing.iter().for_each(|why| report.note(&format!("Not measured: {why}.")));
    let wanted = words("DVX_BENCH_SERVERS", "");
    servers.retain(|server| is_wanted(&wanted, server.name()));
    servers.iter().for_each(|server| pin_process(server.pid(), cores.server));
    let wanted = words("DVX_BENCH_ROWS", "");
    let mut results = Vec::new();
    for row in rows(cores).into_iter().filter(|row| is_wanted(&wanted, &row.name)) {
        let turns = measure(&row, &mut servers, user);
        show(&mut report, &row, &turns);
        results.push((row.name, turns));
    }
    judge(&mut report, &results);
    report.finish();
}

fn is_wanted(words: &[String], name: &str) -> bool {
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

fn rows(cores: Cores) -> Vec<Row> {
    let many: usize = number("DVX_BENCH_CONNECTIONS", 32);
    let rate: f64 = number("DVX_BENCH_RATE", 20_000.0);
    let time = Duration::from_secs_f64(number("DVX_BENCH_SECONDS", 0.4));
    let mut rows = Vec::new();
    for (transport, place, socket) in
        [(Transport::Unix, "unix", "Unix socket"), (Transport::Tcp, "tcp", "loopback")]
    {
        let mut add = |name: &str, title: &str, connections, connection, pace| {
            let core = if connections == 1 { cores.server } else { cores.clients };
            let load = Load { connections, connection, pace, time, core };
            rows.push(Row {
                name: format!("{name}-{place}"),
                title: format!("{socket}, {title}"),
                transport,
                load,
            });
        };
        let several = |what: &str| format!("{many} clients, {what}");
        add("kept-one", "one client, kept connection", 1, Use::Kept, Pace::Closed);
        add("kept-many", &several("kept connections"), many, Use::Kept, Pace::Closed);
        add("once-one", "one client, a connection for each request", 1, Use::Once, Pace::Closed);
        add("once-many", &several("a connection for each request"), many, Use::Once, Pace::Closed);
        if rate > 0.0 && cores.server != cores.clients {
            let title = format!("open loop at {rate} requests/s over {many} kept connections");
            add("open-many", &title, many, Use::Kept, Pace::Open(rate));
        }
    }
    rows
}

/// The turns of each server that takes part in this row.
fn measure(row: &Row, servers: &mut [Box<dyn Server>], user: u32) -> Turns {
    let rounds: usize = number("DVX_BENCH_ROUNDS", 5);
    let takes_part = |server: &dyn Server| {
        server.target(row.transport).is_some()
            && (row.load.connection == Use::Once || server.keeps_connections())
    };
    let mut part: Vec<_> = servers.iter_mut().filter(|server| takes_part(server.as_ref())).collect();
    let mut turns: Turns = part.iter().map(|server| (server.name().to_owned(), Vec::new())).collect();
    for round in 0..rounds {
        // Every other round goes backwards, so that nobody always comes after the same one.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..part.len()).collect() } else { (0..part.len()).rev().collect() };
        for index in order {
            turns[index].1.push(turn(row, part[index].as_mut(), user));
        }
    }
    turns
}

fn turn(row: &Row, server: &mut dyn Server, user: u32) -> Turn {
    let target = server.target(row.transport).expect("only servers that have one");
    let (sample, cpu) = {
        let _acting = Acting::as_user(user);
        let warm_up = Load { time: row.load.time / 10, ..row.load };
        drive(&target, &warm_up);
        let before = cpu_time(server.pid());
        let sample = drive(&target, &row.load);
        (sample, cpu_time(server.pid()).saturating_sub(before))
    };
    server.tidy();
    Turn {
        p50: sample.quantile(0.5),
        p99: sample.quantile(0.99),
        p999: sample.quantile(0.999),
        rate: sample.rate(),
        cpu: cpu.as_secs_f64() * 1e6 / sample.latencies.len() as f64,
    }
}

fn of(turns: &[Turn], measure: fn(&Turn) -> f64) -> f64 {
    median(turns.iter().map(measure))
}

/// One table: medians of the rounds, and the lowest and highest ratio of a round as a sign of how quiet it was.
fn show(report: &mut Report, row: &Row, all: &[(String, Vec<Turn>)]) {
    let columns =
        ["server", "p50 µs", "p99 µs", "p99.9 µs", "requests/s", "CPU µs", "p50 × hyper", "of rounds"];
    let mut table = Table::new(&row.title, &columns);
    let hyper = all.iter().find(|(name, _)| name == HYPER).map(|(_, turns)| turns);
    for (name, turns) in all {
        let mut cells = vec![name.clone()];
        cells.extend(
            [of(turns, |turn| turn.p50), of(turns, |turn| turn.p99), of(turns, |turn| turn.p999)].map(tenth),
        );
        cells.push(format!("{:.0}", of(turns, |turn| turn.rate)));
        cells.push(tenth(of(turns, |turn| turn.cpu)));
        cells.extend(match hyper {
            Some(hyper) => {
                let ratios: Vec<f64> =
                    turns.iter().zip(hyper).map(|(own, other)| own.p50 / other.p50).collect();
                let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
                let highest = ratios.iter().copied().fold(0.0, f64::max);
                let ratio = of(turns, |turn| turn.p50) / of(hyper, |turn| turn.p50);
                [format!("{ratio:.2}"), format!("{lowest:.2}–{highest:.2}")]
            }
            None => ["–".to_owned(), "–".to_owned()],
        });
        table.row(cells);
        report.data(
            &format!("{} {name}", row.name),
            turns
                .iter()
                .map(|turn| json!({"p50": turn.p50, "p99": turn.p99, "p99.9": turn.p999, "rate": turn.rate, "cpu": turn.cpu}))
                .collect(),
        );
    }
    report.table(table);
}

fn tenth(value: f64) -> String {
    format!("{value:.1}")
}

const HYPER: &str = "bare hyper";

/// What the broker is held to: row, other server, what of it, bound, and in words.
type Target = (&'static str, &'static str, fn(&Turn) -> f64, Bound, &'static str);

const TARGETS: [Target; 6] = [
    ("kept-one-unix", HYPER, |turn| turn.p50, Bound::AtMost(1.25), "kept connection, one client: p50"),
    (
        "kept-many-unix",
        HYPER,
        |turn| turn.rate,
        Bound::AtLeast(0.75),
        "kept connections, many clients: requests/s",
    ),
    (
        "kept-many-unix",
        "nginx",
        |turn| turn.p999,
        Bound::AtMost(1.0),
        "kept connections, many clients: p99.9",
    ),
    (
        "once-one-unix",
        "git credential-cache",
        |turn| turn.p50,
        Bound::AtMost(1.3),
        "a connection for each request, one client: p50",
    ),
    // docs/speed.md says where these two come from.
    (
        "kept-many-unix",
        HYPER,
        |turn| turn.rate,
        Bound::AtLeast(0.79),
        "the same, 1.75 × the AWS agent by way of hyper",
    ),
    (
        "once-one-unix",
        HYPER,
        |turn| turn.p50,
        Bound::AtMost(1.27),
        "the same, half of the AWS agent by way of hyper",
    ),
];

fn judge(report: &mut Report, results: &[(String, Turns)]) {
    for (row, other, measure, bound, words) in TARGETS {
        let Some((_, all)) = results.iter().find(|(name, _)| name == row) else { continue };
        let Some((_, peer)) = all.iter().find(|(name, _)| name == other) else { continue };
        for (name, turns) in all.iter().filter(|(name, _)| name.contains("dvx-broker")) {
            let measured = of(turns, measure) / of(peer, measure);
            report.verdict(Verdict { what: format!("{name}, {words} / {other}"), measured, unit: "", bound });
        }
    }
}
