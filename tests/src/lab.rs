//! Everything at once: a GitLab, a control plane, and a broker with agents.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::AtomicI64;

use dvx_proto::Fingerprint;
use serde_json::{Value, json};

use crate::control::ControlBuilder;
use crate::world::Builder;
use crate::{ControlPlane, GitLab, Outcome, Planted, World, eventually, run};

mod books;
mod time;

/// The group in which identities are made.
const GROUP: &str = "acme";

/// What a credential provider makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A service account for each agent.
    ServiceAccount,
    /// A project access token for each agent.
    ProjectToken,
}

impl Mode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::ProjectToken => "project_access_token",
        }
    }
}

/// A GitLab with a private group `acme` and its project `acme/app`, a control plane that may reach it, and a
/// broker with the agent `alpha`. Everything that they wrote is searched for every token that GitLab ever issued.
pub struct Lab {
    /// The broker.
    pub world: World,
    /// The control plane.
    pub control: ControlPlane,
    /// The instance.
    pub gitlab: GitLab,
    /// How far its time has passed.
    seconds: AtomicI64,
}

impl Lab {
    /// One, with everything running.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(ControlPlane::builder(), World::single())
    }

    /// The same with a control plane and a broker of another make.
    #[track_caller]
    pub fn with(control: ControlBuilder, world: Builder) -> Self {
        let gitlab = GitLab::start(&seed());
        let control = control.set("gitlab", "allow_private", "[\"127.0.0.0/8\"]").start();
        let mut world = world.control(&control).trusted().build();
        world.start();
        Self { world, control, gitlab, seconds: AtomicI64::new(0) }
    }

    /// Runs `dvx` as the first operator. Neither of its outputs may show a token.
    #[track_caller]
    pub fn dvx(&self, arguments: &[&str]) -> Outcome {
        self.checked(run(self.control.dvx_command().args(arguments)))
    }

    /// Checks that an outcome shows no token.
    #[track_caller]
    pub fn checked(&self, outcome: Outcome) -> Outcome {
        let planted = Planted::default();
        self.gitlab.plant(&planted);
        for (what, text) in [("stdout", &outcome.stdout[..]), ("stderr", outcome.stderr.as_bytes())] {
            let found = [planted.found_in(text), self.control.planted.found_in(text)].concat();
            assert!(found.is_empty(), "dvx shows {found:?} on {what}");
        }
        outcome
    }

    /// The JSON that `dvx … -o json` prints.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.dvx(&[arguments, &["-o", "json"]].concat()).success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// `dvx agent integration gitlab link`, told the instance; how the token comes is up to the caller.
    pub fn link_command(&self, agent: &str, arguments: &[&str]) -> Command {
        let mut command = self.control.dvx_command();
        command.args(["agent", "integration", "gitlab", "link", agent]).args(arguments);
        if !arguments.contains(&"--instance-url") && !arguments.contains(&"--credential-provider") {
            command.args(["--instance-url", &self.gitlab.url()]);
        }
        command
    }

    /// Links an agent by a token of somebody.
    #[track_caller]
    pub fn link_pat(&self, agent: &str, token: &str) -> Outcome {
        self.checked(run(&mut self.link_command(agent, &["--pat", token])))
    }

    /// Makes a credential provider with a new token of the group's owner, and gives its id.
    #[track_caller]
    pub fn provider(&self, name: &str, mode: Mode, more: &[&str]) -> String {
        let token = self.gitlab.token("olga", &["api"]);
        let outcome = self.create_provider(name, &token, mode, more);
        let text = outcome.success();
        let made: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        made["id"].as_str().unwrap_or_else(|| panic!("no id: {made}")).to_owned()
    }

    /// `dvx credential-provider create`, to its end.
    #[track_caller]
    pub fn create_provider(&self, name: &str, token: &str, mode: Mode, more: &[&str]) -> Outcome {
        self.checked(run(&mut self.create_provider_command(name, token, mode, more)))
    }

    /// `dvx credential-provider create`.
    pub fn create_provider_command(&self, name: &str, token: &str, mode: Mode, more: &[&str]) -> Command {
        let url = self.gitlab.url();
        let group = self.gitlab.seeded["groups"][GROUP].to_string();
        let mut command = self.control.dvx_command();
        command.args(["credential-provider", "create", "--provider", "gitlab", "--name", name]);
        command.args(["--token", token, "--provisioning-mode", mode.name(), "-o", "json"]);
        if !more.contains(&"--instance-url") {
            command.args(["--instance-url", &url]);
        }
        if !more.contains(&"--group-id") {
            command.args(["--group-id", &group]);
        }
        command.args(more);
        command
    }

    /// Links an agent to an identity of its own.
    #[track_caller]
    pub fn link_minted(&self, agent: &str, provider: &str, mode: Mode) -> Outcome {
        self.checked(run(&mut self.link_minted_command(agent, provider, mode)))
    }

    /// The command that does it.
    pub fn link_minted_command(&self, agent: &str, provider: &str, mode: Mode) -> Command {
        let project = self.gitlab.seeded["projects"]["acme/app"].to_string();
        let mut arguments = vec!["--credential-provider", provider];
        if mode == Mode::ProjectToken {
            arguments.extend(["--project-id", &project]);
        }
        self.link_command(agent, &arguments)
    }

    /// Unlinks an agent.
    #[track_caller]
    pub fn unlink(&self, agent: &str) -> Outcome {
        self.dvx(&["agent", "integration", "gitlab", "unlink", agent, "--yes"])
    }

    /// What an agent is linked to, as it is listed.
    #[track_caller]
    pub fn integrations(&self, agent: &str) -> Vec<Value> {
        let listed = self.json(&["agent", "integration", "list", agent]);
        listed.as_array().expect("lists are arrays").clone()
    }

    /// What could not be cleaned up at GitLab yet.
    #[track_caller]
    pub fn debts(&self) -> Vec<Value> {
        self.json(&["credential-provider", "debts"]).as_array().expect("lists are arrays").clone()
    }

    /// A credential provider, as it is listed.
    #[track_caller]
    pub fn listed_provider(&self, id: &str) -> Value {
        let listed = self.json(&["credential-provider", "list"]);
        let found = listed.as_array().into_iter().flatten().find(|provider| provider["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not in {listed}")).clone()
    }

    /// The token that the broker hands to an agent now.
    #[track_caller]
    pub fn served(&self, agent: &str) -> Option<String> {
        let response = self.world.caller(agent).get("/v1/agent/credentials/gitlab");
        (response.status == 200).then(|| response.json()["token"].as_str().unwrap().to_owned())
    }

    /// Whether a token works at the instance, which is not asked with it.
    #[track_caller]
    pub fn works(&self, token: &str) -> bool {
        let fingerprint = Fingerprint::of(token.as_bytes()).to_string();
        let state = self.gitlab.sim("GET", "/state", &Value::Null);
        let tokens = state["tokens"].as_array().into_iter().flatten();
        tokens
            .filter(|token| token["fingerprint"] == fingerprint.as_str())
            .any(|token| token["active"] == true)
    }

    /// The names of the minted identities that live at the instance.
    #[track_caller]
    pub fn identities(&self) -> BTreeSet<String> {
        names(&self.gitlab.live()["identities"], "username")
    }

    /// The fingerprints of the minted tokens that work.
    #[track_caller]
    pub fn live_tokens(&self) -> BTreeSet<String> {
        names(&self.gitlab.live()["tokens"], "fingerprint")
    }

    /// Whether the instance holds exactly the identities that these agents are served: each has one token that
    /// works, and there is no other. An error says what differs.
    pub fn compare(&self, agents: &[&str]) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        for agent in agents {
            if let Some(token) = self.served(agent) {
                expected.insert(Fingerprint::of(token.as_bytes()).to_string());
            }
        }
        let live = self.gitlab.live();
        let (tokens, identities) = (names(&live["tokens"], "fingerprint"), names(&live["identities"], "id"));
        if tokens != expected {
            return Err(format!("served are {expected:?}; live are {}", live["tokens"]));
        }
        let owners = names(&live["tokens"], "user_id");
        if identities != owners {
            return Err(format!("an identity without a token: {live}"));
        }
        Ok(())
    }

    /// Waits until [`compare`](Self::compare) finds no difference.
    #[track_caller]
    pub fn settle(&self, agents: &[&str]) {
        let mut last = String::new();
        let same = crate::within(crate::clock::PATIENCE, || match self.compare(agents) {
            Ok(()) => Some(()),
            Err(why) => {
                last = why;
                None
            }
        });
        assert!(same.is_some(), "GitLab and the control plane never agreed: {last}");
    }

    /// Waits until there is no minted identity at the instance.
    #[track_caller]
    pub fn eventually_bare(&self) {
        eventually("no identity is left", || {
            let live = self.gitlab.live();
            live["identities"] == json!([]) && live["tokens"] == json!([])
        });
    }

    /// Kills the control plane and starts it again.
    #[track_caller]
    pub fn crash(&mut self) {
        self.control.kill();
        self.control.start_all();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The broker and the control plane look for these when they end, which is right after this.
        if !std::thread::panicking() {
            self.gitlab.plant(&self.control.planted);
        }
    }
}

fn names(list: &Value, key: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    list.as_array().into_iter().flatten().map(|element| text(&element[key])).collect()
}

/// Who and what there is: `olga` owns `acme`, `max` is a Maintainer, `dana` a Developer, `nemo` nobody.
fn seed() -> Value {
    json!({
        "groups": [{"path": "acme", "id": 345}, {"path": "other"}],
        "projects": [{"path": "acme/app"}],
        "users": [
            {"username": "root", "admin": true}, {"username": "olga", "name": "Olga Owner"},
            {"username": "max"}, {"username": "dana"}, {"username": "nemo"},
        ],
        "members": [
            {"of": "acme", "user": "olga", "access_level": 50},
            {"of": "acme", "user": "max", "access_level": 40},
            {"of": "acme", "user": "dana", "access_level": 30},
        ],
    })
}
