//! What callers do, well and badly.

use std::fs;

use dvx_tests::{CallerSpec, Connection, Request, eventually, fresh_uid};

use super::{GIT, GITLAB, Source, Stage};

impl Stage {
    pub(super) fn get_by_unix(&mut self) {
        assert_eq!(self.caller().get(GITLAB).status, 200);
    }

    pub(super) fn get_by_loopback(&mut self) {
        let token = self.agent_token("shown once");
        assert_eq!(self.caller().tcp().exchange(&Request::get(GITLAB).bearer(&token)).status, 200);
    }

    /// A new agent token. Its end is its own, and is looked for.
    fn agent_token(&mut self, name: &str) -> String {
        let token = self.caller().token();
        self.plant_agent_token(name, &token);
        token
    }

    fn plant_agent_token(&mut self, name: &str, token: &str) {
        let (_, signature) = token.trim().rsplit_once('.').unwrap();
        self.plants.set(&format!("agent token, {name}"), signature);
    }

    pub(super) fn issue(&mut self) {
        let file = fs::read_to_string(self.world.ground.path("run/agents/alpha/token")).unwrap();
        self.plant_agent_token("in its file", &file);
        let token = self.agent_token("issued");
        for token in [&token, file.trim()] {
            assert_eq!(self.caller().send(&Request::get(GITLAB).bearer(token)).status, 200);
        }
    }

    pub(super) fn list(&mut self) {
        for path in ["/v1/agent/credentials", "/v1/agent/secrets", "/v1/agent/whoami"] {
            assert_eq!(self.caller().get(path).status, 200);
        }
    }

    pub(super) fn get_secrets(&mut self) {
        for name in ["TEXT", "LARGE"] {
            assert_eq!(self.caller().get(&format!("/v1/agent/secrets/{name}")).status, 200);
        }
    }

    pub(super) fn git(&mut self) {
        assert_eq!(self.caller().post("/v1/agent/git-credential", GIT).status, 200);
    }

    pub(super) fn keep(&mut self) {
        let token = self.agent_token("on kept connections");
        for mut connection in [self.caller().unix(), self.caller().tcp()] {
            for path in [GITLAB, "/v1/agent/secrets/TEXT", "/v1/agent/secrets/LARGE"] {
                assert_eq!(connection.exchange(&Request::get(path).bearer(&token)).status, 200);
            }
            self.kept.push(connection);
        }
    }

    pub(super) fn pieces(&mut self) {
        let token = self.agent_token("in pieces");
        let mut connection = self.caller().unix();
        let long = Request::get(GITLAB).header("X-Long", &"x".repeat(9000)).bearer(&token).bytes("dvx");
        let short = Request::get(GITLAB).bearer(&token).bytes("dvx");
        for request in [short, long] {
            let at_once = request.len() - 10;
            connection.send(&request[..at_once]).unwrap();
            dvx_tests::at_rest(self.world.broker().pid());
            connection.send(&request[at_once..]).unwrap();
            let answer = connection.response().unwrap();
            assert_eq!(answer.status, 200);
            if answer.header("connection") == Some("close") {
                connection = self.caller().unix();
            }
        }
        // This one lies within the room of the long one before.
        if connection.send(&Request::get(GITLAB).bearer(&token).bytes("dvx")).is_ok() {
            drop(connection.response());
        }
        self.kept.push(connection);
    }

    pub(super) fn pipeline(&mut self) {
        let mut connection = self.caller().unix();
        let bytes = Request::get(GITLAB).bytes("dvx").repeat(100);
        connection.send(&bytes).unwrap();
        for _ in 0..100 {
            assert_eq!(connection.response().unwrap().status, 200);
        }
        self.kept.push(connection);
    }

    pub(super) fn ten_thousand(&mut self) {
        let mut connection = self.caller().unix();
        let bytes = Request::get(GITLAB).bytes("dvx").repeat(50);
        for _ in 0..200 {
            connection.send(&bytes).unwrap();
            for _ in 0..50 {
                assert_eq!(connection.response().unwrap().status, 200);
            }
        }
    }

    pub(super) fn crowd(&mut self) {
        let mut crowd: Vec<Connection> = (0..200).map(|_| self.caller().unix()).collect();
        for connection in &mut crowd {
            connection.send(&Request::get(GITLAB).bytes("dvx")).unwrap();
        }
        for connection in &mut crowd {
            assert_eq!(connection.response().unwrap().status, 200);
        }
    }

    pub(super) fn wrong_tokens(&mut self) {
        let token = self.agent_token("changed");
        let wrong = token.replacen('e', "f", 3);
        for token in [&wrong, &token[1..]] {
            assert_eq!(self.caller().send(&Request::get(GITLAB).bearer(token)).status, 401);
        }
        let twice = Request::get(GITLAB).bearer(&token).bearer(&token);
        assert_ne!(self.caller().send(&twice).status, 200);
        assert_eq!(self.caller().tcp().exchange(&Request::get(GITLAB)).status, 401);
    }

    pub(super) fn strangers(&mut self) {
        let token = self.agent_token("of somebody else");
        let stranger = self.world.caller_as(CallerSpec::user(fresh_uid()));
        for request in [Request::get(GITLAB), Request::get(GITLAB).bearer(&token)] {
            assert_eq!(stranger.send(&request).status, 403);
        }
        assert_ne!(stranger.tcp().exchange(&Request::get(GITLAB).bearer(&token)).status, 200);
        assert_eq!(self.caller().get("/v1/agent/credentials/nothing").status, 404);
    }

    pub(super) fn expired(&mut self) {
        let token = self.plants.token("expired");
        match &self.source {
            Source::Directory => {
                self.world.upstream.json("alpha", "expired", r#"{"expires_at":"2026-01-01T00:00:00Z"}"#);
                self.world.upstream.token("alpha", "expired", &token);
            }
            Source::Control(control) => {
                let body = serde_json::json!({
                    "value": token, "agent_accessible": false, "expires_at": "2026-01-01T00:00:00Z",
                });
                control.admin().change("PUT", "/agents/alpha/secrets/expired:token", &body);
            }
        }
        self.eventually("/v1/agent/credentials/expired", 410);
    }

    pub(super) fn limited(&mut self) {
        for (rate, refused) in [("1", true), ("0", false)] {
            self.world.config.set("limits", "requests_per_second", rate);
            self.world.reload();
            eventually("the rate is in force", || (self.caller().get(GITLAB).status == 429) == refused);
        }
        assert_eq!(self.caller().get(GITLAB).status, 200);
    }

    pub(super) fn garbage(&mut self) {
        let token = self.agent_token("within garbage");
        for bytes in [
            Request::new("HEAD", GITLAB).bearer(&token).bytes("dvx"),
            Request::get(GITLAB).without_host().bearer(&token).bytes("dvx"),
            Request::get(GITLAB).bearer(&format!("{token}\0")).bytes("dvx"),
            Request::get(&format!("{GITLAB}?{token}")).bytes("dvx"),
            Request::get("/v1/agent/secrets/TEXT").header("Transfer-Encoding", &token).bytes("dvx"),
            format!("PRI * HTTP/2.0\r\n\r\n{token}").into_bytes(),
            [b"\x16\x03\x01", token.as_bytes()].concat(),
            token.repeat(40).into_bytes(),
        ] {
            let mut connection = self.caller().unix();
            connection.send(&bytes).unwrap();
            connection.finish_sending();
            connection.read_to_end();
        }
    }

    pub(super) fn leave(&mut self) {
        for _ in 0..20 {
            let mut connection = self.caller().unix();
            let bytes = Request::get("/v1/agent/secrets/LARGE").bytes("dvx").repeat(20);
            connection.send(&bytes).unwrap();
            connection.response().unwrap();
        }
    }

    pub(super) fn never_read(&mut self) {
        let mut connection = self.caller().unix();
        // More than a socket takes.
        let bytes = Request::get("/v1/agent/secrets/LARGE").bytes("dvx").repeat(20);
        connection.send(&bytes).unwrap();
        connection.response().unwrap();
        self.slow.push(connection);
    }

    pub(super) fn stall(&mut self) {
        for mut connection in [self.caller().unix(), self.caller().tcp()] {
            let bytes = Request::get(GITLAB).bytes("dvx");
            connection.send(&bytes[..bytes.len() - 2]).unwrap();
            self.slow.push(connection);
        }
    }
}
