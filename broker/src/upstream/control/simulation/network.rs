//! What happens between the control plane and the broker, and to both of them.

use super::*;

/// What is asked for while the rules change.
const CRITICAL: [Question; 5] = [
    Question::Secret("KEY"),
    Question::Secret("OTHER"),
    Question::Credential("gitlab"),
    Question::Credential("github"),
    Question::Secrets,
];

impl Simulation<'_> {
    pub(super) fn operate(&mut self) {
        if self.plane.deleted {
            return;
        }
        self.values += 1;
        let (number, now) = (self.values, self.wall());
        let (dice, replica) = (&mut self.dice, self.values % 2);
        let replica = usize::try_from(replica).unwrap();
        let target = self.plane.operate(replica, number, |state| operate(dice, state, number, now));
        self.owners.insert(number, target);
        self.trace.note(format!("revision {}: {target:?}, value {number}", self.plane.database.revision()));
    }

    /// The control plane writes a few lines.
    pub(super) fn pump(&mut self) {
        for _ in 0..=self.dice.below(6) {
            if self.plane.feeds.is_empty() {
                return;
            }
            let index = self.dice.below(self.plane.feeds.len());
            if !self.plane.pump(index, self.now) {
                self.trace.note("a stream ends: its changes are forgotten".to_owned());
                self.end_feed(index);
                return;
            }
            self.collect();
        }
    }

    /// What was written is on its way, whatever becomes of the control plane.
    pub(super) fn collect(&mut self) {
        let Some(session) = &self.session else { return };
        if let Some(feed) = self.plane.feed(session) {
            self.lines.append(&mut feed.lines);
        }
    }

    pub(super) fn end_feed(&mut self, index: usize) {
        let feed = self.plane.feeds.remove(index);
        if self.session.as_ref() == Some(&feed.session) && self.dice.percent(50) {
            self.disconnect();
        }
    }

    pub(super) fn lose_feed(&mut self) {
        if !self.plane.feeds.is_empty() {
            let index = self.dice.below(self.plane.feeds.len());
            self.end_feed(index);
        }
    }

    pub(super) fn connect(&mut self) {
        if self.session.is_some() {
            return;
        }
        let revision = self.broker.worker.revision();
        let session = self.broker.connect();
        let replica = self.dice.below(2);
        if self.plane.open(&session, revision, self.max_stale, replica, self.now) {
            self.trace.note(format!("connected to replica {replica}, from {revision:?}"));
            self.session = Some(session);
        } else {
            self.broker.link = None;
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.broker.link = None;
        self.session = None;
        self.lines.clear();
        (self.open, self.committed) = (0, false);
        self.acks.truncate(1);
    }

    pub(super) fn deliver_some(&mut self) -> Result<(), String> {
        for _ in 0..=self.dice.below(8) {
            let Some(line) = self.lines.pop_front() else { return Ok(()) };
            self.deliver(line)?;
        }
        Ok(())
    }

    /// One line arrives at the broker.
    pub(super) fn deliver(&mut self, line: Line) -> Result<(), String> {
        drop(self.broker.host.moments());
        self.broker.host.moments();
        let before = self.broker.host.moments();
        let outcome = match self.broker.receive(line.bytes) {
            Ok(outcome) => outcome,
            Err(why) => {
                self.trace.note(format!("the broker hangs up: {why}"));
                self.tally.refused_streams += 1;
                self.disconnect();
                return expect(self.went_back, || format!("a good stream was refused: {why}"));
            }
        };
        let moments: Vec<_> = before.into_iter().chain(self.broker.host.moments()).collect();
        let old = self.known.clone();
        match (line.meaning, outcome) {
            (Meaning::Hello, None) => {}
            (Meaning::Content, Some(worker::Outcome::More)) => self.open += 1,
            (Meaning::Commit(told), Some(worker::Outcome::Committed)) => {
                self.trace.note(format!("the broker takes commit {} (read at {})", told.revision, told.read));
                (self.open, self.committed) = (0, true);
                self.tally.commits += 1;
                let known = Known::after(self.known.as_ref(), &told, self.now);
                let back = self.known.as_ref().is_some_and(|known| known.revision > told.revision);
                expect(!back, || format!("the broker went back to {}", told.revision))?;
                let is_new = self.known.as_ref().is_none_or(|known| known.revision < told.revision);
                let amid = moments.split_last().map_or(&[][..], |(_, amid)| amid);
                let early = is_new && amid.iter().any(|moment| moment.acked == Some(told.revision));
                expect(!early, || format!("{} is confirmed before it is in force", told.revision))?;
                self.known = Some(known);
            }
            (Meaning::Heartbeat, Some(worker::Outcome::Confirmed)) if self.committed && self.open == 0 => {
                self.known.as_mut().unwrap().confirmed = self.now;
            }
            (_, outcome) => return Err(format!("a line came to {outcome:?}")),
        }
        // With rules narrowed and enforced there are more than the first and the last.
        if moments.len() > 4 {
            self.tally.changes_of_rules += 1;
            for caller in &CALLERS {
                let question = self.dice.pick(&CRITICAL);
                let asked = self.broker.ask_amid(&mut self.dice, &moments, caller, question);
                self.asked(caller, question, asked, Some(old.as_ref()))?;
            }
        }
        for _ in 0..self.dice.below(3) {
            let (caller, question) = self.question();
            let asked = self.broker.ask_amid(&mut self.dice, &moments, caller, question);
            self.asked(caller, question, asked, Some(old.as_ref()))?;
        }
        drop(moments);
        self.poll_waiting(Some(old.as_ref()))
    }

    /// The connection is cut, maybe in the middle of a line.
    pub(super) fn cut(&mut self) -> Result<(), String> {
        if self.session.is_none() {
            return Ok(());
        }
        if let Some(line) = self.lines.pop_front() {
            let length = self.dice.below(line.bytes.len());
            let outcome = self.broker.receive(line.bytes.slice(..length));
            expect(outcome == Ok(None), || format!("a part of a line came to {outcome:?}"))?;
        }
        let session = self.session.clone();
        self.disconnect();
        self.trace.note("cut".to_owned());
        // The control plane may not know yet.
        if self.dice.percent(60) {
            self.plane.feeds.retain(|feed| Some(&feed.session) != session.as_ref());
        }
        Ok(())
    }

    /// Nothing is in the way for a while.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.connect();
        for _ in 0..3 {
            for replica in 0..2 {
                self.plane.notice(replica);
            }
            for _ in 0..200 {
                let Some(session) = &self.session else { return Ok(()) };
                let Some(index) = self.plane.feeds.iter().position(|feed| feed.session == *session) else {
                    self.disconnect();
                    return Ok(());
                };
                if !self.plane.pump(index, self.now) {
                    self.disconnect();
                    return Ok(());
                }
                self.collect();
                self.deliver_some()?;
            }
        }
        while let Some(line) = self.lines.pop_front() {
            self.deliver(line)?;
        }
        Ok(())
    }

    pub(super) fn send_ack(&mut self) {
        if let Some(revision) = self.broker.ack() {
            let session = self.session.clone().unwrap_or_default();
            self.trace.note(format!("the broker confirms {revision}"));
            self.acks.push_back((session, revision));
        }
    }

    pub(super) fn take_ack(&mut self) {
        if let Some((session, revision)) = self.acks.pop_front() {
            self.plane.ack(&session, revision, self.now);
        }
    }

    /// Time passes: mostly a moment, at times longer than anything lasts.
    pub(super) fn sleep(&mut self) -> Result<(), String> {
        let whole = self.max_stale.as_millis();
        let whole = u64::try_from(whole).unwrap();
        let milliseconds = match self.dice.below(20) {
            0 => self.dice.between(0..2 * whole + 60_000),
            1 => self.dice.between(0..whole + 2),
            2 => whole + self.dice.between(0..3),
            _ => self.dice.between(0..whole / 8),
        };
        self.pass(Duration::from_millis(milliseconds));
        self.trace.note(format!("{milliseconds} ms pass"));
        self.wake_waiting()?;
        // What has been on its way for too long is lost with its connection.
        let late = |line: &Line| self.now.since(line.sent_at) > ON_THE_WAY;
        if self.lines.front().is_some_and(late) || self.broker.is_left_alone() {
            self.disconnect();
        }
        if milliseconds > 60_000 {
            self.broker.look_up_users();
        }
        self.poll_waiting(None)
    }

    pub(super) fn rare(&mut self) {
        match self.dice.below(16) {
            0..2 => self.backup = Some(self.plane.backup()),
            2..4 => {
                self.trace.note("the control plane restarts".to_owned());
                self.plane.restart(None, self.now);
                self.acks.clear();
            }
            4..6 => {
                let Some(backup) = self.backup.take() else { return };
                self.trace.note(format!("the database goes back to {}", backup.database.revision()));
                self.plane.restart(Some(backup), self.now);
                // Streams end with the process that wrote them.
                self.disconnect();
                self.acks.clear();
                self.went_back = true;
                let revision = self.plane.database.revision();
                if let Some(known) = &mut self.known {
                    known.put_back(revision);
                }
            }
            6..10 => self.plane.database.pruned = self.plane.database.revision(),
            10..13 => make_late_user(true),
            13..15 => self.restart_broker(),
            _ => {
                if self.dice.percent(20) {
                    self.trace.note("the enclave is deleted".to_owned());
                    self.plane.deleted = true;
                    self.plane.restart(Some(self.plane.backup()), self.now);
                }
            }
        }
    }

    pub(super) fn restart_broker(&mut self) {
        self.trace.note("the broker restarts".to_owned());
        self.disconnect();
        self.acks.clear();
        (self.waiting, self.known, self.newest) = (Vec::new(), None, BTreeMap::new());
        self.broker = Broker::new(self.machine, self.max_stale, self.pace.per_second);
    }
}
