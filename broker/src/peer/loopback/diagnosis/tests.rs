use std::net::{TcpListener, TcpStream};

use super::*;

const PEER: &str = "127.0.0.1:40000";
const LOCAL: &str = "127.0.0.1:8471";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What the kernel would say; each field can be bent.
struct Answer {
    kind: u16,
    family: u8,
    state: u8,
    source: SocketAddr,
    destination: SocketAddr,
    uid: u32,
    inode: u32,
    attributes: Vec<u8>,
}

impl Answer {
    fn good() -> Self {
        let (source, destination) = (at(PEER), at(LOCAL));
        // A byte (INET_DIAG_SHUTDOWN), padded, then the cgroup.
        let mut attributes = vec![5, 0, 8, 0, 3, 0, 0, 0, 12, 0, 21, 0];
        attributes.extend(0x1_0000_0019_u64.to_ne_bytes());
        let (kind, family, state) = (BY_FAMILY, AF_INET, ESTABLISHED);
        Self { kind, family, state, source, destination, uid: 1001, inode: 77, attributes }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![self.family, self.state, 0, 0];
        body.extend(self.source.port().to_be_bytes());
        body.extend(self.destination.port().to_be_bytes());
        body.extend(octets(self.source.ip()));
        body.extend(octets(self.destination.ip()));
        body.extend([0; 12 + 12]);
        body.extend(self.uid.to_ne_bytes());
        body.extend(self.inode.to_ne_bytes());
        body.extend(&self.attributes);
        message(self.kind, &body)
    }

    fn read(&self) -> Result<Owner, PeerError> {
        owner_in(&self.bytes(), at(PEER), at(LOCAL))
    }
}

fn message(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(HEADER + content.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(9_u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(content);
    bytes
}

#[test]
fn an_answer_about_the_peers_socket_names_its_owner() {
    let owner = Owner { uid: 1001, inode: 77, cgroup: Some(0x1_0000_0019) };
    assert_eq!(Answer::good().read(), Ok(owner));
    let mapped = |text: &str| SocketAddr::new(text.parse::<IpAddr>().unwrap(), at(PEER).port());
    let mut dressed = Answer { family: AF_INET6, source: mapped("::ffff:127.0.0.1"), ..Answer::good() };
    dressed.destination = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), at(LOCAL).port());
    assert_eq!(dressed.read(), Ok(owner), "IPv4 by an IPv6 socket");
    assert_eq!(sequence_of(&Answer::good().bytes()), Some(9));
}

#[test]
fn every_other_answer_is_refused() {
    let good = Answer::good;
    let table: Vec<(&str, Answer, PeerError)> = vec![
        ("another kind of message", Answer { kind: 19, ..good() }, PeerError::MalformedAnswer),
        ("the end of a dump", Answer { kind: 3, ..good() }, PeerError::MalformedAnswer),
        ("an unknown family", Answer { family: 1, ..good() }, PeerError::MalformedAnswer),
        ("another family", Answer { family: AF_INET6, ..good() }, PeerError::OtherSocket),
        ("FIN_WAIT2", Answer { state: 5, ..good() }, PeerError::NotEstablished(5)),
        ("TIME_WAIT", Answer { state: 6, ..good() }, PeerError::NotEstablished(6)),
        ("a listener", Answer { state: 10, ..good() }, PeerError::NotEstablished(10)),
        ("no state", Answer { state: 0, ..good() }, PeerError::NotEstablished(0)),
        ("no process", Answer { inode: 0, uid: 0, ..good() }, PeerError::Orphan),
        ("another source port", Answer { source: at("127.0.0.1:40001"), ..good() }, PeerError::OtherSocket),
        ("another source", Answer { source: at("127.0.0.2:40000"), ..good() }, PeerError::OtherSocket),
        (
            "another port of ours",
            Answer { destination: at("127.0.0.1:8472"), ..good() },
            PeerError::OtherSocket,
        ),
        ("no destination", Answer { destination: at("0.0.0.0:0"), ..good() }, PeerError::OtherSocket),
        (
            "ends swapped",
            Answer { source: at(LOCAL), destination: at(PEER), ..good() },
            PeerError::OtherSocket,
        ),
    ];
    for (what, answer, expected) in table {
        assert_eq!(answer.read(), Err(expected), "{what}");
    }
}

#[test]
fn the_kernels_refusals_are_told_apart() {
    let refused = |errno: Errno| {
        let content = (-(errno as i32)).to_ne_bytes();
        owner_in(&message(NLMSG_ERROR, &content), at(PEER), at(LOCAL))
    };
    assert_eq!(refused(Errno::ENOENT), Err(PeerError::UnknownSocket));
    assert_eq!(refused(Errno::EPERM), Err(PeerError::Diagnosis(Errno::EPERM)));
}

#[test]
fn an_answer_that_is_cut_short_is_refused() {
    let whole = Answer::good().bytes();
    for length in 0..whole.len() {
        let read = owner_in(&whole[..length], at(PEER), at(LOCAL));
        assert_eq!(read, Err(PeerError::MalformedAnswer), "{length}");
    }
    // Cut short in a way that its own length agrees with: the attributes just end.
    for length in HEADER + BODY..whole.len() {
        let mut cut = whole[..length].to_vec();
        cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
        let owner = owner_in(&cut, at(PEER), at(LOCAL)).unwrap();
        assert_eq!(owner.cgroup, None, "{length}");
    }
}

#[test]
fn attributes_of_any_length_come_to_an_end() {
    for attributes in
        [vec![0; 64], vec![1, 0, 9, 0], vec![0xff; 64], vec![3, 0, 21, 0, 1, 1, 1, 1, 1, 1, 1, 1]]
    {
        assert_eq!(cgroup_in(&attributes), None);
    }
}

#[test]
fn answers_to_earlier_questions_are_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let client = TcpStream::connect(local).unwrap();
    let peer = client.local_addr().unwrap();
    let mut inquiry = Inquiry::open().unwrap();
    for sequence in [100, 101, 102] {
        send(inquiry.netlink.as_raw_fd(), &question(local, peer, sequence), MsgFlags::empty()).unwrap();
    }
    let owner = inquiry.owner_of(peer, local).unwrap();
    assert_eq!(owner.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(u64::from(owner.inode), nix::sys::stat::fstat(&client).unwrap().st_ino);
}
