//! The control plane, with an instance of GitLab that it reaches by TLS.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dvx_tests::{
    Connection, Lab, Operator, Request, look_at_its_end, random_alphanumeric, run, skip_without_root,
};
use nix::sys::signal::Signal;
use p256::Scalar;
use p256::elliptic_curve::PrimeField;
use serde_json::{Value, json};

use crate::plants::Plants;
use crate::report::{self, Row};

mod gitlab;

/// A control plane with a broker and GitLab, and what was planted.
struct Stage {
    lab: Lab,
    plants: Plants,
    /// Connections that stay open.
    kept: Vec<Connection>,
    provider: String,
    /// What was found, where a path has looked by itself.
    row: Option<Row>,
}

type Path = (&'static str, fn(&mut Stage));

/// The title of its table.
pub(crate) const TITLE: &str = "dvx-control";

/// The rows of its table.
pub(crate) fn paths() -> Vec<String> {
    PATHS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Everything that touches a secret, in the order in which it is done. After each the memory is searched.
const PATHS: &[Path] = &[
    ("the start, with a broker that takes everything", Stage::begin),
    ("tokens of operators", Stage::operators),
    ("keys of enclaves", Stage::enclaves),
    ("wrong tokens and keys", Stage::wrong_tokens),
    ("an agent's secret over the Unix socket", Stage::by_unix),
    ("the organisation's secret over TLS", Stage::by_tls),
    ("a value of nearly 64 KiB", Stage::large),
    ("connections that are kept", Stage::keep),
    ("kept connections whose requests came in pieces", Stage::pieces),
    ("values in requests that are refused", Stage::refused),
    ("values in requests that are cut off in the middle", Stage::cut_off),
    ("a value that is replaced", Stage::replace),
    ("a value that is deleted", Stage::delete),
    ("a broker that takes everything again", Stage::snapshot),
    ("an agent that is isolated and restored", Stage::isolate),
    ("a link by a token", Stage::link),
    ("a token that the broker reports", Stage::report),
    ("an unlink", Stage::unlink),
    ("links that GitLab refuses, or whose answer is lost", Stage::link_refused),
    ("a credential provider", Stage::provider),
    ("a credential provider that is refused", Stage::provider_refused),
    ("a link to an identity that is made", Stage::mint),
    ("a rotation", Stage::rotate),
    ("a repair", Stage::repair),
    ("an unlink of an identity that was made", Stage::unlink),
    ("a link to a project's token, and its unlink", Stage::project),
    ("another token for the credential provider, and its end", Stage::end_provider),
    ("another certificate and key", Stage::renew),
    ("another key-encryption key", Stage::rekey),
    ("the end of the process", Stage::end),
];

impl Stage {
    fn new() -> Self {
        let mut lab = Lab::start();
        let ca = lab.gitlab.ca_path();
        lab.control.set_environment(&[("SSL_CERT_FILE", &ca.display().to_string())]);
        lab.crash();
        let plants = Plants::new(&lab.control.ground.root().display().to_string());
        Self { lab, plants, kept: Vec::new(), provider: String::new(), row: None }
    }

    /// Over the Unix socket.
    fn unix(&self) -> Operator {
        self.lab.control.admin()
    }

    fn tls(&self) -> Operator {
        self.lab.control.operator_by_tls(Some(self.lab.control.token()))
    }

    fn begin(&mut self) {
        let texts = [self.plants.text("FIRST"), self.plants.text("GONE")];
        for (name, value) in ["FIRST", "GONE"].into_iter().zip(&texts) {
            let revision = self.unix().set_secret(Some("alpha"), name, value);
            self.unix().delivered(revision);
        }
        self.plant_keys();
        let token = self.lab.control.token().trim_start_matches("dvxo_").to_owned();
        self.plants.set("the first operator's token", &token);
    }

    /// The keys that the control plane reads from files.
    fn plant_keys(&mut self) {
        let text = fs::read_to_string(self.lab.control.kek_path()).unwrap();
        self.plants.set("the key-encryption key", STANDARD.decode(text.trim()).unwrap());
        let text = fs::read_to_string(self.lab.control.tls_key_path()).unwrap();
        let text: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(text).unwrap();
        // RFC 5915: an octet string of 32 bytes. The public key comes behind.
        assert_eq!(der[34..36], [4, 32]);
        let number: [u8; 32] = der[36..68].try_into().unwrap();
        self.plants.set("the certificate's key", number);
        // As the library calculates with it: times 2^256, in words of this machine.
        let number = Scalar::from_repr(number.into()).unwrap();
        let mut words = (0..256).fold(number, |number, _| number.double()).to_repr();
        words.reverse();
        self.plants.set("the certificate's key, in words", words);
    }

    fn plant_token(&mut self, name: &str, token: &str) {
        let (_, random) = token.split_once('_').unwrap();
        self.plants.set(name, random);
    }

    fn operators(&mut self) {
        for (name, operator) in [("by-unix", self.unix()), ("by-tls", self.tls())] {
            let token = operator.create_operator(name, "operator");
            self.plant_token(&format!("the operator's token {name}"), &token);
            assert_eq!(self.lab.control.operator(&token).get("/whoami")["name"], name);
            assert_eq!(self.lab.control.operator_by_tls(Some(&token)).get("/whoami")["name"], name);
        }
        let printed = self.lab.control.dvx(&["operator", "create", "by-dvx", "--role", "auditor"]).success();
        self.plant_token("the operator's token by-dvx", printed.trim());
    }

    fn enclaves(&mut self) {
        for (name, operator) in [("by-unix", self.unix()), ("by-tls", self.tls())] {
            let key = operator.create_enclave(name);
            self.plant_token(&format!("the enclave's key {name}"), &key);
            let ack = Request::post("/v1/enclave/ack").bearer(&key).json(r#"{"revision":1}"#);
            self.lab.control.peer().send(&ack);
        }
    }

    fn wrong_tokens(&mut self) {
        for prefix in ["dvxo_", "dvxe_", ""] {
            let wrong = format!("{prefix}{}", random_alphanumeric(43));
            self.plants.set(&format!("a wrong token {prefix}"), wrong.trim_start_matches(prefix));
            for operator in
                [self.lab.control.operator(&wrong), self.lab.control.operator_by_tls(Some(&wrong))]
            {
                assert_eq!(operator.call("GET", "/whoami", &Value::Null).status, 401);
                assert_eq!(operator.send(&Request::get("/v1/enclave/watch")).status, 401);
            }
        }
    }

    fn by_unix(&mut self) {
        let value = self.plants.text("UNIX");
        self.unix().set_secret(Some("alpha"), "UNIX", &value);
        let token = self.plants.token("github");
        let revision = self.unix().set_token("alpha", "github", &token);
        self.unix().delivered(revision);
    }

    fn by_tls(&mut self) {
        let value = self.plants.text("TLS");
        let revision = self.tls().set_secret(None, "TLS", &value);
        self.unix().delivered(revision);
    }

    fn large(&mut self) {
        let value = self.plants.large("LARGE");
        self.unix().set_secret(Some("alpha"), "LARGE", &value);
        let value = self.plants.large("LARGE_TLS");
        let revision = self.tls().set_secret(Some("alpha"), "LARGE_TLS", &value);
        self.unix().delivered(revision);
    }

    fn put(&self, name: &str, value: &str) -> Request {
        let body = json!({"value": value}).to_string();
        let path = format!("/api/v1/agents/alpha/secrets/{name}");
        Request::put(&path).bearer(self.lab.control.token()).json(&body)
    }

    fn keep(&mut self) {
        for (name, operator) in [("KEPT", self.unix()), ("KEPT_TLS", self.tls())] {
            let value = self.plants.text(name);
            let mut connection = operator.connect().unwrap();
            let answer = connection.exchange(&self.put(name, &value));
            assert!((200..300).contains(&answer.status), "{answer:?}");
            self.kept.push(connection);
        }
    }

    fn pieces(&mut self) {
        let pid = self.pid();
        for (name, operator) in [("PIECES", self.unix()), ("PIECES_TLS", self.tls())] {
            let value = self.plants.text(name);
            let mut connection = operator.connect().unwrap();
            let bytes = self.put(name, &value).header("X-Long", &"x".repeat(9000)).bytes("dvx");
            let mut from = 0;
            for to in [20, 9000, bytes.len() - 30, bytes.len()] {
                connection.send(&bytes[from..to]).unwrap();
                dvx_tests::at_rest(pid);
                from = to;
            }
            assert!(connection.response().unwrap().status < 300);
            // What comes next is shorter than what was there.
            if connection.send(&self.put(name, &value).bytes("dvx")).is_ok() {
                drop(connection.response());
            }
            self.kept.push(connection);
        }
    }

    fn refused(&mut self) {
        let mut value = || self.plants.text(&format!("refused {}", random_alphanumeric(4)));
        let requests = [
            ("PUT", "/agents/nobody/secrets/NAME", json!({"value": value()})),
            ("PUT", "/agents/alpha/secrets/NAME", json!({"value": value(), "what": value()})),
            ("PUT", "/agents/alpha/secrets/NAME", json!({"value": [value()]})),
            ("PUT", "/agents/alpha/secrets/NAME", json!({"value": value().repeat(2000)})),
            (
                "PUT",
                "/agents/alpha/secrets/github:token",
                json!({"value": value(), "agent_accessible": false}),
            ),
            ("POST", "/agents", json!({"name": value()})),
            ("POST", "/nothing", json!({"value": value()})),
        ];
        for (method, path, body) in &requests {
            for operator in [self.unix(), self.tls()] {
                let answer = operator.call(method, path, body);
                assert!(answer.status >= 400, "{method} {path}: {answer:?}");
            }
        }
        let auditor = self.unix().create_operator(&random_alphanumeric(6).to_lowercase(), "auditor");
        self.plant_token("an auditor's token", &auditor);
        let body = json!({"value": self.plants.text("an auditor's")});
        let answer = self.lab.control.operator(&auditor).call("PUT", "/agents/alpha/secrets/NAME", &body);
        assert_eq!(answer.status, 403);
        let broken = format!("{{\"value\":{}", json!(self.plants.text("broken")));
        let request = Request::put("/api/v1/agents/alpha/secrets/NAME").json(&broken);
        assert_eq!(self.unix().send(&request).status, 400);
    }

    fn cut_off(&mut self) {
        let pid = self.pid();
        for (name, operator) in [("cut off", self.unix()), ("cut off by TLS", self.tls())] {
            let value = self.plants.text(name);
            let long = self.plants.large(&format!("{name}, long"));
            for value in [&value, &long] {
                let bytes = self.put("NAME", value).bytes("dvx");
                let mut connection = operator.connect().unwrap();
                connection.send(&bytes[..bytes.len() - 5]).unwrap();
                dvx_tests::at_rest(pid);
            }
        }
    }

    fn replace(&mut self) {
        for name in ["UNIX", "TLS"] {
            let value = self.plants.text(name);
            let agent = if name == "TLS" { None } else { Some("alpha") };
            let revision = self.tls().set_secret(agent, name, &value);
            self.unix().delivered(revision);
        }
    }

    fn delete(&mut self) {
        let revision = self.unix().delete_secret(Some("alpha"), "GONE");
        self.unix().delivered(revision);
        self.plants.remove("GONE");
    }

    fn snapshot(&mut self) {
        self.lab.world.kill();
        self.lab.world.start();
        assert_eq!(self.lab.world.caller("alpha").get("/v1/agent/secrets/LARGE").status, 200);
    }

    fn isolate(&mut self) {
        for verb in ["isolate", "restore"] {
            let revision = self.unix().set_state("alpha", verb);
            self.unix().delivered(revision);
        }
    }

    fn renew(&mut self) {
        self.lab.control.renew_certificate();
        self.plant_keys();
        let value = self.plants.text("RENEWED");
        let revision = self.tls().set_secret(Some("alpha"), "RENEWED", &value);
        self.unix().delivered(revision);
    }

    fn rekey(&mut self) {
        let control = &self.lab.control;
        let new = control.ground.path("keys/new-kek");
        let key = random_alphanumeric(32);
        control.write_private(&new, &format!("{}\n", STANDARD.encode(&key)));
        run(&mut control.command(&["rekey", "--new-kek-file", new.to_str().unwrap()])).success();
        self.plants.set("the key-encryption key", &key);
        self.snapshot();
    }

    fn end(&mut self) {
        let pid = self.pid();
        let Self { plants, lab, .. } = self;
        let stop = || lab.control.replica().daemon().signal(Signal::SIGTERM);
        self.row = Some(look_at_its_end(pid, stop, || plants.look(pid, "the end of the process")));
        self.lab.control.stop();
    }

    fn pid(&mut self) -> u32 {
        self.lab.control.replica().daemon().pid()
    }
}

#[test]
fn a_control_plane_shows_nothing() {
    if skip_without_root("a_control_plane_shows_nothing") {
        return;
    }
    let mut stage = Stage::new();
    let mut rows = Vec::new();
    for (name, take) in PATHS {
        take(&mut stage);
        stage.note_issued();
        rows.push(stage.row.take().unwrap_or_else(|| {
            let pid = stage.pid();
            stage.plants.look(pid, name)
        }));
    }
    report::settle(TITLE, &rows);
}
