//! Real processes at the other end: other users, other namespaces, other control groups.

mod child;
mod loopback;
mod unix;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use child::Child;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::unix::Connector;
use super::{PeerContext, PeerFacts, Unidentified};
use crate::clock;
use crate::policy::{AgentRule, Rules};

/// Users that nobody is.
const ALICE: u32 = 64101;
const BOB: u32 = 64102;

/// Whether the test can act as other users; says so when not.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped!("{test}: it needs root");
    }
    root
}

fn rule(name: &str, uid: u32) -> AgentRule {
    AgentRule { name: name.parse().unwrap(), uid, gid: None, unit: None, cgroup: None }
}

fn rules(rules: impl IntoIterator<Item = AgentRule>) -> Rules {
    Rules::new(rules.into_iter().collect()).unwrap()
}

/// Who is at the other end of a Unix socket.
fn identified(stream: &UnixStream, context: &PeerContext, rules: &Rules) -> Result<PeerFacts, Unidentified> {
    let connector = Connector::of(stream.as_fd())?;
    connector.identify(stream.as_fd(), context, rules, clock::monotonic())
}

/// Waits until a descriptor can be read from.
fn wait_for(fd: impl AsFd) {
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(Duration::from_secs(20)).unwrap();
    assert_eq!(poll(&mut ready, timeout), Ok(1), "nothing came");
}

/// A directory of our own in the cgroup v2 hierarchy, removed with all below it in the end.
struct Cgroup {
    mount: PathBuf,
    path: String,
    below: Vec<String>,
}

impl Cgroup {
    /// `None`, with a printed reason, where there is no hierarchy that we may change.
    fn new(test: &str, below: &[&str]) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = super::cgroup::mount_points(&mounts).next();
        let path = format!("/dvx-test-{test}-{}.slice", std::process::id());
        let made = mount.and_then(|mount| {
            let directory = |path: &str| mount.join(path.trim_start_matches('/'));
            std::fs::create_dir(directory(&path)).ok()?;
            let mut cgroup = Self { mount: mount.clone(), path: path.clone(), below: Vec::new() };
            for part in below {
                cgroup.below.push(format!("{path}/{part}"));
                std::fs::create_dir(cgroup.directory(&format!("{path}/{part}"))).ok()?;
            }
            Some(cgroup)
        });
        if made.is_none() {
            skipped!("{test}: there is no cgroup v2 hierarchy that this test may change");
        }
        made
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// The path of a directory below, and the file by which processes enter it.
    fn entrance(&self, below: &str) -> (String, PathBuf) {
        let path = format!("{}/{below}", self.path);
        let file = self.directory(&path).join("cgroup.procs");
        (path, file)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in self.below.iter().rev().chain([&self.path]) {
            let directory = self.directory(path);
            // A process that has just been killed takes a moment to leave.
            for _ in 0..10_000 {
                if std::fs::remove_dir(&directory).is_ok() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}
