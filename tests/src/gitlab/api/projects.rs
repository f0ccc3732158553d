//! Projects.

use serde_json::{Value, json};

use super::groups::visibility;
use crate::gitlab::access::MAINTAINER;
use crate::gitlab::answer::{Answer, Reply};
use crate::gitlab::call::Call;
use crate::gitlab::clock::iso;
use crate::gitlab::model::{Project, Source};
use crate::gitlab::page;

pub(in crate::gitlab) fn list(call: &mut Call<'_>) -> Reply {
    let visible =
        call.state.projects.values().rev().filter(|p| call.state.can_read_project(p, call.caller, call.now));
    let rows = visible.map(|project| view(project, &call.instance)).collect();
    page::keyset_or_offset(call, rows)
}

/// Who has a token also sees what is his: his direct membership, and the highest one in the groups above.
pub(in crate::gitlab) fn one(call: &mut Call<'_>) -> Reply {
    let project = call.project()?;
    let mut json = view(&project, &call.instance);
    if let Some(caller) = call.caller {
        let source = Source::Project(project.id);
        let level = |level: u64| json!({"access_level": level, "notification_level": 3});
        let direct = call.state.direct_member(source, caller.user_id, call.now);
        let above = project.group.map(Source::Group);
        let above = above.and_then(|group| call.state.highest_member(group, caller.user_id, call.now));
        json["permissions"] = json!({
            "project_access": direct.map(|member| level(member.access_level)),
            "group_access": above.map(|member| level(member.access_level)),
        });
    }
    Ok(Answer::json(200, &json))
}

/// Nothing of a project can be changed here; who may is answered all the same.
pub(in crate::gitlab) fn update(call: &mut Call<'_>) -> Reply {
    let project = call.project()?;
    call.require(Source::Project(project.id), MAINTAINER)?;
    Ok(Answer::json(200, &view(&project, &call.instance)))
}

fn view(project: &Project, instance: &str) -> Value {
    json!({
        "id": project.id,
        "description": null,
        "name": project.path,
        "name_with_namespace": project.full_path.replace('/', " / "),
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": iso(project.created_at),
        "default_branch": "main",
        "http_url_to_repo": format!("{instance}/{}.git", project.full_path),
        "web_url": format!("{instance}/{}", project.full_path),
        "visibility": visibility(project.visibility),
        "namespace": {"id": project.group, "kind": "group"},
    })
}
