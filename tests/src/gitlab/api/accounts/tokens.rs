//! Tokens of service accounts.

use super::{administered, provisioned};
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::model::{Token, User};
use crate::gitlab::params::Commas;
use crate::gitlab::settings::Edition;
use crate::gitlab::token::{self, NewToken, is_scope};

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let user = account(call)?;
    token::list(call, call.state.tokens_of(user.id).cloned().collect())
}

/// Errors of the service are 422 here, and 400 on rotation.
pub(in crate::gitlab) fn create(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    let mut check = call.params.check();
    check.id("user_id", call.name("user_id"));
    let name = check.required("name");
    let scopes = check.list("scopes", Commas::Split, is_scope);
    let expires_at = check.date("expires_at");
    check.finish()?;
    let user = provisioned(call, source)?;
    let caller = call.caller()?;
    // That an owner may is a feature of the Enterprise Edition.
    let may = call.state.settings.edition == Edition::Enterprise || caller.admin || caller.user_id == user.id;
    if !may {
        return Err(Answer::message(422, "Not permitted to create"));
    }
    let description = call.params.present("description");
    let new = NewToken { user_id: user.id, name, description, scopes, expires_at };
    let token = call.state.create_token(new, call.now).map_err(|why| Answer::message(422, why))?;
    Ok(Answer::json(201, &call.state.new_token_json(&token, call.now)))
}

pub(in crate::gitlab) fn revoke(call: &mut Call<'_>) -> Reply {
    let user = account(call)?;
    let token = find(call, &user)?.ok_or_else(|| Answer::not_found("Personal Access Token"))?;
    call.state.revoke(token.id, call.now);
    Ok(Answer::empty(204))
}

/// By the owner: that the token has expired is no obstacle, and a consumed one costs nothing.
pub(in crate::gitlab) fn rotate(call: &mut Call<'_>) -> Reply {
    let source = administered(call)?;
    let mut check = call.params.check();
    check.id("user_id", call.name("user_id"));
    check.id("token_id", call.name("token_id"));
    let expires_at = check.date("expires_at");
    check.finish()?;
    let user = provisioned(call, source)?;
    let token = find(call, &user)?.ok_or_else(|| Answer::not_found(""))?;
    let new = call.state.rotate_by_id(&token, expires_at, call.now)?;
    Ok(Answer::json(200, &call.state.new_token_json(&new, call.now)))
}

fn account(call: &Call<'_>) -> Result<User, Answer> {
    let source = administered(call)?;
    provisioned(call, source)
}

fn find(call: &Call<'_>, user: &User) -> Result<Option<Token>, Answer> {
    let mut check = call.params.check();
    let id = check.id("token_id", call.name("token_id"));
    check.finish()?;
    Ok(call.state.tokens.get(&id).filter(|token| token.user_id == user.id).cloned())
}
