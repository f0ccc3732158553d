//! The second port: a test's hands on the instance.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::Answer;
use super::api::accounts::no_reply;
use super::clock::{Clock, iso};
use super::model::{State, Token, User, UserKind, UserState};
use super::seed::user_state;
use super::text::decoded;
use super::web::Instance;
use crate::git::Request;

pub(super) fn answer(instance: &Instance, request: &Request) -> Answer {
    let body = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
    let result = match (body, request.path.strip_prefix("/_sim/")) {
        (Ok(body), Some(path)) => {
            let (mut state, now) = instance.lock();
            state.administer(&request.method, path, &body, now)
        }
        (Err(error), _) => Err(error.to_string()),
        (_, None) => Err("everything is below /_sim/".into()),
    };
    match result {
        Ok(json) => Answer::json(200, &json),
        Err(why) => Answer::json(400, &json!({"error": why})),
    }
}

impl State {
    fn administer(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, String> {
        let segments: Vec<String> = path.split('/').map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (method, segments.as_slice()) {
            ("GET", ["clock"]) => {}
            ("PUT", ["clock"]) => self.set_clock(body)?,
            ("POST", ["seed"]) => return self.seed(body, now),
            ("GET", ["settings"]) => {}
            ("PATCH", ["settings"]) => self.change_settings(body)?,
            ("GET", ["state"]) => return Ok(self.dump(now)),
            ("GET", ["live"]) => return Ok(self.live(now)),
            ("PATCH", ["users", name]) => self.change_user(name, body)?,
            ("PATCH", ["tokens", id]) => self.change_token(id, body, now)?,
            ("DELETE", ["tokens", id]) => {
                let id = self.token_at(id)?;
                self.tokens.remove(&id);
            }
            ("POST", ["service_accounts"]) => self.bulk(body, now)?,
            ("POST", ["jobs"]) => self.run_jobs(),
            ("POST", ["faults"]) => {
                self.faults.add(serde_json::from_value(body.clone()).map_err(|error| error.to_string())?);
            }
            ("GET", ["faults"]) => return Ok(json!(self.faults.all())),
            ("DELETE", ["faults"]) => self.faults.clear(),
            ("GET", ["requests"]) => return Ok(json!(self.journal.all())),
            ("DELETE", ["requests"]) => self.journal.clear(),
            ("GET", ["secrets"]) => return Ok(json!(self.issued.keys().collect::<Vec<_>>())),
            _ => return Err(format!("no {method} {path}")),
        }
        Ok(json!({"now": iso(self.clock.now()), "settings": self.settings}))
    }

    fn set_clock(&mut self, body: &Value) -> Result<(), String> {
        let stopped = body["now"].as_str().map(str::parse).transpose();
        let stopped: Option<Timestamp> = stopped.map_err(|error: jiff::Error| error.to_string())?;
        let seconds = body["offset_seconds"].as_i64();
        self.clock = match (stopped, seconds) {
            (Some(at), None) => Clock::Stopped(at),
            (None, Some(seconds)) => Clock::Shifted(SignedDuration::from_secs(seconds)),
            _ => return Err("expected \"now\" or \"offset_seconds\"".into()),
        };
        Ok(())
    }

    fn change_user(&mut self, name: &str, body: &Value) -> Result<(), String> {
        let id = self.user_at(name)?;
        let state = body["state"].as_str().map(user_state).transpose()?;
        let user = self.users.get_mut(&id).ok_or("no such user")?;
        user.state = state.unwrap_or(user.state);
        user.admin = body["admin"].as_bool().unwrap_or(user.admin);
        Ok(())
    }

    /// By number or fingerprint.
    fn token_at(&self, id: &str) -> Result<u64, String> {
        let fits = |token: &&Token| token.id.to_string() == id || token.fingerprint() == id;
        self.tokens
            .values()
            .find(fits)
            .map(|token| token.id)
            .ok_or_else(|| format!("there is no token {id:?}"))
    }

    fn change_token(&mut self, id: &str, body: &Value, now: Timestamp) -> Result<(), String> {
        let id = self.token_at(id)?;
        let token = self.tokens.get_mut(&id).ok_or("no such token")?;
        if let Some(revoked) = body["revoked"].as_bool() {
            token.revoked_at = revoked.then_some(now);
        }
        if let Some(date) = body["expires_at"].as_str() {
            token.expires_at = Some(date.parse().map_err(|error: jiff::Error| error.to_string())?);
        }
        if let Some(scopes) = body["scopes"].as_array() {
            token.scopes = scopes.iter().filter_map(Value::as_str).map(String::from).collect();
        }
        Ok(())
    }

    fn bulk(&mut self, body: &Value, now: Timestamp) -> Result<(), String> {
        let source = self.source_at(body["group"].as_str().unwrap_or_default())?;
        for number in 0..body["count"].as_u64().unwrap_or_default() {
            let username = format!("bulk-{number}");
            let email = no_reply(&username, "example.com");
            self.insert_account(Some(source), username.clone(), username, email, now);
        }
        Ok(())
    }

    fn run_jobs(&mut self) {
        let due = self.users.values().filter(|user| user.deleted_from.is_some());
        let due: Vec<u64> = due.map(|user| user.id).collect();
        due.into_iter().for_each(|id| self.remove_user(id));
    }

    fn dump(&self, now: Timestamp) -> Value {
        let users: Vec<Value> = self.users.values().map(|user| self.describe(user)).collect();
        let tokens: Vec<Value> = self.tokens.values().map(|token| self.describe_token(token, now)).collect();
        json!({"now": iso(now), "users": users, "tokens": tokens})
    }

    /// Service accounts and bots that are not about to go, and active tokens of anybody like that.
    ///
    /// A bot without an active token is no identity any more: GitLab removes it by itself.
    fn live(&self, now: Timestamp) -> Value {
        let live = |user: &&User| match user.kind {
            UserKind::Human(_) => false,
            UserKind::ServiceAccount(_) => user.deleted_from.is_none(),
            UserKind::Bot(_) => self.tokens_of(user.id).any(|token| token.is_active(now)),
        };
        let users: Vec<&User> = self.users.values().filter(live).collect();
        let tokens = self.tokens.values().filter(|token| token.is_active(now));
        let minted =
            tokens.filter(|token| self.users.get(&token.user_id).is_some_and(|user| !user.is_human()));
        json!({
            "identities": users.into_iter().map(|user| self.describe(user)).collect::<Vec<_>>(),
            "tokens": minted.map(|token| self.describe_token(token, now)).collect::<Vec<_>>(),
        })
    }

    fn describe(&self, user: &User) -> Value {
        let kind = match user.kind {
            UserKind::Human(_) => "human",
            UserKind::ServiceAccount(_) => "service_account",
            UserKind::Bot(_) => "bot",
        };
        let state = match user.state {
            UserState::Active => "active",
            UserState::Blocked => "blocked",
            UserState::Pending => "pending",
        };
        let memberships = self.members.iter().filter(|member| member.user_id == user.id).map(|member| {
            let path = match member.source {
                super::model::Source::Group(id) => self.groups.get(&id).map(|group| &group.full_path),
                super::model::Source::Project(id) => self.projects.get(&id).map(|project| &project.full_path),
            };
            json!({"of": path, "access_level": member.access_level})
        });
        json!({
            "id": user.id,
            "username": user.username,
            "name": user.name,
            "kind": kind,
            "state": state,
            "admin": user.admin,
            "members": memberships.collect::<Vec<_>>(),
            "deleting": user.deleted_from.is_some(),
        })
    }

    fn describe_token(&self, token: &Token, now: Timestamp) -> Value {
        json!({
            "id": token.id,
            "fingerprint": token.fingerprint(),
            "name": token.name,
            "user_id": token.user_id,
            "username": self.users.get(&token.user_id).map(|user| &user.username),
            "scopes": token.scopes,
            "active": token.is_active(now),
            "revoked": token.is_revoked(),
            "expires_at": token.expires_at.map(|date| date.to_string()),
            "previous": token.previous,
        })
    }
}
