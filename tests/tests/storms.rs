//! Many connections, broken connections, and what else can come in over them: nothing is left behind.

use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dvx_proto::Code;
use dvx_proto::agent::Transport;
use dvx_tests::{
    Agent, Builder, Caller, CallerSpec, Connection, ControlPlane, Daemon, Request, World, eventually,
    fresh_uid, now, skip_without_root,
};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg, sockopt::set_socket_linger,
};

const WHOAMI: &str = "/v1/agent/whoami";

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A request with so many descriptors of ours in its ancillary data, again and again on one connection.
fn send_descriptors(socket: &Path, request: &[u8], count: usize) {
    let stream = UnixStream::connect(socket).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let files = vec![file.as_fd(); count];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    for part in [&request[..8], &request[8..]] {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(&stream, &[IoSlice::new(part)], &mut ancillary, SendFlags::NOSIGNAL).ok();
    }
    // The answer may come before all was read, and a reset with it.
    drop(Connection::unix(stream).response());
}

#[test]
fn descriptors_that_are_sent_along_are_closed() {
    if skip_without_root("descriptors_that_are_sent_along_are_closed") {
        return;
    }
    let mut world = World::single().build();
    world.start();
    let mut control = ControlPlane::start();
    let places = [
        (world.broker().pid(), world.socket_path()),
        (control.replica().daemon().pid(), control.replica().socket.clone()),
    ];
    for (pid, socket) in places {
        let before = descriptors(pid);
        // The kernel takes 253 at a time (SCM_MAX_FD).
        for count in [1, 100, 253] {
            for _ in 0..20 {
                send_descriptors(&socket, &Request::get(WHOAMI).bytes("dvx"), count);
            }
        }
        eventually("they are closed", || descriptors(pid) <= before + 1);
    }
}

#[test]
fn resets_and_urgent_bytes_leave_nothing_behind() {
    if skip_without_root("resets_and_urgent_bytes_leave_nothing_behind") {
        return;
    }
    let mut world = World::single().tcp().set("limits", "connections", "1000").build();
    world.plant("alpha", "gitlab");
    world.start();
    let pid = world.broker().pid();
    let caller = world.caller("alpha");
    assert_eq!(caller.get(WHOAMI).status, 200);
    let before = descriptors(pid);
    let request = Request::get("/v1/agent/credentials/gitlab").bytes(&world.tcp().to_string());
    for round in 0..2000 {
        let mut stream = caller.tcp_stream(None).unwrap();
        // Closed by a reset instead of in the regular way.
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        match round % 4 {
            0 => {}
            1 => drop(stream.write_all(&request[..10])),
            2 => drop(stream.write_all(&request)),
            _ => {
                send(&stream, b"GET", SendFlags::OOB | SendFlags::NOSIGNAL).ok();
                send(&stream, b"", SendFlags::NOSIGNAL).ok();
            }
        }
    }
    eventually("all are closed", || descriptors(pid) <= before + 1);
    assert_eq!(caller.get(WHOAMI).status, 200);
}

#[test]
fn a_gibibyte_costs_no_memory() {
    if skip_without_root("a_gibibyte_costs_no_memory") {
        return;
    }
    const GIBIBYTE: usize = 1 << 30;
    let mut world = World::single().build();
    world.start();
    let mut control = ControlPlane::start();
    let agent = world.caller("alpha");
    let (broker, replica) = (world.broker().pid(), control.replica().daemon().pid());
    let bearer = format!("Authorization: Bearer {}\r\n", control.token());
    let stranger = |socket: &Path| Connection::unix(UnixStream::connect(socket).unwrap());
    let (ours, theirs) = (world.socket_path(), control.replica().socket.clone());
    let places: [(&str, u32, &dyn Fn() -> Connection, &str); 3] = [
        ("/v1/agent/git-credential", broker, &|| agent.unix(), ""),
        ("/v1/agent/git-credential", broker, &|| stranger(&ours), ""),
        ("/api/v1/enclaves", replica, &|| stranger(&theirs), &bearer),
    ];
    let chunk = vec![b'x'; 1 << 20];
    for (path, pid, connect, authorization) in places {
        let before = anonymous_kib(pid);
        let body = format!(
            "POST {path} HTTP/1.1\r\nHost: dvx\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {GIBIBYTE}\r\n\r\n"
        );
        for head in [body, "GET / HTTP/1.1\r\nHost: dvx\r\nX: ".to_owned()] {
            let mut connection = connect();
            connection.send(head.as_bytes()).unwrap();
            let sent = (0..GIBIBYTE / chunk.len()).take_while(|_| connection.send(&chunk).is_ok()).count();
            assert!(sent < 64, "{sent} MiB of {head:?} were taken");
        }
        let grown = anonymous_kib(pid).saturating_sub(before);
        assert!(grown < 8192, "{path}: {grown} KiB more");
    }
}

/// The same command with so few descriptors.
fn with_descriptors(limit: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

#[test]
fn a_control_plane_out_of_descriptors_recovers() {
    let mut control = ControlPlane::start();
    control.stop();
    let log = control.ground.path("output/few.log");
    let mut daemon = Daemon::start(&mut with_descriptors(44, &control.command(&["serve"])), &log);
    let ready = |control: &mut ControlPlane| {
        let answer = control.replica().ask(&Request::get("/readyz"));
        answer.is_some_and(|answer| answer.status == 200)
    };
    eventually("it is ready", || ready(&mut control));
    let (socket, https) = (control.replica().socket.clone(), control.replica().https);
    let unix: Vec<_> = (0..60).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    let tcp: Vec<_> = (0..60).filter_map(|_| std::net::TcpStream::connect(https).ok()).collect();
    assert!(unix.len() + tcp.len() > 100, "the backlog takes what the control plane cannot");
    eventually("it says why it takes no more", || daemon.log().contains("lack of resources"));
    drop((unix, tcp));
    eventually("it serves again", || {
        let answers = [control.admin(), control.operator_by_tls(Some(control.token()))]
            .map(|operator| operator.try_send(&Request::get("/api/v1/whoami")));
        answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200))
    });
    assert!(ready(&mut control));
    let complaints = daemon.log().lines().filter(|line| line.contains("lack of resources")).count();
    assert!(complaints < 200, "the accept loop backs off: {complaints} lines");
    daemon.stop();
}

#[test]
fn clients_that_are_killed_while_they_ask_do_no_harm() {
    let mut world = World::single().set("limits", "connections", "1000").build();
    world.plant("alpha", "gitlab");
    world.start();
    for round in 0..60 {
        let mut caller = world.caller("alpha");
        let mut connection = caller.unix();
        let request = Request::get("/v1/agent/credentials/gitlab").bytes("dvx");
        connection.send(&request[..request.len() - round % 3]).unwrap();
        caller.end();
        // Whatever it says, it is not a token for a process that is gone before it was looked at.
        connection.finish_sending();
        drop(connection.response());
    }
    let answer = world.caller("alpha").get("/v1/agent/credentials/gitlab");
    assert_eq!(answer.status, 200, "{answer:?}");
    let unknown = world.caller("alpha").get("/v1/agent/credentials/github");
    assert_eq!(unknown.problem(), Code::NotFound);
}

/// A connection by either transport.
fn connect(caller: &Caller, transport: Transport) -> std::io::Result<Connection> {
    match transport {
        Transport::Unix => caller.try_unix(),
        Transport::Tcp => caller.tcp_stream(None).map(Connection::tcp),
    }
}

/// How long an agent waits for an answer on a connection of its own: the median and the 99th of a hundred.
fn waits(caller: &Caller, transport: Transport, token: &str, count: usize) -> (Duration, Duration) {
    let request = Request::get("/v1/agent/credentials/gitlab").bearer(token);
    let mut waits: Vec<Duration> = Vec::new();
    for _ in 0..count {
        let start = now();
        let answer = connect(caller, transport).unwrap().exchange(&request);
        waits.push(start.elapsed());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    waits.sort_unstable();
    (waits[count / 2], waits[count * 99 / 100])
}

struct Ends<'s>(&'s AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What it costs the others is printed (`--nocapture`), and not asserted.
#[test]
fn one_users_storm_leaves_the_others_served() {
    if skip_without_root("one_users_storm_leaves_the_others_served") {
        return;
    }
    // As it runs elsewhere: tests have it tell of each connection.
    let mut world = World::pair().tcp().env("RUST_LOG", "info").build();
    world.plant("beta", "gitlab");
    world.start();
    for transport in [Transport::Unix, Transport::Tcp] {
        let beta = world.caller("beta");
        let token = beta.token();
        let calm = waits(&beta, transport, &token, 20);
        let (stop, made) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        let storm = |caller: Caller| {
            let _held: Vec<_> = (0..60).filter_map(|_| connect(&caller, transport).ok()).collect();
            while !stop.load(Ordering::Relaxed) {
                let one = connect(&caller, transport);
                drop(one.and_then(|mut connection| connection.send(b"GET /v1/agent/cred")));
                made.fetch_add(1, Ordering::Relaxed);
            }
        };
        let stormy = thread::scope(|scope| {
            for caller in [world.caller("alpha"), world.caller("alpha")] {
                scope.spawn(move || storm(caller));
            }
            // Ends the storm also when an answer is not what it should be, which would be waited for otherwise.
            let _end = Ends(stop);
            eventually("the storm is on", || made.load(Ordering::Relaxed) > 1000);
            waits(&beta, transport, &token, 20)
        });
        println!(
            "{transport:?}: one user's {} connections: another's get on a connection of its own takes {:.2?} instead \
             of {:.2?} (median), {:.2?} instead of {:.2?} (99 of 100)",
            made.load(Ordering::Relaxed),
            stormy.0,
            calm.0,
            stormy.1,
            calm.1
        );
    }
}

/// Any of them may be one person: whoever has subordinate users (subuid(5)) can act as thousands.
#[test]
fn a_storm_of_fifty_users_leaves_an_agent_served() {
    if skip_without_root("a_storm_of_fifty_users_leaves_an_agent_served") {
        return;
    }
    const SHARE: usize = 8;
    let agents: Vec<_> = (0..10).map(|number| Agent::new(&format!("a{number}"), fresh_uid())).collect();
    let world =
        World::single().tcp().set("limits", "connections", "8").set("limits", "total_connections", "128");
    let mut world = agents.iter().cloned().fold(world, Builder::agent).build();
    world.plant("alpha", "gitlab");
    world.start();
    let uids = agents.iter().map(|agent| agent.uid).chain((0..40).map(|_| fresh_uid()));
    let users: Vec<Caller> = uids.map(|uid| world.caller_as(CallerSpec::user(uid))).collect();
    // As many as each may have, by turns: were each user's share counted, all would be taken three times over.
    let hold = |round: usize| {
        users.iter().map(move |user| if round.is_multiple_of(2) { user.unix() } else { user.tcp() })
    };
    let held: Vec<Connection> = (0..SHARE).flat_map(hold).collect();
    let (stop, made) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    let alpha = world.caller("alpha");
    let answers = thread::scope(|scope| {
        for users in users.chunks(users.len() / 2) {
            scope.spawn(move || {
                for user in users.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    drop(user.try_unix().and_then(|mut connection| connection.send(b"GET /v1/agent/cred")));
                    drop(user.tcp_stream(None));
                    made.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        let _end = Ends(stop);
        eventually("the storm is on", || made.load(Ordering::Relaxed) > 500);
        let token = alpha.token();
        let get = Request::get("/v1/agent/credentials/gitlab");
        let ask = |_| [alpha.send(&get).status, alpha.tcp().exchange(&get.clone().bearer(&token)).status];
        (0..100).flat_map(ask).filter(|status| *status == 200).count()
    });
    assert_eq!(answers, 200, "an agent with nothing to do with it gets every answer");
    let (kept, refused) = (world.status()["connections"]["open"].as_u64(), made.load(Ordering::Relaxed));
    println!("{} connections are held, {kept:?} of them open; {refused} more came meanwhile", held.len());
}
