//! One call of the API, as a handler sees it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::answer::Answer;
use super::auth::Caller;
use super::model::{Group, Project, Source, State, Token, User};
use super::params::Params;

pub(super) struct Call<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    pub(super) caller: Option<Caller>,
    /// What the placeholders of the route stand for.
    pub(super) names: BTreeMap<&'static str, String>,
    pub(super) params: Params,
    /// Where the instance is, such as `https://127.0.0.1:4443/gitlab`.
    pub(super) instance: String,
    pub(super) method: &'a str,
    /// The path as it was asked for, below the instance.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl Call<'_> {
    /// Whoever calls an endpoint that needs somebody.
    pub(super) fn caller(&self) -> Result<Caller, Answer> {
        self.caller.ok_or_else(Answer::unauthorized)
    }

    pub(super) fn user(&self) -> Result<User, Answer> {
        let caller = self.caller()?;
        self.state.users.get(&caller.user_id).cloned().ok_or_else(Answer::unauthorized)
    }

    pub(super) fn token(&self) -> Result<Token, Answer> {
        let caller = self.caller()?;
        self.state.tokens.get(&caller.token_id).cloned().ok_or_else(Answer::unauthorized)
    }

    pub(super) fn name(&self, name: &str) -> &str {
        self.names.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn host(&self) -> String {
        let host = self.instance.split("://").nth(1).unwrap_or_default();
        host.split(['/', ':']).next().unwrap_or_default().to_owned()
    }

    /// The group of the path, if the caller may know of it.
    pub(super) fn group(&self) -> Result<Group, Answer> {
        let group = self.state.group(self.name("id"));
        let group = group.filter(|group| self.state.can_read_group(group, self.caller, self.now));
        group.cloned().ok_or_else(|| Answer::not_found("Group"))
    }

    /// The project of the path, if the caller may know of it; redirects where it moved.
    pub(super) fn project(&self) -> Result<Project, Answer> {
        let id = self.name("id");
        let readable = |project: &&Project| self.state.can_read_project(project, self.caller, self.now);
        if let Some(project) = self.state.project(id).filter(readable) {
            return Ok(project.clone());
        }
        let moved = self.state.moved_project(id).filter(readable);
        Err(moved.map_or_else(|| Answer::not_found("Project"), |project| self.moved(project)))
    }

    fn moved(&self, project: &Project) -> Answer {
        if self.method != "GET" {
            return Answer::message(405, "Non GET methods are not allowed for moved projects");
        }
        let rest = self.path.split('/').skip(5).fold(String::new(), |rest, segment| rest + "/" + segment);
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let location = format!("{}/api/v4/projects/{}{rest}{query}", self.instance, project.id);
        let body = "This resource has been moved permanently to the address in Location";
        Answer::text(301, body).header("Location", &location)
    }

    /// The group or project of the path, by the route's first word.
    pub(super) fn source(&self) -> Result<Source, Answer> {
        if self.path.starts_with("/api/v4/projects/") {
            return self.project().map(|project| Source::Project(project.id));
        }
        self.group().map(|group| Source::Group(group.id))
    }

    /// The caller's level in a group or project.
    pub(super) fn level(&self, source: Source) -> Result<u64, Answer> {
        Ok(self.state.level_of(source, self.caller()?, self.now))
    }

    /// Fails with 403 below a level.
    pub(super) fn require(&self, source: Source, level: u64) -> Result<(), Answer> {
        if self.level(source)? >= level { Ok(()) } else { Err(Answer::forbidden()) }
    }
}
