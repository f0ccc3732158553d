//! `/personal_access_tokens`.

use serde_json::json;

use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::model::{Token, TokenKind};
use crate::gitlab::token;

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let caller = call.caller()?;
    let mut check = call.params.check();
    let user_id = check.integer("user_id");
    check.finish()?;
    if let Some(user_id) = user_id.filter(|user_id| *user_id != caller.user_id) {
        if !caller.admin {
            return Err(Answer::unauthorized());
        }
        if !call.state.users.contains_key(&user_id) {
            return Err(Answer::not_found("User"));
        }
    }
    let wanted = user_id.or_else(|| (!caller.admin).then_some(caller.user_id));
    let tokens = call.state.tokens.values().filter(|token| token.is_personal());
    let tokens = tokens.filter(|token| wanted.is_none_or(|id| token.user_id == id));
    token::list(call, tokens.cloned().collect())
}

pub(in crate::gitlab) fn own(call: &mut Call<'_>) -> Reply {
    let token = call.token()?;
    refuse_oauth(&token)?;
    let mut json = call.state.token_json(&token, call.now);
    json["last_used_ips"] = json!(["127.0.0.1"]);
    Ok(Answer::json(200, &json))
}

pub(in crate::gitlab) fn revoke_own(call: &mut Call<'_>) -> Reply {
    let token = call.token()?;
    refuse_oauth(&token)?;
    call.state.revoke(token.id, call.now);
    Ok(Answer::empty(204))
}

/// The token was checked when it was presented and nothing locks its row since: of two rotations that both
/// passed that check, both succeed.
pub(in crate::gitlab) fn rotate_own(call: &mut Call<'_>) -> Reply {
    let mut check = call.params.check();
    let expires_at = check.date("expires_at");
    check.finish()?;
    let token = call.token()?;
    if token.kind == TokenKind::OAuth {
        return Err(Answer::message(405, "405 Method Not Allowed"));
    }
    let new = call.state.rotate(&token, expires_at, call.now)?;
    Ok(Answer::json(200, &call.state.new_token_json(&new, call.now)))
}

pub(in crate::gitlab) fn one(call: &mut Call<'_>) -> Reply {
    let token = visible(call)?;
    let mut json = call.state.token_json(&token, call.now);
    json["last_used_ips"] = json!([]);
    Ok(Answer::json(200, &json))
}

pub(in crate::gitlab) fn rotate(call: &mut Call<'_>) -> Reply {
    let mut check = call.params.check();
    let expires_at = check.date("expires_at");
    check.finish()?;
    let token = visible(call)?;
    // Of a project's or group's token that names itself by number.
    let is_bot = call
        .state
        .users
        .get(&token.user_id)
        .is_some_and(|user| !user.is_human() && !user.is_service_account());
    if is_bot && !call.caller()?.admin {
        return Err(Answer::unauthorized());
    }
    let new = call.state.rotate_by_id(&token, expires_at, call.now)?;
    Ok(Answer::json(200, &call.state.new_token_json(&new, call.now)))
}

pub(in crate::gitlab) fn revoke(call: &mut Call<'_>) -> Reply {
    let caller = call.caller()?;
    let id = token_id(call)?;
    let token = call.state.tokens.get(&id).filter(|token| token.is_personal());
    let token = token.ok_or_else(Answer::record_not_found)?;
    if token.user_id != caller.user_id && !caller.admin {
        return Err(Answer::bad_request("Not permitted to revoke"));
    }
    call.state.revoke(id, call.now);
    Ok(Answer::empty(204))
}

/// One's own token, or any for administrators. To others it is not said whether there is one.
fn visible(call: &Call<'_>) -> Result<Token, Answer> {
    let caller = call.caller()?;
    let id = token_id(call)?;
    let hidden = || if caller.admin { Answer::record_not_found() } else { Answer::unauthorized() };
    let token = call.state.tokens.get(&id).filter(|token| token.is_personal()).ok_or_else(hidden)?;
    if token.user_id != caller.user_id && !caller.admin {
        return Err(Answer::unauthorized());
    }
    Ok(token.clone())
}

/// `:token_id`, which has to be a number.
pub(super) fn token_id(call: &Call<'_>) -> Result<u64, Answer> {
    let mut check = call.params.check();
    let id = check.id("id", call.name("token_id"));
    check.finish()?;
    Ok(id)
}

fn refuse_oauth(token: &Token) -> Result<(), Answer> {
    if token.kind == TokenKind::OAuth {
        return Err(Answer::bad_request("This endpoint requires token type to be a personal access token"));
    }
    Ok(())
}
