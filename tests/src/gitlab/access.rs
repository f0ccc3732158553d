//! Who can see what, and at which level.

use jiff::Timestamp;

use super::auth::Caller;
use super::model::{Group, Member, Project, Source, State, User, Visibility};

pub(super) const GUEST: u64 = 10;
pub(super) const REPORTER: u64 = 20;
pub(super) const DEVELOPER: u64 = 30;
pub(super) const MAINTAINER: u64 = 40;
pub(super) const OWNER: u64 = 50;
/// An administrator's level everywhere.
pub(super) const ADMIN: u64 = 60;

pub(super) const LEVELS: [u64; 6] = [GUEST, 15, REPORTER, DEVELOPER, MAINTAINER, OWNER];

pub(super) fn level_name(level: u64) -> &'static str {
    match level {
        5 => "Minimal Access",
        GUEST => "Guest",
        15 => "Planner",
        REPORTER => "Reporter",
        DEVELOPER => "Developer",
        MAINTAINER => "Maintainer",
        OWNER => "Owner",
        _ => "No access",
    }
}

impl State {
    /// A source with everything above it, itself first.
    pub(super) fn chain(&self, source: Source) -> Vec<Source> {
        let mut chain = vec![source];
        let mut above = match source {
            Source::Project(id) => self.projects.get(&id).and_then(|project| project.group),
            Source::Group(id) => self.groups.get(&id).and_then(|group| group.parent),
        };
        while let Some(id) = above {
            chain.push(Source::Group(id));
            above = self.groups.get(&id).and_then(|group| group.parent);
        }
        chain
    }

    /// The top of the hierarchy; a project of nobody's group is its own.
    pub(super) fn root(&self, source: Source) -> Source {
        self.chain(source).pop().unwrap_or(source)
    }

    /// The membership with the highest level, direct or inherited.
    pub(super) fn highest_member(&self, source: Source, user_id: u64, now: Timestamp) -> Option<&Member> {
        let members = self.chain(source).into_iter().filter_map(|s| self.direct_member(s, user_id, now));
        members.max_by_key(|member| member.access_level)
    }

    /// The level of a user; 0 is none.
    pub(super) fn level(&self, source: Source, user_id: u64, now: Timestamp) -> u64 {
        self.highest_member(source, user_id, now).map_or(0, |member| member.access_level)
    }

    /// The level of whoever calls; administrators are above all.
    pub(super) fn level_of(&self, source: Source, caller: Caller, now: Timestamp) -> u64 {
        if caller.admin { ADMIN } else { self.level(source, caller.user_id, now) }
    }

    pub(super) fn can_read_group(&self, group: &Group, caller: Option<Caller>, now: Timestamp) -> bool {
        let source = Source::Group(group.id);
        // Whoever is in a project may know the groups that it lies in.
        let in_a_project = |user_id: u64| {
            self.members.iter().any(|member| {
                member.user_id == user_id
                    && member.counts(now)
                    && matches!(member.source, Source::Project(_))
                    && self.chain(member.source).contains(&source)
            })
        };
        self.can_see(source, group.visibility, caller, now)
            || caller.is_some_and(|caller| in_a_project(caller.user_id))
    }

    pub(super) fn can_read_project(&self, project: &Project, caller: Option<Caller>, now: Timestamp) -> bool {
        self.can_see(Source::Project(project.id), project.visibility, caller, now)
    }

    fn can_see(
        &self,
        source: Source,
        visibility: Visibility,
        caller: Option<Caller>,
        now: Timestamp,
    ) -> bool {
        if visibility == Visibility::Public {
            return true;
        }
        let Some(caller) = caller else { return false };
        let external = self.users.get(&caller.user_id).is_none_or(|user| user.external);
        (visibility == Visibility::Internal && !external) || self.level_of(source, caller, now) >= GUEST
    }

    /// Whether a group would have no owner without this user.
    pub(super) fn is_sole_owner(&self, user: &User, now: Timestamp) -> bool {
        let owners = |source: Source| {
            self.members
                .iter()
                .filter(move |m| m.source == source && m.access_level == OWNER && m.counts(now))
        };
        self.groups.keys().any(|id| {
            let source = Source::Group(*id);
            owners(source).count() == 1 && owners(source).all(|member| member.user_id == user.id)
        })
    }
}
