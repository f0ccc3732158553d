//! The control plane, as far as a broker sees it: it streams what its database says, lazily, one frame at a time,
//! and reads what it sends when it sends it. Two replicas share the database and hear of changes late.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::enclave::{AgentDocument, Frame, Mode, SealedSecret, heartbeat};
use dvx_proto::operator::Selectors;

use super::super::tests::Sealer;
use super::truth::{Agent, Database, State, Stored, Target};
use crate::clock::Monotonic;

/// How much later than it was sent a broker may still take word from us; see `hub::stream` of the control plane.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(40);

pub(super) struct Plane {
    pub(super) database: Database,
    /// The newest revision that each replica knows of.
    replicas: [u64; 2],
    pub(super) feeds: Vec<Feed>,
    /// The enclave is gone, and its key with it.
    pub(super) deleted: bool,
    /// What the enclave's broker has confirmed last, and when it was last connected.
    acked: Option<u64>,
    seen_at: Option<Monotonic>,
    serves_for: Duration,
    /// Revisions whose operators wait for them to be in force.
    commands: Vec<u64>,
    /// Up to here operators have been told that it is.
    pub(super) promised: u64,
}

/// A database, and what it says of the broker.
pub(super) struct Backup {
    pub(super) database: Database,
    acked: Option<u64>,
}

/// One stream.
pub(super) struct Feed {
    /// The broker's public key.
    pub(super) session: String,
    sealer: Sealer,
    replica: usize,
    todo: VecDeque<Todo>,
    seen: u64,
    committed: u64,
    whole: bool,
    /// The newest state that was read for the commit to come.
    read: u64,
    acked: Option<u64>,
    said_at: Monotonic,
    heartbeat: Duration,
    /// On its way.
    pub(super) lines: VecDeque<Line>,
}

pub(super) struct Line {
    pub(super) bytes: Bytes,
    pub(super) meaning: Meaning,
    pub(super) sent_at: Monotonic,
}

pub(super) enum Meaning {
    Hello,
    Content,
    Commit(Told),
    Heartbeat,
}

/// What a commit stands for.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) revision: u64,
    /// The newest state of which something is in it.
    pub(super) read: u64,
    pub(super) whole: bool,
    /// All that there was.
    pub(super) database: Rc<Database>,
}

enum Todo {
    Hello(Mode),
    Organisation,
    Agents,
    Agent(&'static str),
    Document(&'static str, Agent),
    Secrets(&'static str, u64),
    /// Of the organisation, or of one agent and not of another one that has its name now.
    Secret(Option<(&'static str, u64)>, &'static str),
    Commit(u64),
}

impl Plane {
    pub(super) fn new() -> Self {
        Self {
            database: Database::new(),
            replicas: [1; 2],
            feeds: Vec::new(),
            deleted: false,
            acked: None,
            seen_at: None,
            serves_for: Duration::ZERO,
            commands: Vec::new(),
            promised: 0,
        }
    }

    pub(super) fn operate(
        &mut self,
        replica: usize,
        mark: u64,
        change: impl FnOnce(&mut State) -> Target,
    ) -> Target {
        let target = self.database.change(mark, change);
        self.commands.push(self.database.revision());
        self.replicas[replica] = self.database.revision();
        target
    }

    /// A replica hears of the newest change.
    pub(super) fn notice(&mut self, replica: usize) {
        self.replicas[replica] = self.database.revision();
    }

    /// A broker asks for a stream.
    pub(super) fn open(
        &mut self,
        session: &str,
        has: Option<(u64, Option<u64>)>,
        max_stale: Duration,
        replica: usize,
        now: Monotonic,
    ) -> bool {
        if self.deleted {
            return false;
        }
        self.notice(replica);
        let newest = self.replicas[replica];
        let known = |revision| revision <= newest && revision >= self.database.pruned;
        let ours = |revision, mark| mark == Some(self.database.mark(revision));
        let resumed = has.filter(|(revision, mark)| known(*revision) && ours(*revision, *mark));
        let resumed = resumed.map(|(revision, _)| revision);
        let todo = match resumed {
            Some(_) => VecDeque::from([Todo::Hello(Mode::Resume)]),
            None => {
                [Todo::Hello(Mode::Snapshot), Todo::Organisation, Todo::Agents, Todo::Commit(newest)].into()
            }
        };
        self.serves_for = max_stale + ON_THE_WAY;
        self.seen_at = Some(now);
        self.feeds.push(Feed {
            session: session.to_owned(),
            sealer: Sealer::new(session),
            replica,
            todo,
            seen: resumed.unwrap_or(newest),
            committed: 0,
            whole: resumed.is_none(),
            read: 0,
            acked: None,
            said_at: now,
            heartbeat: heartbeat(max_stale),
            lines: VecDeque::new(),
        });
        true
    }

    pub(super) fn feed(&mut self, session: &str) -> Option<&mut Feed> {
        self.feeds.iter_mut().find(|feed| feed.session == session)
    }

    /// Writes one line of a stream, if there is one to write. False once the stream is over.
    pub(super) fn pump(&mut self, index: usize, now: Monotonic) -> bool {
        let feed = &mut self.feeds[index];
        if feed.todo.is_empty() && !feed.follow(&self.database, self.replicas[feed.replica], now) {
            return false;
        }
        feed.write(&self.database, now);
        true
    }

    /// A broker's confirmation has arrived.
    pub(super) fn ack(&mut self, session: &str, revision: u64, now: Monotonic) {
        if revision > self.database.revision() {
            return;
        }
        if let Some(feed) = self.feed(session) {
            feed.acked = Some(revision);
        }
        (self.acked, self.seen_at) = (Some(revision), Some(now));
    }

    /// Ends the waits of operators whose changes are in force by now, as far as can be told here.
    pub(super) fn promise(&mut self, now: Monotonic) {
        let lowest = self.feeds.iter().map(|feed| feed.acked.unwrap_or(0)).min();
        if lowest.is_some() {
            self.seen_at = Some(now);
        }
        let serves = lowest.is_some() || self.seen_at.is_some_and(|seen| now.since(seen) < self.serves_for);
        let acked = if serves { lowest.or(self.acked).unwrap_or(0) } else { u64::MAX };
        let promised = self.commands.iter().copied().filter(|revision| *revision <= acked).max();
        self.commands.retain(|revision| *revision > acked);
        self.promised = self.promised.max(promised.unwrap_or(0));
    }

    /// What can be taken back to.
    pub(super) fn backup(&self) -> Backup {
        Backup { database: self.database.clone(), acked: self.acked }
    }

    /// The process starts anew, with the database as it is or as it once was.
    ///
    /// A database that was put back does not know who was connected since. Until `max_stale` has passed its word
    /// on who serves nothing any more is worth nothing, and is not taken here.
    pub(super) fn restart(&mut self, backup: Option<Backup>, now: Monotonic) {
        self.feeds.clear();
        if let Some(Backup { database, acked }) = backup {
            (self.database, self.acked, self.seen_at) = (database, acked, Some(now));
            self.commands.clear();
            // What was promised was of a history that nobody remembers.
            self.promised = 0;
        }
        self.replicas = [self.database.revision(); 2];
    }
}

impl Feed {
    /// Finds out what there is to write. False where what has changed is not known any more.
    fn follow(&mut self, database: &Database, newest: u64, now: Monotonic) -> bool {
        if self.seen < database.pruned {
            return false;
        }
        let changed: BTreeSet<Target> = database.since(self.seen, newest).iter().copied().collect();
        self.seen = newest;
        let changed_state = &database.states(newest, newest)[0];
        // An agent comes with all that it has.
        let comes_along = |target: &Target| match target {
            Target::Secret(Some(agent), _) => changed.contains(&Target::Agent(agent)),
            Target::Elsewhere => true,
            Target::Secret(None, _) | Target::Agent(_) => false,
        };
        let targets = changed.iter().filter(|target| !comes_along(target)).map(|target| match *target {
            Target::Agent(agent) => Todo::Agent(agent),
            Target::Secret(owner, name) => {
                let id = |owner| changed_state.agents.get(owner).map_or(0, |agent| agent.id);
                Todo::Secret(owner.map(|owner| (owner, id(owner))), name)
            }
            Target::Elsewhere => unreachable!(),
        });
        self.todo.extend(targets);
        let silent = now.since(self.said_at) >= self.heartbeat;
        if !self.todo.is_empty() || self.committed == 0 || (silent && self.seen != self.committed) {
            self.todo.push_back(Todo::Commit(self.seen));
        } else if silent {
            let revision = self.committed;
            self.say(&Frame::Heartbeat { revision }, Meaning::Heartbeat, now);
        }
        true
    }

    fn write(&mut self, database: &Database, now: Monotonic) {
        let Some(todo) = self.todo.pop_front() else { return };
        let state = database.now();
        if !matches!(todo, Todo::Hello(_) | Todo::Commit(_)) {
            self.read = self.read.max(database.revision());
        }
        match todo {
            Todo::Hello(mode) => {
                let hello = Frame::Hello(self.sealer.hello(mode));
                self.say(&hello, Meaning::Hello, now);
            }
            Todo::Organisation => {
                self.next(state.organisation.keys().map(|name| Todo::Secret(None, name)).collect());
            }
            Todo::Agents => {
                let document = |(name, agent): (&&'static str, &Agent)| Todo::Document(name, agent.clone());
                self.next(state.agents.iter().map(document).collect());
            }
            Todo::Agent(name) => match state.agents.get(name) {
                Some(agent) => self.next(vec![Todo::Document(name, agent.clone())]),
                None => self.content(&Frame::AgentGone { agent: name.parse().unwrap() }, now),
            },
            Todo::Document(name, agent) => {
                if agent.is_served() {
                    self.next(vec![Todo::Secrets(name, agent.id)]);
                }
                self.content(&Frame::Agent(document(name, &agent)), now);
            }
            Todo::Secrets(name, id) => {
                let agent = state.agents.get(name).filter(|agent| agent.id == id);
                for (secret, stored) in agent.into_iter().flat_map(|agent| &agent.secrets) {
                    self.secret(Some(name), secret, Some(stored), now);
                }
            }
            Todo::Secret(None, name) => {
                self.secret(None, name, state.organisation.get(name), now);
            }
            Todo::Secret(Some((owner, id)), name) => match state.agents.get(owner) {
                Some(agent) if agent.id == id && agent.is_served() => {
                    self.secret(Some(owner), name, agent.secrets.get(name), now);
                }
                // What it had must not stay until its own change comes.
                Some(_) | None => self.next(vec![Todo::Agent(owner)]),
            },
            Todo::Commit(revision) => {
                self.committed = revision;
                let (read, whole) = (self.read, self.whole);
                let told = Told { revision, read, whole, database: Rc::new(database.clone()) };
                let mark = Some(database.mark(revision));
                self.say(&Frame::Commit { revision, mark }, Meaning::Commit(told), now);
                (self.read, self.whole) = (0, false);
            }
        }
    }

    /// Before everything else.
    fn next(&mut self, todo: Vec<Todo>) {
        todo.into_iter().rev().for_each(|todo| self.todo.push_front(todo));
    }

    fn secret(&mut self, owner: Option<&str>, name: &str, stored: Option<&Stored>, now: Monotonic) {
        let agent = owner.map(|owner| owner.parse().unwrap());
        let frame = match stored {
            None => Frame::SecretGone { agent, name: name.parse().unwrap() },
            Some(stored) if stored.damaged => Frame::SecretUnavailable { agent, name: name.parse().unwrap() },
            Some(stored) => {
                let revision = self.commit_to_come();
                Frame::Secret(SealedSecret {
                    agent_accessible: stored.accessible,
                    credential: Some(format!("id-{}", stored.number)),
                    instance_url: stored.host.map(|host| format!("https://{host}").parse().unwrap()),
                    expires_at: stored.expires,
                    ..self.sealer.secret(owner.unwrap_or(""), name, stored.text().as_bytes(), revision)
                })
            }
        };
        self.content(&frame, now);
    }

    fn commit_to_come(&self) -> u64 {
        let revision = |todo: &Todo| match todo {
            Todo::Commit(revision) => Some(*revision),
            _ => None,
        };
        self.todo.iter().find_map(revision).unwrap()
    }

    fn content(&mut self, frame: &Frame, now: Monotonic) {
        self.say(frame, Meaning::Content, now);
    }

    fn say(&mut self, frame: &Frame, meaning: Meaning, now: Monotonic) {
        let bytes = (serde_json::to_string(frame).unwrap() + "\n").into();
        self.said_at = now;
        self.lines.push_back(Line { bytes, meaning, sent_at: now });
    }
}

fn document(name: &str, agent: &Agent) -> AgentDocument {
    AgentDocument {
        agent: name.parse().unwrap(),
        unix_user: agent.user.parse().unwrap(),
        selectors: Selectors { gid: agent.gid, unit: agent.unit.map(str::to_owned), cgroup: None },
        state: agent.state,
        reason: None,
    }
}
