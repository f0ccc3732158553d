//! Members of groups and projects.

use serde_json::{Value, json};

use super::users::{basic, id, merge};
use crate::gitlab::access::{LEVELS, MAINTAINER, OWNER, level_name};
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::clock::iso;
use crate::gitlab::model::{Member, Source, UserKind};
use crate::gitlab::page;

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let source = call.source()?;
    let members = call.state.members.iter().filter(|m| m.source == source && m.counts(call.now));
    let rows = members.filter_map(|member| view(call, member)).collect();
    page::offset(call, rows)
}

pub(in crate::gitlab) fn list_all(call: &mut Call<'_>) -> Reply {
    let source = call.source()?;
    let highest = call.state.users.keys().filter_map(|id| call.state.highest_member(source, *id, call.now));
    let rows = highest.filter_map(|member| view(call, member)).collect();
    page::offset(call, rows)
}

/// Direct membership only.
pub(in crate::gitlab) fn direct(call: &mut Call<'_>) -> Reply {
    let user_id = id(call)?;
    let source = call.source()?;
    let member = call.state.direct_member(source, user_id, call.now);
    shown(call, 200, member)
}

/// Direct or inherited, whichever is higher.
pub(in crate::gitlab) fn highest(call: &mut Call<'_>) -> Reply {
    let user_id = id(call)?;
    let source = call.source()?;
    let member = call.state.highest_member(source, user_id, call.now);
    shown(call, 200, member)
}

/// One user, or several joined by commas, which is another answer.
pub(in crate::gitlab) fn add(call: &mut Call<'_>) -> Reply {
    let mut check = call.params.check();
    let users = check.required("user_id");
    let level = level(&mut check);
    let expires_at = check.date("expires_at");
    check.finish()?;
    let source = call.source()?;
    require_manager(call, source, level)?;
    let several = users.contains(',');
    for user in users.split(',') {
        let user_id: u64 = user.trim().parse().map_err(|_| Answer::parameter("user_id is invalid"))?;
        check_invitation(call, source, user_id, level)?;
        let member = Member { source, user_id, access_level: level, expires_at, created_at: call.now };
        call.state.members.retain(|old| old.source != source || old.user_id != user_id);
        call.state.members.push(member.clone());
        if !several {
            return shown(call, 201, Some(&member));
        }
    }
    Ok(Answer::json(201, &json!({"status": "success"})))
}

fn check_invitation(call: &Call<'_>, source: Source, user_id: u64, level: u64) -> Result<(), Answer> {
    let user = call.state.users.get(&user_id).ok_or_else(|| Answer::not_found("User"))?;
    if call.state.direct_member(source, user_id, call.now).is_some() {
        return Err(Answer::message(409, "Member already exists"));
    }
    // Its own group and what lies below; the wording of the refusal is not known.
    if let UserKind::ServiceAccount(Some(home)) = user.kind
        && !call.state.chain(source).contains(&home)
    {
        return Err(Answer::invalid("user", "is not in the hierarchy of this group"));
    }
    let inherited = call.state.level(source, user_id, call.now);
    if level < inherited {
        let name = level_name(inherited);
        let why = format!("should be greater than or equal to {name} inherited membership");
        return Err(Answer::invalid("access_level", &why));
    }
    Ok(())
}

pub(in crate::gitlab) fn change(call: &mut Call<'_>) -> Reply {
    let user_id = id(call)?;
    let mut check = call.params.check();
    let level = level(&mut check);
    let expires_at = check.date("expires_at");
    check.finish()?;
    let source = call.source()?;
    require_manager(call, source, level)?;
    let member = call.state.members.iter_mut().find(|m| m.source == source && m.user_id == user_id);
    let member = member.ok_or_else(Answer::record_not_found)?;
    (member.access_level, member.expires_at) = (level, expires_at.or(member.expires_at));
    let member = member.clone();
    shown(call, 200, Some(&member))
}

/// Also from everything below, unless told otherwise. Tokens of whoever goes are left alone.
pub(in crate::gitlab) fn remove(call: &mut Call<'_>) -> Reply {
    let user_id = id(call)?;
    let mut check = call.params.check();
    let keep_below = check.boolean("skip_subresources").unwrap_or_default();
    check.finish()?;
    let source = call.source()?;
    if call.caller()?.user_id != user_id {
        require_manager(call, source, 0)?;
    }
    if call.state.direct_member(source, user_id, call.now).is_none() {
        return Err(Answer::record_not_found());
    }
    let members = std::mem::take(&mut call.state.members);
    let goes = |member: &Member| {
        let below = !keep_below && call.state.chain(member.source).contains(&source);
        member.user_id == user_id && (member.source == source || below)
    };
    call.state.members = members.into_iter().filter(|member| !goes(member)).collect();
    Ok(Answer::empty(204))
}

fn level(check: &mut crate::gitlab::params::Check<'_>) -> u64 {
    let text = check.required("access_level");
    if text.is_empty() {
        return 0;
    }
    let level = text.parse().unwrap_or_default();
    if !LEVELS.contains(&level) && level != 5 {
        check.invalid_value("access_level");
    }
    level
}

/// Owners of groups and maintainers of projects; nobody gives more than he has.
fn require_manager(call: &Call<'_>, source: Source, given: u64) -> Result<(), Answer> {
    let needed = if matches!(source, Source::Group(_)) { OWNER } else { MAINTAINER };
    call.require(source, needed.max(given))
}

fn shown(call: &Call<'_>, status: u16, member: Option<&Member>) -> Reply {
    let view = member.and_then(|member| view(call, member)).ok_or_else(Answer::record_not_found)?;
    Ok(Answer::json(status, &view))
}

fn view(call: &Call<'_>, member: &Member) -> Option<Value> {
    let user = call.state.users.get(&member.user_id)?;
    let mut json = basic(user, &call.instance);
    let more = json!({
        "created_at": iso(member.created_at),
        "expires_at": member.expires_at.map(|date| date.to_string()),
        "access_level": member.access_level,
        "membership_state": "active",
    });
    merge(&mut json, &more);
    Some(json)
}
