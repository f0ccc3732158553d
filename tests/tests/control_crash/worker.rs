//! One operator at work on one agent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dvx_tests::{Caller, Operator, Request, Response, within};
use serde_json::{Value, json};

use super::model::Possible;
use super::random::Random;
use super::text;

const NAMES: [&str; 4] = ["ONE", "TWO", "THREE", "FOUR"];

/// One operator at work on one agent.
pub(crate) struct Worker {
    agent: String,
    operators: Vec<Operator>,
    random: Random,
    count: u64,
    secrets: BTreeMap<&'static str, Possible<Option<String>>>,
    versions: BTreeMap<&'static str, u64>,
    isolated: Possible<bool>,
    /// Agents that it has made, and whether they are still there.
    others: BTreeMap<String, Possible<bool>>,
    revisions: Vec<u64>,
    requests: Vec<String>,
    made: usize,
}

/// What became of a request.
enum Outcome {
    Done(Response),
    Refused(Response),
    Unknown,
}

impl Worker {
    pub(crate) fn new(agent: &str, operators: Vec<Operator>, random: Random) -> Self {
        Self {
            agent: agent.to_owned(),
            operators,
            random,
            count: 0,
            secrets: NAMES.map(|name| (name, Possible::exactly(None))).into(),
            versions: BTreeMap::new(),
            isolated: Possible::exactly(false),
            others: BTreeMap::new(),
            revisions: Vec::new(),
            requests: Vec::new(),
            made: 0,
        }
    }

    pub(crate) fn agent(&self) -> &str {
        &self.agent
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.requests.len() + self.made
    }

    pub(crate) fn revisions(&self) -> Vec<u64> {
        self.revisions.clone()
    }

    pub(crate) fn work_until(mut self, ending: &AtomicBool) -> Self {
        while !ending.load(Ordering::SeqCst) {
            self.count += 1;
            match self.random.below(8) {
                0..=3 => self.set(),
                4 => self.delete(),
                5 | 6 => self.isolate_or_restore(),
                _ => self.make_or_delete_another(),
            }
        }
        self
    }

    fn name(&mut self) -> &'static str {
        NAMES[usize::try_from(self.random.below(4)).unwrap()]
    }

    fn set(&mut self) {
        let name = self.name();
        let value = format!("{name} {} of {}", self.count, self.agent);
        let request = Request::put(&format!("/api/v1/agents/{}/secrets/{name}", self.agent));
        let outcome = self.send(&request.json(&json!({"value": value}).to_string()));
        let possible = self.secrets.get_mut(name).unwrap();
        match outcome {
            Outcome::Done(response) => {
                possible.became(Some(value));
                let version = response.json()["version"].as_u64().unwrap();
                let before = self.versions.insert(name, version).unwrap_or_default();
                assert!(version > before, "{name}: version {version} after {before}");
            }
            Outcome::Unknown => possible.perhaps_became(Some(value)),
            Outcome::Refused(response) => panic!("{response:?}"),
        }
    }

    fn delete(&mut self) {
        let name = self.name();
        let outcome = self.send(&Request::delete(&format!("/api/v1/agents/{}/secrets/{name}", self.agent)));
        let possible = self.secrets.get_mut(name).unwrap();
        match outcome {
            Outcome::Done(_) => possible.became(None),
            Outcome::Unknown => possible.perhaps_became(None),
            Outcome::Refused(response) => {
                assert_eq!(response.status, 404, "{response:?}");
                assert!(possible.may_be(&None), "an acknowledged value of {name} is gone");
                possible.became(None);
            }
        }
    }

    fn isolate_or_restore(&mut self) {
        let isolate = self.random.below(2) == 0;
        let verb = if isolate { "isolate" } else { "restore" };
        let mut request = Request::post(&format!("/api/v1/agents/{}/{verb}", self.agent));
        if isolate {
            request = request.json(&json!({"reason": format!("number {}", self.count)}).to_string());
        }
        match self.send(&request) {
            Outcome::Done(_) => self.isolated.became(isolate),
            Outcome::Unknown => self.isolated.perhaps_became(isolate),
            Outcome::Refused(response) => {
                assert_eq!((response.status, isolate), (409, false), "{response:?}");
                assert!(self.isolated.may_be(&false), "an acknowledged isolation is gone");
                self.isolated.became(false);
            }
        }
    }

    fn make_or_delete_another(&mut self) {
        let there = self.others.iter().find(|(_, there)| there.may_be(&true)).map(|(name, _)| name.clone());
        match there {
            Some(name) if self.random.below(2) == 0 => self.delete_another(&name),
            _ => self.make_another(),
        }
    }

    /// Repeats the request with its key until it is answered: it must be carried out once.
    fn make_another(&mut self) {
        let name = format!("{}-{}", self.agent, self.count);
        let uid = 2_000_000 + self.count * 10 + u64::try_from(self.agent.len()).unwrap();
        let uid = uid + u64::from(self.agent.as_bytes()[1]) * 1_000_000;
        let body = json!({"name": name, "enclave": "lab-1", "unix_user": uid.to_string()}).to_string();
        let request = Request::post("/api/v1/agents").json(&body).header("Idempotency-Key", &name);
        let made = within(Duration::from_secs(60), || match self.send(&request) {
            Outcome::Done(response) => Some(response),
            Outcome::Refused(response) => panic!("{response:?}"),
            Outcome::Unknown => None,
        });
        let made = made.expect("the control plane comes back");
        // A repeated answer comes by another request than the one that the audit log names.
        self.requests.pop();
        self.made += 1;
        assert_eq!(made.json()["name"], name.as_str());
        self.others.insert(name, Possible::exactly(true));
    }

    fn delete_another(&mut self, name: &str) {
        let outcome = self.send(&Request::delete(&format!("/api/v1/agents/{name}")));
        let there = self.others.get_mut(name).unwrap();
        match outcome {
            Outcome::Done(_) => there.became(false),
            Outcome::Unknown => there.perhaps_became(false),
            Outcome::Refused(response) => {
                assert_eq!(response.status, 404, "{response:?}");
                assert!(there.may_be(&false), "an acknowledged agent is gone");
                there.became(false);
            }
        }
    }

    /// Asks the first operator that can be reached. Any failure on the way leaves open what was done.
    fn send(&mut self, request: &Request) -> Outcome {
        let connected = self.operators.iter().position(|operator| operator.connect().is_ok());
        let Some(connected) = connected else {
            within(Duration::from_millis(5), || None::<()>);
            return Outcome::Unknown;
        };
        match self.operators[connected].try_send(request) {
            Ok(response) if response.status < 300 => {
                self.remember(&response);
                Outcome::Done(response)
            }
            Ok(response) if response.status < 500 => Outcome::Refused(response),
            Ok(response) => {
                assert_eq!(response.status, 503, "{response:?}");
                within(Duration::from_millis(5), || None::<()>);
                Outcome::Unknown
            }
            Err(_) => Outcome::Unknown,
        }
    }

    fn remember(&mut self, response: &Response) {
        let revision = response.header("dvx-revision").and_then(|text| text.parse().ok());
        let revision: u64 = revision.unwrap_or_else(|| panic!("a change has a revision: {response:?}"));
        // Deciding nothing new, an answer may name a revision again.
        if self.revisions.last() != Some(&revision) {
            assert!(
                self.revisions.last().is_none_or(|last| *last < revision),
                "revisions go up: {response:?}"
            );
            self.revisions.push(revision);
        }
        self.requests.push(response.header("x-request-id").unwrap_or_default().to_owned());
    }

    /// Compares what is there, at the control plane and at the broker, with what may be there.
    pub(crate) fn check(&self, admin: &Operator, caller: &Caller, events: &[Value]) {
        let listed = admin.get(&format!("/agents/{}/secrets", self.agent));
        let listed: Vec<&Value> = listed["items"].as_array().unwrap().iter().collect();
        for (name, possible) in &self.secrets {
            let answer = caller.get(&format!("/v1/agent/secrets/{name}"));
            let value = match answer.status {
                200 => Some(answer.json()["value"].as_str().unwrap().to_owned()),
                404 => None,
                _ => panic!("{}: {answer:?}", self.agent),
            };
            assert!(possible.may_be(&value), "{} {name}: {value:?} is none of {possible:?}", self.agent);
            let info = listed.iter().find(|info| info["name"] == *name);
            assert_eq!(info.is_some(), value.is_some(), "broker and control plane differ on {name}");
            self.check_last_event(name, value.is_some(), events);
        }
        for (name, there) in &self.others {
            let status = admin.call("GET", &format!("/agents/{name}"), &Value::Null).status;
            assert!(there.may_be(&(status == 200)), "{name}: {status}, {there:?}");
            let made = |event: &&Value| {
                text(event, "action") == "agent.create"
                    && text(event, "agent") == name
                    && text(event, "decision") == "allowed"
            };
            assert_eq!(events.iter().filter(made).count(), 1, "{name} was made once");
        }
        for request in &self.requests {
            let found = events.iter().any(|event| text(event, "request_id") == request);
            assert!(found, "an acknowledged change is not in the audit log: {request}");
        }
    }

    /// A change and its event come together or not at all.
    fn check_last_event(&self, name: &str, there: bool, events: &[Value]) {
        let about = |event: &&Value| {
            text(event, "agent") == self.agent
                && text(event, "subject").ends_with(name)
                && text(event, "decision") == "allowed"
                && ["secret.set", "secret.delete"].contains(&text(event, "action"))
        };
        let last = events.iter().rfind(about).map(|event| text(event, "action"));
        assert_eq!(last == Some("secret.set"), there, "{} {name}: the last event is {last:?}", self.agent);
    }
}
