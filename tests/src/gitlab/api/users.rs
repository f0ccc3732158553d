//! Users.

use serde_json::{Value, json};

use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::clock::iso;
use crate::gitlab::model::{User, UserState};
use crate::gitlab::params::Commas;
use crate::gitlab::token::{NewToken, is_scope};

pub(in crate::gitlab) fn current(call: &mut Call<'_>) -> Reply {
    let user = call.user()?;
    let mut json = basic(&user, &call.instance);
    let more = json!({
        "created_at": iso(user.created_at),
        "bio": "",
        "location": null,
        "public_email": null,
        "bot": !user.is_human(),
        "last_sign_in_at": null,
        "confirmed_at": iso(user.created_at),
        "last_activity_on": null,
        "email": user.email,
        "theme_id": 3,
        "color_scheme_id": 1,
        "projects_limit": 100_000,
        "current_sign_in_at": null,
        "identities": [],
        "can_create_group": !user.external,
        "can_create_project": !user.external,
        "two_factor_enabled": false,
        "external": user.external,
        "private_profile": false,
        "commit_email": user.email,
    });
    merge(&mut json, &more);
    if user.admin {
        merge(&mut json, &json!({"is_admin": true, "is_auditor": false}));
    }
    Ok(Answer::json(200, &json))
}

pub(in crate::gitlab) fn version(_: &mut Call<'_>) -> Reply {
    Ok(Answer::json(200, &json!({"version": "18.11.0-ee", "revision": "0123456789a"})))
}

/// Administrators only; the row goes later.
pub(in crate::gitlab) fn delete(call: &mut Call<'_>) -> Reply {
    admin(call)?;
    let id = id(call)?;
    let mut check = call.params.check();
    let hard = check.boolean("hard_delete").unwrap_or_default();
    check.finish()?;
    let user = call.state.users.get(&id).cloned().ok_or_else(|| Answer::not_found("User"))?;
    schedule_deletion(call, &user, hard)
}

/// Queues the deletion of a user; a second time changes nothing.
pub(super) fn schedule_deletion(call: &mut Call<'_>, user: &User, hard: bool) -> Reply {
    if !hard && call.state.is_sole_owner(user, call.now) {
        return Err(Answer::message(409, "User cannot be removed while is the sole-owner of a group"));
    }
    let due = call.now + jiff::SignedDuration::from_secs(call.state.settings.delete_after_seconds);
    if let Some(user) = call.state.users.get_mut(&user.id) {
        user.deleted_from.get_or_insert(due);
    }
    Ok(Answer::empty(204))
}

/// Administrators only: owners of groups have to go through the group.
pub(in crate::gitlab) fn create_token(call: &mut Call<'_>) -> Reply {
    admin(call)?;
    let id = id(call)?;
    let mut check = call.params.check();
    let name = check.required("name");
    let scopes = check.list("scopes", Commas::Split, is_scope);
    let expires_at = check.date("expires_at");
    check.finish()?;
    if !call.state.users.contains_key(&id) {
        return Err(Answer::not_found("User"));
    }
    let description = call.params.present("description");
    let new = NewToken { user_id: id, name, description, scopes, expires_at };
    let token = call.state.create_token(new, call.now).map_err(|why| Answer::message(422, why))?;
    Ok(Answer::json(201, &call.state.new_token_json(&token, call.now)))
}

fn admin(call: &Call<'_>) -> Result<(), Answer> {
    if call.caller()?.admin { Ok(()) } else { Err(Answer::forbidden()) }
}

/// `:user_id`, which has to be a number.
pub(super) fn id(call: &Call<'_>) -> Result<u64, Answer> {
    let mut check = call.params.check();
    let id = check.id("user_id", call.name("user_id"));
    check.finish()?;
    Ok(id)
}

/// What every list of people shows.
pub(super) fn basic(user: &User, instance: &str) -> Value {
    let state = match user.state {
        UserState::Active => "active",
        UserState::Blocked => "blocked",
        UserState::Pending => "blocked_pending_approval",
    };
    json!({
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": state,
        "locked": false,
        "avatar_url": null,
        "web_url": format!("{instance}/{}", user.username),
    })
}

/// Adds the members of one object to another.
pub(super) fn merge(json: &mut Value, more: &Value) {
    let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) else { return };
    json.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
}
