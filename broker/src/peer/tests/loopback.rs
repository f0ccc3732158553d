use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::fstat;

use super::super::{PeerContext, PeerError, PeerFacts, PidNamespace, Pidfd, loopback, owner};
use super::{ALICE, BOB, Cgroup, Child, is_root, rule, rules, wait_for};
use crate::clock;
use crate::policy::{NoMatch, Rules};

struct Server {
    listener: TcpListener,
    address: SocketAddr,
    context: PeerContext,
}

impl Server {
    fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address, context: PeerContext::new(Pidfd::Used).with_loopback() }
    }

    fn accept(&self) -> (TcpStream, SocketAddr) {
        wait_for(&self.listener);
        self.listener.accept().unwrap()
    }

    fn identify(&self, accepted: &(TcpStream, SocketAddr), rules: &Rules) -> Result<PeerFacts, PeerError> {
        let (stream, peer) = accepted;
        let local = stream.local_addr().unwrap_or(self.address);
        loopback::identify(stream.as_fd(), *peer, local, &self.context, rules, clock::monotonic())
            .map_err(|unidentified| unidentified.reason)
    }

    /// Who the script's process is.
    fn meet(&self, before: &str, rules: &Rules) -> Result<PeerFacts, PeerError> {
        let _child = Child::play(&format!("{before} connect-tcp {}", self.address));
        self.identify(&self.accept(), rules)
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A socket on loopback with a port of its own or a given one, which others may use after it.
fn reusable_socket(port: u16) -> (OwnedFd, u16) {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, ReuseAddr, &true).unwrap();
    setsockopt(&fd, ReusePort, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    let bound: SockaddrIn = nix::sys::socket::getsockname(fd.as_raw_fd()).unwrap();
    (fd, bound.port())
}

fn connect_from(port: u16, address: SocketAddr) -> (TcpStream, u16) {
    let (fd, port) = reusable_socket(port);
    connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, address.port())).unwrap();
    (TcpStream::from(fd), port)
}

/// Ends a connection at once, as a crash of the peer's machine would: nothing stays in TIME_WAIT. Closing it would
/// not do where another test begins a process, which holds a copy until it is another program.
fn reset(stream: TcpStream) {
    rustix::net::connect_unspec(&stream).unwrap();
}

#[test]
fn the_owner_of_the_peers_socket_is_named() {
    let server = Server::new();
    let client = TcpStream::connect(server.address).unwrap();
    let facts = server.identify(&server.accept(), &rules([])).unwrap();
    assert_eq!(facts.uid, own_uid());
    assert_eq!(facts.socket.map(u64::from), Some(fstat(&client).unwrap().st_ino), "the client's, not ours");
    assert_eq!((facts.gid, facts.groups.known(), facts.pid), (None, None, None));
}

#[test]
fn another_users_connection_is_that_users() {
    if !is_root("another_users_connection_is_that_users") {
        return;
    }
    let server = Server::new();
    let rules = rules([rule("alice", ALICE), rule("bob", BOB)]);
    for (uid, name) in [(ALICE, "alice"), (BOB, "bob")] {
        let facts = server.meet(&format!("user {uid} {uid};"), &rules).unwrap();
        assert_eq!(rules.agent_for(&facts).unwrap().name.as_str(), name);
    }
    let facts = server.meet("user 64103 64103;", &rules).unwrap();
    assert_eq!(rules.agent_for(&facts).err(), Some(NoMatch::Uid));
}

/// The kernel shows an orphaned socket as uid 0.
#[test]
fn closed_client_is_not_root() {
    let server = Server::new();
    for word in [&b""[..], b"GET /v1/agent/credentials HTTP/1.1\r\n\r\n"] {
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(word).unwrap();
        drop(client);
        let accepted = server.accept();
        // The end of the stream has arrived.
        wait_for(&accepted.0);
        let refused = server.identify(&accepted, &rules([rule("root", 0)])).unwrap_err();
        assert!(
            matches!(refused, PeerError::NotEstablished(_) | PeerError::Orphan | PeerError::UnknownSocket),
            "{refused}"
        );
    }
}

/// The server reads the first client's bytes; the kernel names the second, who has the same address by now.
#[test]
fn rst_and_port_reuse_is_refused() {
    let server = Server::new();
    let (mut attacker, port) = connect_from(0, server.address);
    attacker.write_all(b"stolen").unwrap();
    reset(attacker);
    let (victim, _) = connect_from(port, server.address);

    let mut first = server.accept();
    let mut bytes = [0; 6];
    first.0.read_exact(&mut bytes).unwrap();
    assert_eq!((&bytes, first.1.port()), (b"stolen", port));
    // TCP_CLOSE of the kernel's tcp_states.h.
    assert_eq!(server.identify(&first, &rules([])).err(), Some(PeerError::OwnEndClosed(7)));

    let second = server.accept();
    let facts = server.identify(&second, &rules([])).unwrap();
    assert_eq!(facts.socket.map(u64::from), Some(fstat(&victim).unwrap().st_ino));
}

/// The kernel answers with a listener that has the port of a connection that is gone.
#[test]
fn listener_fallback_is_refused() {
    let server = Server::new();
    let (attacker, port) = connect_from(0, server.address);
    reset(attacker);
    let (victim, _) = reusable_socket(port);
    listen(&victim, Backlog::new(1).unwrap()).unwrap();
    let accepted = server.accept();
    assert_eq!(accepted.1.port(), port);
    assert_eq!(server.identify(&accepted, &rules([])).err(), Some(PeerError::OtherSocket));
}

/// Asked the other way round, the kernel would name the owner of our own end.
#[test]
fn swapped_tuple_is_refused() {
    let server = Server::new();
    let client = TcpStream::connect(server.address).unwrap();
    let accepted = server.accept();
    let facts = server.identify(&accepted, &rules([])).unwrap();
    assert_ne!(facts.socket.map(u64::from), Some(fstat(&accepted.0).unwrap().st_ino));

    if !is_root("swapped_tuple_is_refused, in part") {
        return;
    }
    let facts = server.meet(&format!("user {ALICE} {ALICE};"), &rules([])).unwrap();
    assert_eq!(facts.uid, ALICE, "not the user of the server");
    drop(client);
}

#[test]
fn ipv4_in_ipv6_is_the_same_connection() {
    let mapped =
        |address: SocketAddr| SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), address.port());
    let v4 = Server::new();
    let client = TcpStream::connect(mapped(v4.address)).unwrap();
    let facts = v4.identify(&v4.accept(), &rules([])).unwrap();
    assert_eq!(facts.socket.map(u64::from), Some(fstat(&client).unwrap().st_ino), "client dressed as IPv6");

    let dual = Server::at("[::]:0");
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, dual.address.port())).unwrap();
    let accepted = dual.accept();
    assert!(accepted.1.is_ipv6());
    let facts = dual.identify(&accepted, &rules([])).unwrap();
    assert_eq!(facts.socket.map(u64::from), Some(fstat(&client).unwrap().st_ino), "server dressed as IPv6");

    let v6 = Server::at("[::1]:0");
    let client = TcpStream::connect((Ipv6Addr::LOCALHOST, v6.address.port())).unwrap();
    let facts = v6.identify(&v6.accept(), &rules([])).unwrap();
    assert_eq!(facts.socket.map(u64::from), Some(fstat(&client).unwrap().st_ino), "IPv6 on both sides");
}

#[test]
fn only_loopback_connections_are_looked_up() {
    let server = Server::new();
    let _client = TcpStream::connect(server.address).unwrap();
    let accepted = server.accept();
    for address in ["10.0.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "0.0.0.0:1"] {
        let stranger = (accepted.0.try_clone().unwrap(), address.parse().unwrap());
        assert_eq!(server.identify(&stranger, &rules([])).err(), Some(PeerError::NotLoopback), "{address}");
    }
}

#[test]
fn without_socket_diagnosis_every_tcp_peer_is_refused() {
    let server = Server { context: PeerContext::new(Pidfd::Used), ..Server::new() };
    let _client = TcpStream::connect(server.address).unwrap();
    assert_eq!(server.identify(&server.accept(), &rules([])).err(), Some(PeerError::LoopbackOff));
}

#[test]
fn units_hold_on_tcp_too() {
    let test = "units_hold_on_tcp_too";
    if !is_root(test) {
        return;
    }
    let Some(cgroup) = Cgroup::new("tcp", &["agent.service", "other.service"]) else { return };
    let mut unit = rule("unit", ALICE);
    unit.unit = Some("agent.service".parse().unwrap());
    let rules = rules([unit]);
    let server = Server::new();
    let agent = |place: &str| {
        let (path, procs) = cgroup.entrance(place);
        let before = format!("enter {}; user {ALICE} {ALICE};", procs.display());
        let facts = server.meet(&before, &rules).unwrap();
        assert_eq!(facts.cgroup.as_deref(), Some(&*path));
        rules.agent_for(&facts).map(|rule| rule.name.to_string())
    };
    assert_eq!(agent("agent.service").as_deref(), Ok("unit"));
    assert_eq!(agent("other.service"), Err(NoMatch::Unit));
}

#[test]
fn groups_are_those_of_the_process_that_holds_the_socket() {
    if !is_root("groups_are_those_of_the_process_that_holds_the_socket") {
        return;
    }
    let mut grouped = rule("grouped", ALICE);
    grouped.gid = Some(70_000);
    let rules = rules([grouped]);
    let server = Server::new();
    let _bystander = Child::play(&format!("groups; user {ALICE} {ALICE}"));
    let agent = |groups: &str| {
        let before = format!("groups {groups}; group 65001; user {ALICE} {ALICE};");
        let _child = Child::play(&format!("{before} connect-tcp {}", server.address));
        let accepted = server.accept();
        let facts = server.identify(&accepted, &rules).unwrap();
        assert!(rules.needs_owner(&facts));
        assert_eq!(rules.agent_for(&facts).err(), Some(NoMatch::UnknownGroups), "before it is proven");
        let facts = owner::prove(facts, accepted.0.as_fd()).unwrap();
        rules.agent_for(&facts).map(|rule| rule.name.to_string())
    };
    assert_eq!(agent("70000 70001").as_deref(), Ok("grouped"));
    assert_eq!(agent("70001"), Err(NoMatch::Group));
}

#[test]
fn a_server_that_cannot_see_who_holds_the_socket_asks_every_process_of_the_user() {
    let test = "a_server_that_cannot_see_who_holds_the_socket_asks_every_process_of_the_user";
    if !is_root(test) {
        return;
    }
    // Users of this test's own, so that no other test's processes are among theirs.
    let (server, agent) = (64111, 64112);
    let found = |bystander: Option<&str>| {
        let mut server = Child::play(&format!("user {server} {server}; prove-at 127.0.0.1:0 {agent}"));
        let address = server.told("ready ");
        let mut bystander = bystander
            .map(|groups| Child::play(&format!("groups {groups}; group 65001; user {agent} {agent}; await")));
        if let Some(bystander) = &mut bystander {
            bystander.told("waiting");
        }
        let before = format!("groups 70000; group 65001; user {agent} {agent};");
        let _child = Child::play(&format!("{before} connect-tcp {address}"));
        server.told("found ")
    };
    assert_eq!(found(None), format!("Ok(({agent}, Some([65001, 70000]), Ours))"));
    assert_eq!(found(Some("70000")), format!("Ok(({agent}, Some([65001, 70000]), Ours))"));
    assert_eq!(found(Some("70001")), format!("Ok(({agent}, Some([65001]), Ours))"));
}

#[test]
fn a_server_that_does_not_see_every_process_cannot_ask_them() {
    if !is_root("a_server_that_does_not_see_every_process_cannot_ask_them") {
        return;
    }
    let mut server = Child::play_in_new_pid_namespace("user 64121 64121; prove-at 127.0.0.1:0 64122");
    let address = server.told("ready ");
    let _child = Child::play(&format!("user 64122 64122; connect-tcp {address}"));
    assert_eq!(server.told("found "), "Err(NoOwner)");
}

#[test]
fn root_on_tcp_is_root_in_our_pid_namespace_only() {
    if !is_root("root_on_tcp_is_root_in_our_pid_namespace_only") {
        return;
    }
    let rules = rules([rule("root", 0)]);
    let server = Server::new();
    let prove = || {
        let accepted = server.accept();
        let facts = server.identify(&accepted, &rules).unwrap();
        assert!(rules.needs_owner(&facts));
        assert_eq!(rules.agent_for(&facts).err(), Some(NoMatch::UnprovenRoot), "before it is proven");
        owner::prove(facts, accepted.0.as_fd()).unwrap()
    };
    let script = format!("connect-tcp {}", server.address);
    let child = Child::play(&script);
    let ours = prove();
    assert_eq!(ours.namespace, PidNamespace::Ours);
    assert!(rules.agent_for(&ours).is_ok());
    drop(child);

    let _child = Child::play_in_new_pid_namespace(&script);
    let nested = prove();
    assert_eq!(rules.agent_for(&nested).err(), Some(NoMatch::NestedRoot));
}

#[test]
fn an_owner_that_is_gone_proves_nothing() {
    let server = Server::new();
    let client = TcpStream::connect(server.address).unwrap();
    let accepted = server.accept();
    let facts = server.identify(&accepted, &rules([])).unwrap();
    drop(client);
    wait_for(&accepted.0);
    let refused = owner::prove(facts, accepted.0.as_fd()).unwrap_err();
    assert!(matches!(refused.reason, PeerError::OwnEndClosed(_)), "{refused}");
}
