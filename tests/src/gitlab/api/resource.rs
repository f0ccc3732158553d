//! Access tokens of projects and groups.

use jiff::Timestamp;

use super::personal::token_id;
use crate::gitlab::access::{LEVELS, MAINTAINER, OWNER};
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::model::{Member, Source, State, Token, TokenKind, User, UserKind, UserState};
use crate::gitlab::params::Commas;
use crate::gitlab::token::{self, NewToken, is_resource_scope};
use crate::leak::random_bytes;

pub(in crate::gitlab) fn create(call: &mut Call<'_>) -> Reply {
    call.caller()?;
    let mut check = call.params.check();
    let name = check.required("name");
    // Commas are not split here.
    let scopes = check.list("scopes", Commas::Keep, is_resource_scope);
    let level = check.integer("access_level").unwrap_or(MAINTAINER);
    if !LEVELS.contains(&level) {
        check.invalid_value("access_level");
    }
    let expires_at = check.date("expires_at");
    if call.params.present("expires_at").is_none() {
        check.missing("expires_at");
    }
    check.finish()?;
    let source = call.source()?;
    if !may_manage(call, source)? || !call.state.settings.resource_tokens || is_bot(&call.user()?) {
        let kind = kind(source);
        let why = format!("User does not have permission to create {kind} access token");
        return Err(Answer::bad_request(why));
    }
    if level > call.level(source)? {
        let why = "Access level of the token contains permissions not held by the creating user";
        return Err(Answer::bad_request(why));
    }
    // Before the bot is made: a failure leaves none behind.
    call.state.settings.check_expiry(expires_at, call.now).map_err(Answer::bad_request)?;
    let bot = call.state.insert_bot(source, &name, level, &call.host(), call.now);
    let description = call.params.present("description");
    let new = NewToken { user_id: bot, name, description, scopes, expires_at };
    let token = call.state.create_token(new, call.now).map_err(Answer::bad_request)?;
    Ok(Answer::json(201, &call.state.new_token_json(&token, call.now)))
}

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let source = call.source()?;
    require_manager(call, source)?;
    token::list(call, call.state.resource_tokens(source))
}

pub(in crate::gitlab) fn one(call: &mut Call<'_>) -> Reply {
    let source = call.source()?;
    require_manager(call, source)?;
    let token = find(call, source)?.ok_or_else(|| missing(source))?;
    Ok(Answer::json(200, &call.state.token_json(&token, call.now)))
}

pub(in crate::gitlab) fn revoke(call: &mut Call<'_>) -> Reply {
    let source = call.source()?;
    let token = find(call, source)?.ok_or_else(|| missing(source))?;
    if !may_manage(call, source)? {
        let bot = call.state.users.get(&token.user_id).map(|user| user.name.clone()).unwrap_or_default();
        return Err(Answer::bad_request(format!("{} cannot delete {bot}", call.user()?.name)));
    }
    call.state.revoke(token.id, call.now);
    Ok(Answer::empty(204))
}

/// Keeps the bot and its membership. A token that names itself by number is refused.
pub(in crate::gitlab) fn rotate(call: &mut Call<'_>) -> Reply {
    let mut check = call.params.check();
    let expires_at = check.date("expires_at");
    check.finish()?;
    let source = call.source()?;
    let caller = call.caller()?;
    let hidden = || if caller.admin { Answer::not_found("") } else { Answer::unauthorized() };
    let token = find(call, source)?.ok_or_else(hidden)?;
    if !may_manage(call, source)? || is_bot(&call.user()?) {
        return Err(hidden());
    }
    if call.state.level(source, token.user_id, call.now) > call.level(source)? {
        let why = "Not eligible to rotate tokens with permissions not held by the user";
        return Err(Answer::bad_request(why));
    }
    let new = call.state.rotate_by_id(&token, expires_at, call.now)?;
    Ok(Answer::json(200, &call.state.new_token_json(&new, call.now)))
}

pub(in crate::gitlab) fn rotate_own(call: &mut Call<'_>) -> Reply {
    let mut check = call.params.check();
    let expires_at = check.date("expires_at");
    check.finish()?;
    let source = call.source()?;
    let token = call.token()?;
    let user = call.user()?;
    if token.kind == TokenKind::OAuth || !is_bot(&user) {
        return Err(Answer::message(405, "405 Method Not Allowed"));
    }
    if user.kind != UserKind::Bot(source) {
        return Err(Answer::unauthorized());
    }
    let new = call.state.rotate(&token, expires_at, call.now)?;
    Ok(Answer::json(200, &call.state.new_token_json(&new, call.now)))
}

fn may_manage(call: &Call<'_>, source: Source) -> Result<bool, Answer> {
    let needed = if matches!(source, Source::Group(_)) { OWNER } else { MAINTAINER };
    Ok(call.level(source)? >= needed)
}

fn require_manager(call: &Call<'_>, source: Source) -> Result<(), Answer> {
    if may_manage(call, source)? { Ok(()) } else { Err(Answer::unauthorized()) }
}

fn find(call: &Call<'_>, source: Source) -> Result<Option<Token>, Answer> {
    let id = token_id(call)?;
    Ok(call.state.resource_tokens(source).into_iter().find(|token| token.id == id))
}

/// The kind of the source stands in lower case.
fn missing(source: Source) -> Answer {
    Answer::message(404, format!("404 {} Access Token Not Found", kind(source)))
}

fn kind(source: Source) -> &'static str {
    match source {
        Source::Group(_) => "group",
        Source::Project(_) => "project",
    }
}

fn is_bot(user: &User) -> bool {
    matches!(user.kind, UserKind::Bot(_))
}

impl State {
    /// The user behind a new token, a direct member.
    fn insert_bot(&mut self, source: Source, name: &str, level: u64, host: &str, now: Timestamp) -> u64 {
        let random: String = random_bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
        let number = match source {
            Source::Group(id) | Source::Project(id) => id,
        };
        let username = format!("{}_{number}_bot_{random}", kind(source));
        let id = self.next_id();
        let user = User {
            id,
            email: super::accounts::no_reply(&username, host),
            username,
            name: name.to_owned(),
            kind: UserKind::Bot(source),
            state: UserState::Active,
            admin: false,
            external: false,
            created_at: now,
            deleted_from: None,
        };
        self.users.insert(id, user);
        let member = Member { source, user_id: id, access_level: level, expires_at: None, created_at: now };
        self.members.push(member);
        id
    }
}
