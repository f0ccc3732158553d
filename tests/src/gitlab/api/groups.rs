//! Groups.

use serde_json::{Value, json};

use crate::gitlab::access::OWNER;
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::clock::iso;
use crate::gitlab::model::{Group, Source, Visibility};
use crate::gitlab::page;

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let visible = call.state.groups.values().filter(|g| call.state.can_read_group(g, call.caller, call.now));
    let rows = visible.map(|group| view(group, &call.instance)).collect();
    page::keyset_or_offset(call, rows)
}

pub(in crate::gitlab) fn one(call: &mut Call<'_>) -> Reply {
    let group = call.group()?;
    let mut json = view(&group, &call.instance);
    let source = Source::Group(group.id);
    if call.caller.is_some_and(|caller| call.state.level_of(source, caller, call.now) >= OWNER) {
        json["shared_with_groups"] = json!([]);
        json["prevent_forking_outside_group"] = json!(false);
    }
    Ok(Answer::json(200, &json))
}

fn view(group: &Group, instance: &str) -> Value {
    json!({
        "id": group.id,
        "web_url": format!("{instance}/groups/{}", group.full_path),
        "name": group.name,
        "path": group.path,
        "description": "",
        "visibility": visibility(group.visibility),
        "full_name": group.full_path.replace('/', " / "),
        "full_path": group.full_path,
        "parent_id": group.parent,
        "organization_id": 1,
        "created_at": iso(group.created_at),
    })
}

pub(in crate::gitlab) fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Private => "private",
        Visibility::Internal => "internal",
        Visibility::Public => "public",
    }
}
