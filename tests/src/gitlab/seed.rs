//! What a test puts into the instance.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::accounts::no_reply;
use super::model::{
    Group, Member, Project, Source, State, Token, TokenKind, User, UserKind, UserState, Visibility,
};
use super::value::generate;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Seed {
    settings: Value,
    users: Vec<SeedUser>,
    groups: Vec<SeedGroup>,
    projects: Vec<SeedProject>,
    members: Vec<SeedMember>,
    tokens: Vec<SeedToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedUser {
    id: Option<u64>,
    username: String,
    name: Option<String>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    admin: bool,
    /// Defaults to what such a user is.
    external: Option<bool>,
    #[serde(default)]
    service_account: bool,
    /// The path of a group or project.
    provisioned_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedGroup {
    id: Option<u64>,
    /// The full path; the group above has to be there.
    path: String,
    name: Option<String>,
    #[serde(default)]
    visibility: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedProject {
    id: Option<u64>,
    path: String,
    #[serde(default)]
    visibility: String,
    #[serde(default)]
    moved_from: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedMember {
    /// The path of a group or project.
    of: String,
    user: String,
    access_level: u64,
    expires_at: Option<Date>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedToken {
    user: String,
    #[serde(default)]
    name: String,
    scopes: Vec<String>,
    value: Option<String>,
    expires_at: Option<Date>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    kind: String,
}

impl State {
    /// Adds all of it and says what it became.
    pub(super) fn seed(&mut self, seed: &Value, now: Timestamp) -> Result<Value, String> {
        let seed: Seed = serde_json::from_value(seed.clone()).map_err(|error| error.to_string())?;
        self.change_settings(&seed.settings)?;
        let mut groups = Map::new();
        for group in seed.groups {
            groups.insert(group.path.clone(), json!(self.seed_group(group, now)?));
        }
        let mut projects = Map::new();
        for project in seed.projects {
            projects.insert(project.path.clone(), json!(self.seed_project(project, now)?));
        }
        let mut users = Map::new();
        for user in seed.users {
            users.insert(user.username.clone(), json!(self.seed_user(user, now)?));
        }
        for member in seed.members {
            self.seed_member(&member, now)?;
        }
        let mut tokens = Vec::new();
        for token in seed.tokens {
            tokens.push(self.seed_token(token, now)?);
        }
        Ok(json!({"users": users, "groups": groups, "projects": projects, "tokens": tokens}))
    }

    /// Changes the settings that are named.
    pub(super) fn change_settings(&mut self, changes: &Value) -> Result<(), String> {
        let Some(changes) = changes.as_object() else { return Ok(()) };
        let mut settings = serde_json::to_value(&self.settings).map_err(|error| error.to_string())?;
        for (name, value) in changes {
            settings[name] = value.clone();
        }
        self.settings = serde_json::from_value(settings).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn seed_user(&mut self, seed: SeedUser, now: Timestamp) -> Result<u64, String> {
        let source = seed.provisioned_by.map(|path| self.source_at(&path)).transpose()?;
        let id = self.claim_id(seed.id);
        let kind =
            if seed.service_account { UserKind::ServiceAccount(source) } else { UserKind::Human(source) };
        let user = User {
            id,
            name: seed.name.unwrap_or_else(|| seed.username.clone()),
            email: no_reply(&seed.username, "example.com"),
            username: seed.username,
            kind,
            state: user_state(&seed.state)?,
            admin: seed.admin,
            external: seed.external.unwrap_or(seed.service_account),
            created_at: now,
            deleted_from: None,
        };
        self.users.insert(id, user);
        Ok(id)
    }

    fn seed_group(&mut self, seed: SeedGroup, now: Timestamp) -> Result<u64, String> {
        let (parent, path) = self.split(&seed.path)?;
        let id = self.claim_id(seed.id);
        let group = Group {
            id,
            name: seed.name.unwrap_or_else(|| path.clone()),
            path,
            full_path: seed.path,
            parent,
            visibility: visibility(&seed.visibility)?,
            created_at: now,
        };
        self.groups.insert(id, group);
        Ok(id)
    }

    fn seed_project(&mut self, seed: SeedProject, now: Timestamp) -> Result<u64, String> {
        let (group, path) = self.split(&seed.path)?;
        let id = self.claim_id(seed.id);
        let project = Project {
            id,
            path,
            full_path: seed.path,
            group,
            visibility: visibility(&seed.visibility)?,
            moved_from: seed.moved_from,
            created_at: now,
        };
        self.projects.insert(id, project);
        Ok(id)
    }

    fn seed_member(&mut self, seed: &SeedMember, now: Timestamp) -> Result<(), String> {
        let source = self.source_at(&seed.of)?;
        let user_id = self.user_at(&seed.user)?;
        self.members.push(Member {
            source,
            user_id,
            access_level: seed.access_level,
            expires_at: seed.expires_at,
            created_at: now,
        });
        Ok(())
    }

    /// As told, also where GitLab would not create such a one.
    fn seed_token(&mut self, seed: SeedToken, now: Timestamp) -> Result<Value, String> {
        let user_id = self.user_at(&seed.user)?;
        let made = || generate(self.settings.token_format, &self.settings.token_prefix, user_id);
        let value = seed.value.unwrap_or_else(made);
        let kind = match seed.kind.as_str() {
            "" | "personal" => TokenKind::Personal,
            "impersonation" => TokenKind::Impersonation,
            "oauth" => TokenKind::OAuth,
            "deploy" => TokenKind::Deploy,
            other => return Err(format!("{other:?} is no kind of token")),
        };
        let token = Token {
            id: self.next_id(),
            kind,
            user_id,
            name: seed.name,
            description: None,
            scopes: seed.scopes,
            value,
            created_at: now,
            expires_at: seed.expires_at,
            revoked_at: seed.revoked.then_some(now),
            last_used_at: None,
            previous: None,
        };
        let json = json!({"id": token.id, "value": token.value, "fingerprint": token.fingerprint()});
        self.add_token(token);
        Ok(json)
    }

    /// The group or project at a full path.
    pub(super) fn source_at(&self, path: &str) -> Result<Source, String> {
        let group = self.group(path).map(|group| Source::Group(group.id));
        let project = || self.project(path).map(|project| Source::Project(project.id));
        group.or_else(project).ok_or_else(|| format!("there is no group or project {path:?}"))
    }

    pub(super) fn user_at(&self, name: &str) -> Result<u64, String> {
        self.user_named(name).map(|user| user.id).ok_or_else(|| format!("there is no user {name:?}"))
    }

    fn split(&self, path: &str) -> Result<(Option<u64>, String), String> {
        let Some((above, last)) = path.rsplit_once('/') else { return Ok((None, path.to_owned())) };
        let group = self.group(above).ok_or_else(|| format!("there is no group {above:?}"))?;
        Ok((Some(group.id), last.to_owned()))
    }
}

pub(super) fn user_state(text: &str) -> Result<UserState, String> {
    match text {
        "" | "active" => Ok(UserState::Active),
        "blocked" => Ok(UserState::Blocked),
        "pending" => Ok(UserState::Pending),
        other => Err(format!("{other:?} is no state of a user")),
    }
}

fn visibility(text: &str) -> Result<Visibility, String> {
    match text {
        "" | "private" => Ok(Visibility::Private),
        "internal" => Ok(Visibility::Internal),
        "public" => Ok(Visibility::Public),
        other => Err(format!("{other:?} is no visibility")),
    }
}
