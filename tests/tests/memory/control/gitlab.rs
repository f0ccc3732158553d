//! What links agents to GitLab, and ends that.

use dvx_proto::Fingerprint;
use dvx_tests::{Mode, Outcome, eventually, run};
use serde_json::{Value, json};

use super::Stage;

impl Stage {
    /// Takes note of the tokens that GitLab has issued by now, and of which of them work.
    pub(super) fn note_issued(&mut self) {
        let secrets = self.lab.gitlab.sim("GET", "/secrets", &Value::Null);
        for token in secrets.as_array().unwrap().iter().map(|token| token.as_str().unwrap()) {
            let name = format!("GitLab's token {}", Fingerprint::of(token.as_bytes()));
            let works = self.lab.works(token);
            // The rest says whose it is.
            let random = &token.trim_start_matches("glpat-")[..20];
            self.plants.note(&name, random, works);
        }
    }

    fn link_with(&self, token: &str) -> Outcome {
        let url = self.lab.gitlab.https_url();
        let arguments = ["--pat", token, "--instance-url", &url];
        self.lab.checked(run(&mut self.lab.link_command("alpha", &arguments)))
    }

    pub(super) fn link(&mut self) {
        let token = self.lab.gitlab.token("dana", &["api"]);
        self.link_with(&token).success();
    }

    pub(super) fn report(&mut self) {
        let token = self.lab.served("alpha").unwrap();
        let body = json!({"fingerprint": Fingerprint::of(token.as_bytes()).to_string()}).to_string();
        let answer = self.lab.world.caller("alpha").post("/v1/agent/credentials/gitlab/rejected", &body);
        assert_eq!(answer.status, 202);
    }

    pub(super) fn unlink(&mut self) {
        self.lab.unlink("alpha").success();
    }

    pub(super) fn link_refused(&mut self) {
        let revoked =
            self.lab.gitlab.token_with(&json!({"user": "dana", "scopes": ["api"], "revoked": true}));
        self.link_with(&revoked).failure(4);
        for kind in ["truncate", "lose_answer", "garbage"] {
            let token = self.lab.gitlab.token("dana", &["api"]);
            let always = json!({"path": "/api/v4/user", "times": null, "action": {"kind": kind}});
            self.lab.gitlab.sim("POST", "/faults", &always);
            assert_ne!(self.link_with(&token).status, 0, "{kind}");
            self.lab.gitlab.come_back();
        }
        let unknown = self.plants.token("a token of another instance");
        self.link_with(&unknown).failure(4);
    }

    fn create_provider(&self, name: &str, token: &str) -> Outcome {
        let url = self.lab.gitlab.https_url();
        self.lab.create_provider(name, token, Mode::ServiceAccount, &["--instance-url", &url])
    }

    pub(super) fn provider(&mut self) {
        let token = self.lab.gitlab.token("olga", &["api"]);
        let made: Value = serde_json::from_str(&self.create_provider("main", &token).success()).unwrap();
        self.provider = made["id"].as_str().unwrap().to_owned();
    }

    pub(super) fn provider_refused(&mut self) {
        let token = self.lab.gitlab.token("max", &["api"]);
        self.create_provider("other", &token).failure(4);
    }

    pub(super) fn mint(&mut self) {
        self.lab.link_minted("alpha", &self.provider, Mode::ServiceAccount).success();
    }

    pub(super) fn rotate(&mut self) {
        self.lab.dvx(&["agent", "integration", "gitlab", "rotate", "alpha"]).success();
    }

    pub(super) fn repair(&mut self) {
        let token = self.lab.served("alpha").unwrap();
        self.lab.gitlab.revoke(&token);
        self.report();
        eventually("another token is there", || self.lab.served("alpha").is_some_and(|new| new != token));
    }

    pub(super) fn project(&mut self) {
        let url = self.lab.gitlab.https_url();
        let provider = self.lab.provider("projects", Mode::ProjectToken, &["--instance-url", &url]);
        self.lab.link_minted("alpha", &provider, Mode::ProjectToken).success();
        self.unlink();
        self.delete_provider(&provider);
    }

    pub(super) fn end_provider(&mut self) {
        let token = self.lab.gitlab.token("olga", &["api"]);
        self.lab.dvx(&["credential-provider", "rotate", &self.provider, "--token", &token]).success();
        self.delete_provider(&self.provider);
    }

    /// GitLab takes its time to remove what a provider has made; the provider is kept until then.
    fn delete_provider(&self, provider: &str) {
        eventually("nothing is left to do", || self.lab.debts().is_empty());
        self.lab.dvx(&["credential-provider", "delete", provider, "--yes"]).success();
    }
}
