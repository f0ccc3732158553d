//! Audit events in the Open Cybersecurity Schema Framework, version 1.5.0 (schema.ocsf.io).
//!
//! Calls of operators and decisions of brokers are API Activity, what happens to identities is Account Change,
//! and what should not be at all is a Detection Finding.

use dvx_proto::operator::{AuditEvent, LineDetails, Role};
use serde_json::{Map, Value, json};

/// The schema's version.
const VERSION: &str = "1.5.0";

/// The activity of a class that has no number of its own.
const OTHER: u32 = 99;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    ApiActivity,
    AccountChange,
    DetectionFinding,
}

impl Class {
    fn of(event: &AuditEvent) -> Self {
        // A broker's own words for its decisions never make findings.
        if event.enclave.is_some() {
            return Self::ApiActivity;
        }
        match event.action.as_str() {
            "secret.integrity" | "audit.gap" | "audit.broken" => Self::DetectionFinding,
            action => match action.split_once('.') {
                Some(("agent" | "operator" | "enclave" | "integration", verb)) if account(verb) != OTHER => {
                    Self::AccountChange
                }
                _ => Self::ApiActivity,
            },
        }
    }

    const fn uid(self) -> u32 {
        match self {
            Self::ApiActivity => 6003,
            Self::AccountChange => 3001,
            Self::DetectionFinding => 2004,
        }
    }

    const fn category(self) -> u32 {
        self.uid() / 1000
    }

    fn activity(self, verb: &str) -> u32 {
        match self {
            Self::ApiActivity => call(verb),
            Self::AccountChange => account(verb),
            // A finding is new each time.
            Self::DetectionFinding => 1,
        }
    }
}

/// Activities of Account Change.
fn account(verb: &str) -> u32 {
    match verb {
        "create" => 1,
        "restore" | "reprovision" => 2,
        "rotate" => 4,
        "revoke" | "invalid" => 5,
        "delete" => 6,
        // An integration is what an agent may do elsewhere.
        "link" => 7,
        "unlink" => 8,
        "isolate" => 9,
        _ => OTHER,
    }
}

/// Activities of API Activity.
fn call(verb: &str) -> u32 {
    match verb {
        "create" | "issue" => 1,
        "get" | "list" | "git" | "route" | "whoami" | "read" | "export" => 2,
        "set" | "update" | "rejected" => 3,
        "delete" => 4,
        _ => OTHER,
    }
}

/// The event as one JSON object.
pub(crate) fn event(event: &AuditEvent, organisation: &str) -> Value {
    let class = Class::of(event);
    let verb = event.action.rsplit('.').next().unwrap_or(&event.action);
    let activity = class.activity(verb);
    let succeeded = matches!(event.decision.as_str(), "allowed" | "served");
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    put("metadata", metadata(event, organisation));
    put("time", json!(event.time.as_millisecond()));
    put("class_uid", json!(class.uid()));
    put("category_uid", json!(class.category()));
    put("activity_id", json!(activity));
    put("activity_name", json!(verb));
    put("type_uid", json!(class.uid() * 100 + activity));
    put("severity_id", json!(severity(class, event, succeeded)));
    put("message", json!(message(event)));
    match class {
        Class::ApiActivity => {
            put("actor", actor(event));
            put("api", api(event));
            put("src_endpoint", json!({ "name": event.enclave.as_deref().unwrap_or("dvx-control") }));
            put("status_id", json!(if succeeded { 1 } else { 2 }));
            if let Some(subject) = &event.subject {
                put("resources", json!([{ "name": subject }]));
            }
        }
        Class::AccountChange => {
            put("actor", actor(event));
            put("user", account_user(event));
            put("status_id", json!(if succeeded { 1 } else { 2 }));
        }
        Class::DetectionFinding => {
            let uid = format!("{organisation}/{}", event.number);
            put("finding_info", json!({ "uid": uid, "title": event.action, "desc": event.reason }));
            put("status_id", json!(1));
            if let Some(subject) = &event.subject {
                put("resources", json!([{ "name": subject }]));
            }
        }
    }
    put("status", json!(event.decision));
    if let Some(reason) = &event.reason {
        put("status_detail", json!(reason));
    }
    if event.line != LineDetails::default() {
        put("unmapped", json!(event.line));
    }
    Value::Object(object)
}

fn metadata(event: &AuditEvent, organisation: &str) -> Value {
    let product = if event.enclave.is_some() { "dvx-broker" } else { "dvx-control" };
    json!({
        "version": VERSION,
        "product": { "name": product, "vendor_name": "dvx" },
        "uid": event.number.to_string(),
        "tenant_uid": organisation,
        "log_name": event.enclave.as_deref().unwrap_or("control"),
        "sequence": event.seq.unwrap_or(event.number),
    })
}

fn actor(event: &AuditEvent) -> Value {
    let kind = match event.role {
        Some(Role::Admin) => 2,
        Some(Role::Operator | Role::Auditor) => 1,
        None if event.actor == "system" => 3,
        // Agents, brokers.
        None => 4,
    };
    json!({ "user": { "name": event.actor, "type_id": kind } })
}

fn account_user(event: &AuditEvent) -> Value {
    let name = event.agent.as_ref().or(event.subject.as_ref()).unwrap_or(&event.actor);
    json!({ "name": name })
}

fn api(event: &AuditEvent) -> Value {
    let mut api = json!({ "operation": event.action });
    if let (Some(api), Some(id)) = (api.as_object_mut(), &event.request_id) {
        api.insert("request".to_owned(), json!({ "uid": id }));
    }
    api
}

fn severity(class: Class, event: &AuditEvent, succeeded: bool) -> u32 {
    const INFORMATIONAL: u32 = 1;
    const LOW: u32 = 2;
    const MEDIUM: u32 = 3;
    const HIGH: u32 = 4;
    match class {
        Class::DetectionFinding if event.action == "audit.gap" => MEDIUM,
        Class::DetectionFinding => HIGH,
        _ if !succeeded => LOW,
        _ => INFORMATIONAL,
    }
}

fn message(event: &AuditEvent) -> String {
    let AuditEvent { actor, action, decision, .. } = event;
    match (&event.subject, &event.reason) {
        (Some(subject), Some(reason)) => format!("{actor}: {action} {subject}: {decision}: {reason}"),
        (Some(subject), None) => format!("{actor}: {action} {subject}: {decision}"),
        (None, Some(reason)) => format!("{actor}: {action}: {decision}: {reason}"),
        (None, None) => format!("{actor}: {action}: {decision}"),
    }
}

#[cfg(test)]
mod tests;
