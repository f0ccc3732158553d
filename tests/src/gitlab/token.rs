//! Tokens: making, rotating, listing, and how they look.

use dvx_proto::Fingerprint;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::answer::Answer;
use super::call::Call;
use super::clock::{day, iso};
use super::model::{Source, State, Token, TokenKind, UserKind};
use super::page;
use super::value::generate;

/// Every scope that a personal access token may have.
pub(super) const ALL_SCOPES: &[&str] = &[
    "api",
    "read_api",
    "read_user",
    "read_repository",
    "write_repository",
    "self_rotate",
    "read_registry",
    "write_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "ai_features",
    "sudo",
    "admin_mode",
    "read_service_ping",
];

/// Those that only administrators have a use for.
const ADMIN_SCOPES: &[&str] = &["sudo", "admin_mode", "read_service_ping"];

pub(super) fn is_scope(scope: &str) -> bool {
    ALL_SCOPES.contains(&scope)
}

/// The tokens of projects and groups have no admin scopes and no `read_user`.
pub(super) fn is_resource_scope(scope: &str) -> bool {
    is_scope(scope) && !ADMIN_SCOPES.contains(&scope) && scope != "read_user"
}

/// A token that somebody asks for.
pub(super) struct NewToken {
    pub(super) user_id: u64,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) expires_at: Option<Date>,
}

impl State {
    /// Creates a token; the error is a sentence of the model.
    pub(super) fn create_token(&mut self, new: NewToken, now: Timestamp) -> Result<Token, String> {
        let expires_at = self.settings.expiry_on_create(new.expires_at, now);
        self.settings.check_expiry(expires_at, now)?;
        Ok(self.insert_token(NewToken { expires_at, ..new }, None, now))
    }

    fn insert_token(&mut self, new: NewToken, previous: Option<u64>, now: Timestamp) -> Token {
        let value = generate(self.settings.token_format, &self.settings.token_prefix, new.user_id);
        let token = Token {
            id: self.next_id(),
            kind: TokenKind::Personal,
            user_id: new.user_id,
            name: new.name,
            description: new.description,
            scopes: new.scopes,
            value,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
            previous,
        };
        self.add_token(token.clone());
        token
    }

    /// Revokes a token and makes its successor, both or neither.
    pub(super) fn rotate(
        &mut self,
        old: &Token,
        expires_at: Option<Date>,
        now: Timestamp,
    ) -> Result<Token, Answer> {
        let human = self.users.get(&old.user_id).is_some_and(super::model::User::is_human);
        if human && !self.settings.legacy_rotation {
            let why =
                "Rotation of legacy personal access tokens is disabled. Use a fine-grained token instead.";
            return Err(Answer::bad_request(why));
        }
        let expires_at = self.settings.expiry_on_rotation(expires_at, now);
        self.settings.check_expiry(expires_at, now).map_err(Answer::bad_request)?;
        self.revoke(old.id, now);
        let new = NewToken {
            user_id: old.user_id,
            name: old.name.clone(),
            description: old.description.clone(),
            scopes: old.scopes.clone(),
            expires_at,
        };
        Ok(self.insert_token(new, Some(old.id), now))
    }

    /// The same for a token that was named and not presented: a consumed one is refused, and nothing else ends.
    pub(super) fn rotate_by_id(
        &mut self,
        old: &Token,
        expires_at: Option<Date>,
        now: Timestamp,
    ) -> Result<Token, Answer> {
        if old.is_revoked() {
            return Err(Answer::bad_request("Token already revoked"));
        }
        self.rotate(old, expires_at, now)
    }

    pub(super) fn revoke(&mut self, token_id: u64, now: Timestamp) {
        if let Some(token) = self.tokens.get_mut(&token_id) {
            token.revoked_at.get_or_insert(now);
        }
    }

    /// How GitLab shows a token; those of bots have their level.
    pub(super) fn token_json(&self, token: &Token, now: Timestamp) -> Value {
        let mut json = json!({
            "id": token.id,
            "name": token.name,
            "revoked": token.is_revoked(),
            "created_at": iso(token.created_at),
            "description": token.description,
            "scopes": token.scopes,
            "user_id": token.user_id,
            "last_used_at": token.last_used_at.map(iso),
            "active": token.is_active(now),
            "expires_at": token.expires_at.map(|date| date.to_string()),
        });
        if let Some(level) = self.bot_level(token.user_id, now) {
            json["access_level"] = json!(level);
        }
        json
    }

    fn bot_level(&self, user_id: u64, now: Timestamp) -> Option<u64> {
        let user = self.users.get(&user_id)?;
        let UserKind::Bot(source) = user.kind else { return None };
        self.direct_member(source, user_id, now).map(|member| member.access_level)
    }

    /// The same with the value, which is shown once.
    pub(super) fn new_token_json(&self, token: &Token, now: Timestamp) -> Value {
        let mut json = self.token_json(token, now);
        json["token"] = json!(token.value);
        json
    }

    /// Tokens of the bots of a project or group.
    pub(super) fn resource_tokens(&self, source: Source) -> Vec<Token> {
        let is_bots = |token: &&Token| {
            self.users.get(&token.user_id).is_some_and(|user| user.kind == UserKind::Bot(source))
        };
        self.tokens.values().filter(is_bots).cloned().collect()
    }
}

impl Token {
    pub(super) fn fingerprint(&self) -> String {
        Fingerprint::of(self.value.as_bytes()).to_string()
    }
}

/// Answers with those of some tokens that pass the filters of the query, in the order that it wants.
pub(super) fn list(call: &Call<'_>, mut tokens: Vec<Token>) -> Result<Answer, Answer> {
    let params = &call.params;
    let mut check = params.check();
    let state = check.word("state", &["", "active", "inactive"]);
    let revoked = check.boolean("revoked");
    let sort = check.word("sort", SORTS);
    let after = [check.time("created_after"), check.time("last_used_after")];
    let before = [check.time("created_before"), check.time("last_used_before")];
    let expires = [check.date("expires_after"), check.date("expires_before")];
    check.finish()?;
    let search = params.present("search").unwrap_or_default().to_lowercase();
    let today = day(call.now);
    tokens.retain(|token| {
        let times = [Some(token.created_at), token.last_used_at];
        let late = after.iter().zip(times).all(|(limit, at)| limit.is_none_or(|limit| at > Some(limit)));
        let early = before
            .iter()
            .zip(times)
            .all(|(limit, at)| limit.is_none_or(|limit| at.is_some_and(|at| at < limit)));
        let [expires_after, expires_before] = expires;
        let ends = token.expires_at;
        late && early
            && in_state(state, token, today)
            && revoked.is_none_or(|wanted| token.is_revoked() == wanted)
            && expires_after.is_none_or(|limit| ends.is_some_and(|date| date > limit))
            && expires_before.is_none_or(|limit| ends.is_some_and(|date| date < limit))
            && token.name.to_lowercase().contains(&search)
    });
    order(&mut tokens, sort);
    let rows = tokens.iter().map(|token| call.state.token_json(token, call.now)).collect();
    page::offset(call, rows)
}

/// On the day of its expiry a token is in neither state: one side compares with `>`, the other with `<`.
fn in_state(state: &str, token: &Token, today: Date) -> bool {
    match state {
        "active" => !token.is_revoked() && token.expires_at.is_none_or(|date| date > today),
        "inactive" => token.is_revoked() || token.expires_at.is_some_and(|date| date < today),
        _ => true,
    }
}

const SORTS: &[&str] = &[
    "created_desc",
    "created_asc",
    "expires_desc",
    "expires_asc",
    "last_used_desc",
    "last_used_asc",
    "name_desc",
    "name_asc",
];

fn order(tokens: &mut [Token], sort: &str) {
    let (key, direction) = sort.rsplit_once('_').unwrap_or((sort, "desc"));
    tokens.sort_by(|one, other| match key {
        "expires" => one.expires_at.cmp(&other.expires_at),
        "last_used" => one.last_used_at.cmp(&other.last_used_at),
        "name" => one.name.cmp(&other.name),
        _ => (one.created_at, one.id).cmp(&(other.created_at, other.id)),
    });
    if direction == "desc" {
        tokens.reverse();
    }
}
