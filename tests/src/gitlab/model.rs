//! What the instance holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::clock::{Clock, day, midnight};
use super::fault::Faults;
use super::journal::Journal;
use super::limit::Limits;
use super::settings::Settings;

/// Bots of project and group tokens go this long after their last token.
const BOT_RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Everything.
#[derive(Default)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) users: BTreeMap<u64, User>,
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) projects: BTreeMap<u64, Project>,
    pub(super) members: Vec<Member>,
    pub(super) tokens: BTreeMap<u64, Token>,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) limits: Limits,
    /// Every value that was ever issued, with the number that its token has or had.
    pub(super) issued: BTreeMap<String, u64>,
    newest: u64,
    /// The second in which idle bots were last looked for.
    bots_seen_at: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) kind: UserKind,
    pub(super) state: UserState,
    pub(super) admin: bool,
    pub(super) external: bool,
    pub(super) created_at: Timestamp,
    /// When the row goes.
    pub(super) deleted_from: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserKind {
    /// A person, who may have been provisioned by a group.
    Human(Option<Source>),
    /// A service account of a group, of a project, or of the instance.
    ServiceAccount(Option<Source>),
    /// The identity behind a project's or a group's access token.
    Bot(Source),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserState {
    Active,
    Blocked,
    Pending,
}

/// What members belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Group(u64),
    Project(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Private,
    Internal,
    Public,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) full_path: String,
    pub(super) name: String,
    pub(super) parent: Option<u64>,
    pub(super) visibility: Visibility,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) full_path: String,
    pub(super) group: Option<u64>,
    pub(super) visibility: Visibility,
    /// Full paths that it had.
    pub(super) moved_from: Vec<String>,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) source: Source,
    pub(super) user_id: u64,
    pub(super) access_level: u64,
    pub(super) expires_at: Option<Date>,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) kind: TokenKind,
    pub(super) user_id: u64,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) value: String,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Date>,
    pub(super) revoked_at: Option<Timestamp>,
    pub(super) last_used_at: Option<Timestamp>,
    /// `previous_personal_access_token_id`
    pub(super) previous: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Personal, and those of projects, groups and service accounts.
    Personal,
    Impersonation,
    OAuth,
    Deploy,
}

impl Token {
    /// A date compares as its midnight, so the day itself is no usable day.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|date| midnight(date) <= now)
    }

    /// Whether it is in the table that `/personal_access_tokens` shows.
    pub(super) fn is_personal(&self) -> bool {
        matches!(self.kind, TokenKind::Personal | TokenKind::Impersonation)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked_at.is_some()
    }

    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        !self.is_revoked() && !self.is_expired(now)
    }

    /// When it stopped working, if it did.
    fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        let expired = self.expires_at.filter(|_| self.is_expired(now)).map(midnight);
        [self.revoked_at, expired].into_iter().flatten().min()
    }
}

impl Member {
    pub(super) fn counts(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|date| date > day(now))
    }
}

impl User {
    /// The group or project that made it.
    pub(super) fn provisioned_by(&self) -> Option<Source> {
        match self.kind {
            UserKind::Human(source) | UserKind::ServiceAccount(source) => source,
            UserKind::Bot(_) => None,
        }
    }

    pub(super) fn is_human(&self) -> bool {
        matches!(self.kind, UserKind::Human(_))
    }

    pub(super) fn is_service_account(&self) -> bool {
        matches!(self.kind, UserKind::ServiceAccount(_))
    }
}

impl State {
    /// A number that no row had.
    pub(super) fn next_id(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Takes a number that somebody chose.
    pub(super) fn claim_id(&mut self, id: Option<u64>) -> u64 {
        let Some(id) = id else { return self.next_id() };
        self.newest = self.newest.max(id);
        id
    }

    /// Does what background jobs have done by now.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let due = |user: &&User| user.deleted_from.is_some_and(|at| at <= now);
        let mut gone: Vec<u64> = self.users.values().filter(due).map(|user| user.id).collect();
        if self.bots_seen_at != Some(now.as_second()) {
            self.bots_seen_at = Some(now.as_second());
            gone.extend(self.idle_bots(now));
        }
        gone.into_iter().for_each(|id| self.remove_user(id));
    }

    /// Bots of which every token ended long ago.
    fn idle_bots(&self, now: Timestamp) -> Vec<u64> {
        let needed: BTreeSet<u64> = self
            .tokens
            .values()
            .filter(|token| token.ended(now).is_none_or(|end| end + BOT_RETENTION > now))
            .map(|token| token.user_id)
            .collect();
        let idle = |user: &&User| matches!(user.kind, UserKind::Bot(_)) && !needed.contains(&user.id);
        self.users.values().filter(idle).map(|user| user.id).collect()
    }

    pub(super) fn add_token(&mut self, token: Token) {
        self.issued.insert(token.value.clone(), token.id);
        self.tokens.insert(token.id, token);
    }

    /// Removes a user with all that goes with the row.
    pub(super) fn remove_user(&mut self, id: u64) {
        self.users.remove(&id);
        self.members.retain(|member| member.user_id != id);
        self.tokens.retain(|_, token| token.user_id != id);
    }

    pub(super) fn user_named(&self, username: &str) -> Option<&User> {
        self.users.values().find(|user| user.username.eq_ignore_ascii_case(username))
    }

    /// By number or full path, as `:id` in paths.
    pub(super) fn group(&self, id: &str) -> Option<&Group> {
        match id.parse() {
            Ok(id) => self.groups.get(&id),
            Err(_) => self.groups.values().find(|group| group.full_path.eq_ignore_ascii_case(id)),
        }
    }

    /// By number or full path, as `:id` in paths.
    pub(super) fn project(&self, id: &str) -> Option<&Project> {
        match id.parse() {
            Ok(id) => self.projects.get(&id),
            Err(_) => self.projects.values().find(|project| project.full_path.eq_ignore_ascii_case(id)),
        }
    }

    /// The project that once had a full path.
    pub(super) fn moved_project(&self, path: &str) -> Option<&Project> {
        let was_there = |was: &String| was.eq_ignore_ascii_case(path);
        self.projects.values().find(|project| project.moved_from.iter().any(was_there))
    }

    /// Whether a group or a project has this full path.
    pub(super) fn is_namespace(&self, path: &str) -> bool {
        let groups = self.groups.values().map(|group| &group.full_path);
        groups
            .chain(self.projects.values().map(|project| &project.full_path))
            .any(|p| p.eq_ignore_ascii_case(path))
    }

    pub(super) fn token_of_value(&self, value: &str) -> Option<&Token> {
        self.tokens.get(self.issued.get(value)?)
    }

    pub(super) fn tokens_of(&self, user_id: u64) -> impl Iterator<Item = &Token> {
        self.tokens.values().filter(move |token| token.user_id == user_id)
    }

    pub(super) fn direct_member(&self, source: Source, user_id: u64, now: Timestamp) -> Option<&Member> {
        self.members.iter().find(|m| m.source == source && m.user_id == user_id && m.counts(now))
    }
}
