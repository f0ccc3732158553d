//! Configuration files.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::Ground;

/// One `[[agents]]` table.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Its user.
    pub uid: u32,
    /// Selectors, as `key = value` texts.
    pub selectors: Vec<String>,
}

impl Agent {
    /// An agent chosen by its user alone.
    pub fn new(name: &str, uid: u32) -> Self {
        Self { name: name.to_owned(), uid, selectors: Vec::new() }
    }

    /// What the operator API takes to make it.
    pub fn json(&self, enclave: &str) -> Value {
        let mut json = json!({"name": self.name, "enclave": enclave, "unix_user": self.uid.to_string()});
        for selector in &self.selectors {
            let (key, value) = selector.split_once(" = ").expect("selectors are key = value");
            // TOML's numbers and plain strings are JSON's.
            json[key] = serde_json::from_str(value).expect("a selector is a number or a string");
        }
        json
    }

    /// Adds a group that the peer must be in.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.selectors.push(format!("gid = {gid}"));
        self
    }

    /// Adds a unit that the peer must be in.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.selectors.push(format!("unit = {unit:?}"));
        self
    }

    /// Adds a control group that the peer must be in.
    #[must_use]
    pub fn cgroup(mut self, path: &str) -> Self {
        self.selectors.push(format!("cgroup = {path:?}"));
        self
    }
}

/// What stands in a world's `broker.toml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The enclave's name.
    pub enclave: String,
    /// The agents.
    pub agents: Vec<Agent>,
    /// Whether the agents come from the upstream and not from this file.
    pub agents_elsewhere: bool,
    /// Table to key to value in TOML. Paths are filled in where they are not set; an empty value leaves a key
    /// out.
    pub settings: BTreeMap<String, BTreeMap<String, String>>,
}

impl Config {
    /// No agents and no settings.
    pub fn new() -> Self {
        Self {
            enclave: "lab-1".into(),
            agents: Vec::new(),
            agents_elsewhere: false,
            settings: BTreeMap::new(),
        }
    }

    /// Sets a key, in TOML's syntax.
    pub fn set(&mut self, table: &str, key: &str, value: &str) {
        self.settings.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// The file's text, with the paths of a world.
    pub fn render(&self, ground: &Ground) -> String {
        let mut all = Self::new();
        for (table, key, path) in [
            ("listen", "unix", "run/broker.sock"),
            ("listen", "admin", "run/broker-admin.sock"),
            ("listen", "agents", "run/agents"),
            ("upstream", "path", "upstream"),
            ("audit", "file", "log/audit.jsonl"),
        ] {
            all.set(table, key, &format!("{:?}", ground.path(path)));
        }
        all.set("upstream", "kind", "\"directory\"");
        for (table, keys) in &self.settings {
            for (key, value) in keys {
                all.set(table, key, value);
            }
        }
        let mut text = format!("enclave = {:?}\n", self.enclave);
        for (table, keys) in &all.settings {
            let keys: Vec<_> = keys.iter().filter(|(_, value)| !value.is_empty()).collect();
            let lines: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            write!(text, "\n[{table}]\n{lines}").unwrap();
        }
        for agent in self.agents.iter().filter(|_| !self.agents_elsewhere) {
            write!(text, "\n[[agents]]\nname = {:?}\nuid = {}\n", agent.name, agent.uid).unwrap();
            agent.selectors.iter().for_each(|selector| writeln!(text, "{selector}").unwrap());
        }
        text
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
