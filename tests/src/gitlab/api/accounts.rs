//! Service accounts of groups, projects and the instance.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::users::{id, schedule_deletion};
use crate::gitlab::access::{MAINTAINER, OWNER};
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::model::{Source, State, User, UserKind, UserState};
use crate::gitlab::page;
use crate::leak::random_bytes;

pub(in crate::gitlab) mod tokens;

pub(in crate::gitlab) fn create(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    count(call)?;
    if !may_create(call, source)? {
        let what = if matches!(source, Source::Group(_)) { "group" } else { "project" };
        return Err(Answer::bad_request(format!(
            "User does not have permission to create a service account in this {what}."
        )));
    }
    insert(call, Some(source))
}

pub(in crate::gitlab) fn create_for_instance(call: &mut Call<'_>) -> Reply {
    if !call.caller()?.admin {
        return Err(Answer::forbidden());
    }
    count(call)?;
    insert(call, None)
}

fn count(call: &mut Call<'_>) -> Result<(), Answer> {
    let user_id = call.caller()?.user_id;
    call.state.limits.service_account(user_id, &call.state.settings, call.now)
}

fn insert(call: &mut Call<'_>, source: Option<Source>) -> Reply {
    if !call.state.has_room(source) {
        return Err(Answer::bad_request(
            "This namespace either does not have an active subscription that can create service accounts, or \
             the subscription has reached its service account creation limit.",
        ));
    }
    let username = call.params.present("username").unwrap_or_else(|| generated_name(source));
    let email = call.params.present("email").unwrap_or_else(|| no_reply(&username, &call.host()));
    let problems = call.state.naming_problems(&username, &email, None);
    if !problems.is_empty() {
        return Err(Answer::bad_request(problems.join(" and ")));
    }
    let name = call.params.present("name").unwrap_or_else(|| "Service account user".into());
    let user = call.state.insert_account(source, username, name, email, call.now);
    Ok(Answer::json(201, &view(&user)))
}

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    listed(call, Some(source))
}

pub(in crate::gitlab) fn list_of_instance(call: &mut Call<'_>) -> Reply {
    if !call.caller()?.admin {
        return Err(Answer::forbidden());
    }
    listed(call, None)
}

fn listed(call: &Call<'_>, source: Option<Source>) -> Reply {
    let mut check = call.params.check();
    let order = check.word("order_by", &["id", "username"]);
    let sort = check.word("sort", &["desc", "asc"]);
    check.finish()?;
    let ours = |user: &&User| user.kind == UserKind::ServiceAccount(source);
    let mut users: Vec<&User> = call.state.users.values().filter(ours).collect();
    if order == "username" {
        users.sort_by(|one, other| one.username.cmp(&other.username));
    }
    if sort == "desc" {
        users.reverse();
    }
    page::keyset_or_offset(call, users.into_iter().map(view).collect())
}

pub(in crate::gitlab) fn update(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    let user = provisioned(call, source)?;
    let username = call.params.present("username").unwrap_or_else(|| user.username.clone());
    let email = call.params.present("email").unwrap_or_else(|| user.email.clone());
    let problems = call.state.naming_problems(&username, &email, Some(user.id));
    if !problems.is_empty() {
        return Err(Answer::bad_request(problems.join(" and ")));
    }
    let name = call.params.present("name").unwrap_or_else(|| user.name.clone());
    let user = User { username, email, name, ..user };
    call.state.users.insert(user.id, user.clone());
    Ok(Answer::json(200, &view(&user)))
}

/// The endpoint does not look at what the deletion says: without the right to delete it is 204 all the same.
pub(in crate::gitlab) fn delete(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    let mut check = call.params.check();
    let hard = check.boolean("hard_delete").unwrap_or_default();
    check.id("user_id", call.name("user_id"));
    check.finish()?;
    let user = provisioned(call, source)?;
    if !may_create(call, source)? {
        return Ok(Answer::empty(204));
    }
    schedule_deletion(call, &user, hard)
}

/// The filters before each endpoint: somebody (401), who may know the group (404) and administer its service
/// accounts (403). Parameters are looked at later.
fn administered(call: &Call<'_>) -> Result<Source, Answer> {
    call.caller()?;
    let source = call.source()?;
    call.require(source, if matches!(source, Source::Group(_)) { OWNER } else { MAINTAINER })?;
    Ok(source)
}

/// Whether the caller's creations and deletions have an effect. A service account needs to be an owner's of
/// its top-level group.
fn may_create(call: &Call<'_>, source: Source) -> Result<bool, Answer> {
    let caller = call.caller()?;
    let user = call.user()?;
    let from_below = match user.kind {
        UserKind::ServiceAccount(Some(Source::Group(id))) => {
            call.state.groups.get(&id).is_none_or(|group| group.parent.is_some())
        }
        UserKind::ServiceAccount(Some(Source::Project(_))) | UserKind::Bot(_) => true,
        UserKind::ServiceAccount(None) | UserKind::Human(_) => false,
    };
    let allowed = call.state.settings.owners_may_create_service_accounts && !from_below;
    let level = if matches!(source, Source::Group(_)) { OWNER } else { MAINTAINER };
    Ok(caller.admin || (allowed && call.level(source)? >= level))
}

/// The service account of the path. Only those of exactly this group or project are found.
fn provisioned(call: &Call<'_>, source: Source) -> Result<User, Answer> {
    let id = id(call)?;
    let user = call.state.users.get(&id).filter(|user| user.provisioned_by() == Some(source));
    let user = user.ok_or_else(|| Answer::not_found("User"))?;
    if !user.is_service_account() {
        return Err(Answer::bad_request("User is not of type Service Account"));
    }
    Ok(user.clone())
}

fn view(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "email": user.email,
        "public_email": null,
    })
}

fn generated_name(source: Option<Source>) -> String {
    let random: String = random_bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
    match source {
        Some(Source::Group(id)) => format!("service_account_group_{id}_{random}"),
        Some(Source::Project(id)) => format!("service_account_project_{id}_{random}"),
        None => format!("service_account_{random}"),
    }
}

pub(in crate::gitlab) fn no_reply(username: &str, host: &str) -> String {
    format!("{username}@noreply.{host}")
}

impl State {
    /// Adds a service account, which has access to nothing.
    pub(in crate::gitlab) fn insert_account(
        &mut self,
        source: Option<Source>,
        username: String,
        name: String,
        email: String,
        now: Timestamp,
    ) -> User {
        let user = User {
            id: self.next_id(),
            username,
            name,
            email,
            kind: UserKind::ServiceAccount(source),
            state: UserState::Active,
            admin: false,
            external: true,
            created_at: now,
            deleted_from: None,
        };
        self.users.insert(user.id, user.clone());
        user
    }

    /// Whether the cap leaves room: counted over the whole hierarchy, or over the instance.
    fn has_room(&self, source: Option<Source>) -> bool {
        let Some(cap) = self.settings.service_account_cap else { return true };
        let root = source.map(|source| self.root(source));
        let counts = |user: &&User| {
            let UserKind::ServiceAccount(of) = user.kind else { return false };
            self.settings.cap_per_instance || of.map(|source| self.root(source)) == root
        };
        self.users.values().filter(counts).count() < cap
    }

    /// Sentences about a username and an address: they are unique, names also against namespaces.
    fn naming_problems(&self, username: &str, email: &str, own: Option<u64>) -> Vec<&'static str> {
        let mut others = self.users.values().filter(|user| Some(user.id) != own);
        let mut problems = Vec::new();
        if others.any(|user| user.email.eq_ignore_ascii_case(email)) {
            problems.push("Email has already been taken");
        }
        let taken = self.user_named(username).is_some_and(|user| Some(user.id) != own);
        if taken || self.is_namespace(username) {
            problems.push("Username has already been taken");
        }
        if !is_username(username) {
            problems.push(
                "Username can contain only letters, digits, '_', '-' and '.'. Cannot start with '-', end in \
                 '.', '.git' or '.atom'",
            );
        }
        problems
    }
}

fn is_username(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let ending = [".", ".git", ".atom"].iter().any(|ending| name.ends_with(ending));
    letters && !ending && !name.starts_with('-') && (2..=255).contains(&name.len())
}
