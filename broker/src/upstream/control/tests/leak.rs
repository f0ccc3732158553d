//! What is left of values that came sealed outside the arena: nothing, not even eight bytes in a row. One
//! process holds the values, another has sent them and searches its memory.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dvx_memory::Protection;

use super::fake::{Fake, KEY};
use super::*;
use crate::audit::Audit;
use crate::config::{ApiKey, AuditSink};
use crate::upstream::search;

const SOCKET: &str = "DVX_TEST_CONTROL_LEAK";

#[test]
fn nothing_of_a_sealed_value_is_left_outside_the_arena() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        hold(Path::new(&socket));
        return;
    }
    if Arena::new(false).unwrap().protection() != Protection::Secretmem {
        skipped!("without memfd_secret the arena itself is found");
        return;
    }
    let fake = Fake::unix();
    let dvx_proto::ControlAddress::Unix(path) = &fake.address else { unreachable!() };
    let mut holder = holder(path);
    let mut watch = fake.watch();
    watch.begin(Mode::Snapshot);
    watch.frame(&agent("a", "4711"));
    let mut fragments = HashSet::new();
    let mut send = |watch: &mut fake::Watch, name: &str, length: usize, revision: u64| {
        let value = search::random_text(length);
        fragments.extend(search::fragments(&value));
        watch.secret("a", name, std::str::from_utf8(&value).unwrap(), revision);
        fragments.clone()
    };
    send(&mut watch, "gitlab:token", 20, 1);
    send(&mut watch, "github:token", 600, 1);
    let sent = send(&mut watch, "KEY", 3000, 1);
    watch.frame(&commit(1));
    assert_eq!(fake.ack().revision, 1);
    let found = search::search(holder.id(), &sent);
    let sent = send(&mut watch, "gitlab:token", 20, 2);
    watch.frame(&isolated("b", "4712"));
    watch.frame(&commit(2));
    assert_eq!(fake.ack().revision, 2);
    let found_later = search::search(holder.id(), &sent);
    // The end of its input ends it.
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    for found in [found, found_later] {
        match found {
            Ok(found) => assert_eq!(found, Vec::<String>::new()),
            Err(error) => skipped!("another process's memory cannot be read here: {error}"),
        }
    }
}

/// Is connected until its input ends.
fn hold(socket: &Path) {
    let audit = Audit::open(&AuditSink::Stderr, &"lab-1".parse().unwrap()).unwrap();
    let parts = Parts {
        config: ControlConfig {
            url: dvx_proto::ControlAddress::Unix(socket.to_owned()),
            api_key_file: "/key".into(),
            api_key: ApiKey::parse(KEY.as_bytes()).unwrap(),
            ca_file: None,
            roots: Vec::new(),
        },
        enclave: "lab-1".parse().unwrap(),
        keyring: Arc::new(Keyring::new()),
        arena: Arena::new(false).unwrap(),
        host: Arc::new(FakeHost::default()),
        feed: audit.feed(),
    };
    let _upstream = start(parts).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn holder(socket: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "upstream::control::tests::leak::nothing_of_a_sealed_value_is_left_outside_the_arena",
        ])
        .env(SOCKET, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
