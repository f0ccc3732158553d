//! git over HTTP: who may, and then `git http-backend`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use jiff::Timestamp;

use super::access::{DEVELOPER, REPORTER};
use super::answer::{Answer, Reply};
use super::model::{Project, Source, State, Token, TokenKind, User, UserState, Visibility};
use super::text::decoded;
use super::web::{Arrival, Instance};
use crate::git::{Request, initialise, reply};

const DENIED: &str = "HTTP Basic: Access denied. If a password was provided for Git authentication, the \
     password was incorrect or you're required to use a token instead of a password. If a token was provided, it \
     was either incorrect, expired, or improperly scoped. See \
     https://gitlab.example.com/help/topics/git/troubleshooting_git.md#error-on-git-fetch-http-basic-access-denied\n";

const NO_PROJECT: &str =
    "The project you were looking for could not be found or you don't have permission to view it.\n";

/// What a request of git is about.
pub(super) struct Wanted {
    project: String,
    /// Below the repository.
    rest: &'static str,
    push: bool,
}

impl Wanted {
    pub(super) fn parse(path: &str, request: &Request) -> Option<Self> {
        let (project, rest) = path.strip_prefix('/')?.split_once(".git/")?;
        let rest = ["info/refs", "git-upload-pack", "git-receive-pack"].into_iter().find(|w| *w == rest)?;
        let push = rest == "git-receive-pack" || request.query.contains("service=git-receive-pack");
        Some(Self { project: decoded(project), rest, push })
    }
}

pub(super) fn serve(instance: &Instance, wanted: &Wanted, arrival: &Arrival) -> Reply {
    let project = {
        let (mut state, now) = instance.lock();
        state.admit(wanted, &arrival.request, arrival.peer, now)?
    };
    let repository = format!("/{}.git", project.full_path);
    make_repository(instance.repositories.join(repository.trim_start_matches('/')), instance);
    let path = format!("{repository}/{}", wanted.rest);
    let reply = reply(&arrival.request, &path, &instance.repositories);
    let reply = reply.map_err(|error| Answer::text(503, &error.to_string()))?;
    let status = reply.status.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(500);
    Ok(Answer { status, headers: reply.headers, body: reply.body })
}

/// Repositories are made when git first asks for them.
fn make_repository(path: PathBuf, instance: &Instance) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().expect("making a repository works");
    if !path.exists() {
        initialise(&path, &instance.repositories);
    }
}

impl State {
    fn admit(
        &mut self,
        wanted: &Wanted,
        request: &Request,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Project, Answer> {
        if self.limits.is_banned(peer, now) {
            return Err(Answer::empty(403));
        }
        let project = self.project_at(&wanted.project);
        let Some((login, password)) = request.basic() else {
            let open = project.filter(|project| project.visibility == Visibility::Public && !wanted.push);
            return open.ok_or_else(denied);
        };
        let judged = self.judge(&login, &password, project.as_ref(), now);
        let Some((token, user)) = judged else {
            self.limits.git_failed(peer, &self.settings, now);
            return Err(denied());
        };
        self.limits.git_succeeded(peer);
        self.touch(token.id, now);
        let caller = Some(self.caller_of(&token));
        let project = project.filter(|project| self.can_read_project(project, caller, now));
        let project = project.ok_or_else(|| Answer::text(404, NO_PROJECT))?;
        self.check_abilities(wanted.push, &token, &user, &project, now)?;
        Ok(project)
    }

    /// By its path alone: a number is a name here.
    fn project_at(&self, path: &str) -> Option<Project> {
        self.projects.values().find(|project| project.full_path.eq_ignore_ascii_case(path)).cloned()
    }

    /// The token is the password and the name does not matter, but for deploy tokens. Whatever is wrong with
    /// it, nobody learns what. A service account or bot that cannot see the project is nobody.
    fn judge(
        &self,
        login: &str,
        password: &str,
        project: Option<&Project>,
        now: Timestamp,
    ) -> Option<(Token, User)> {
        let token = self.token_of_value(password).filter(|token| token.is_active(now))?;
        let named = token.kind != TokenKind::Deploy || token.name == login;
        let user = self.users.get(&token.user_id).filter(|user| user.state == UserState::Active)?;
        let caller = Some(self.caller_of(token));
        let sees = project.is_some_and(|project| self.can_read_project(project, caller, now));
        let known = named && !login.trim().is_empty() && (user.is_human() || sees);
        known.then(|| (token.clone(), user.clone()))
    }

    fn check_abilities(
        &self,
        push: bool,
        token: &Token,
        user: &User,
        project: &Project,
        now: Timestamp,
    ) -> Result<(), Answer> {
        let has = |scopes: &[&str]| token.scopes.iter().any(|scope| scopes.contains(&scope.as_str()));
        let refused = |text: &str| Err(Answer::text(403, text));
        if push && !has(&["api", "write_repository"]) {
            return refused("You are not allowed to upload code.");
        }
        if !has(&["api", "read_api", "read_repository", "write_repository"]) {
            return refused("You are not allowed to download code.");
        }
        let level = self.level_of(Source::Project(project.id), self.caller_of(token), now);
        if push && level < DEVELOPER {
            return refused("You are not allowed to push code to this project.");
        }
        let open = project.visibility == Visibility::Public
            || (project.visibility == Visibility::Internal && !user.external);
        if !open && level < REPORTER {
            return refused("You are not allowed to download code from this project.");
        }
        Ok(())
    }
}

fn denied() -> Answer {
    Answer::text(401, DENIED).header("WWW-Authenticate", "Basic realm=\"GitLab\"")
}
