//! What the control plane's database says that there is at GitLab, against what there is.

use std::collections::BTreeSet;
use std::process::Command;

use dvx_proto::Fingerprint;
use serde_json::{Value, json};

use super::Lab;
use crate::run;

/// Rows of the running control plane's database, without any value of a token.
const SCRIPT: &str = "import json, sqlite3, sys
db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=20)
db.row_factory = sqlite3.Row
rows = lambda sql: [dict(row) for row in db.execute(sql)]
print(json.dumps({
    'running': rows(\"select id, kind, agent, step, last_error from operations where state = 'running'\"),
    'minted': rows(\"select kind, name, external_id, state, last_error from minted where state <> 'gone'\"),
    'linked': rows(\"select a.name agent, i.token_id, i.username, i.status from integrations i \"
                   \"join agents a on a.id = i.agent_id where i.origin = 'minted'\"),
    'held': db.execute(\"select (select count(*) from operations where state = 'running' and holder is not null) + \"
                       \"(select count(*) from minted where state <> 'gone' and holder is not null)\").fetchone()[0],
    'providers': rows('select name, status, token_id, reason from credential_providers')}))";

impl Lab {
    /// What is in the database. Only on SQLite, and while the control plane runs.
    #[track_caller]
    pub fn books(&self) -> Value {
        let mut command = Command::new("python3");
        let text = run(command.args(["-ISc", SCRIPT]).arg(self.control.data().join("control.db"))).success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Whether nothing is under way and GitLab holds exactly the identities and tokens that the database knows,
    /// each used by one of these agents, who are served tokens that work. Gives what it knows; an error says what
    /// differs.
    pub fn balance(&self, agents: &[&str]) -> Result<Value, String> {
        let (books, live) = (self.books(), self.gitlab.live());
        let compared = compare(&books, &live).map_err(String::from);
        let same =
            compared.and_then(|()| agents.iter().try_for_each(|agent| self.serves(agent, &books, &live)));
        match same {
            Ok(()) => Ok(books),
            Err(why) => Err(format!("{why}: known are {books:#} and there are {live:#}")),
        }
    }

    fn serves(&self, agent: &str, books: &Value, live: &Value) -> Result<(), String> {
        let row = list(&books["linked"]).find(|row| row["agent"] == agent);
        match (self.served(agent), row) {
            (None, None) => Ok(()),
            (Some(token), Some(row)) if row["status"] == "active" => {
                let token = Fingerprint::of(token.as_bytes()).to_string();
                let same = |live: &Value| live["fingerprint"] == *token && live["id"] == row["token_id"];
                let found = list(&live["tokens"]).any(same);
                if found {
                    Ok(())
                } else {
                    Err(format!("{agent} is served a token that is not the live one"))
                }
            }
            (served, _) => Err(format!("{agent} is served: {}", served.is_some())),
        }
    }

    /// Checks that no token was presented again, anywhere, once it may have been used up at a rotate endpoint, at
    /// which GitLab would revoke all that came of it. A token is used up unless GitLab said that it was not.
    #[track_caller]
    pub fn assert_none_is_used_up_twice(&self) {
        let mut used_up = BTreeSet::new();
        for request in self.gitlab.requests() {
            let token = request["token"].as_str().unwrap_or_default().to_owned();
            assert!(!used_up.contains(&token), "a token that may be used up was presented: {request}");
            let rotates = request["path"].as_str().is_some_and(|path| path.ends_with("/rotate"));
            let refused = request["status"].as_u64().is_some_and(|status| (400..500).contains(&status));
            if rotates && (!refused || !request["fault"].is_null()) {
                used_up.insert(token);
            }
        }
    }
}

fn compare(books: &Value, live: &Value) -> Result<(), &'static str> {
    if books["running"] != json!([]) || list(&books["minted"]).any(|row| row["state"] != "used") {
        return Err("something is under way");
    }
    let known = |account: bool| {
        let rows = list(&books["minted"]).filter(|row| (row["kind"] == "account") == account);
        ids(rows, "external_id")
    };
    let accounts = list(&live["identities"]).filter(|identity| identity["kind"] == "service_account");
    let tokens = ids(list(&live["tokens"]), "id");
    if ids(accounts, "id") != known(true) || tokens != known(false) {
        return Err("the database knows others than there are");
    }
    if ids(list(&live["identities"]), "id") != ids(list(&live["tokens"]), "user_id") {
        return Err("there is an identity without a token");
    }
    if ids(list(&books["linked"]), "token_id") != tokens {
        return Err("there are others than the agents'");
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}

fn ids<'v>(rows: impl Iterator<Item = &'v Value>, key: &str) -> BTreeSet<String> {
    rows.map(|row| row[key].to_string()).collect()
}
