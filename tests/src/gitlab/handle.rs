//! A running simulator, as a test holds it.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Connection, Daemon, Planted, Request, Response, binary, eventually_some};

/// A GitLab of the test's own. It ends with this value.
pub struct GitLab {
    directory: TempDir,
    daemon: Daemon,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    /// What the first seed became: ids and token values.
    pub seeded: Value,
}

impl GitLab {
    /// Starts one with this in it ([the form](crate::GitLab::seed)).
    #[track_caller]
    pub fn start(seed: &Value) -> Self {
        let directory = tempfile::Builder::new().prefix("dvx-gitlab-").tempdir().unwrap();
        // Programs of other users read the authority's certificate.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let log = directory.path().join("log");
        let daemon =
            Daemon::start(Command::new(binary("dvx-gitlab")).arg("--directory").arg(directory.path()), &log);
        let ready: Value = eventually_some("the simulator serves", || {
            serde_json::from_slice(&fs::read(directory.path().join("ready.json")).ok()?).ok()
        });
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (http, https, admin) = (address("http"), address("https"), address("admin"));
        let mut gitlab = Self { directory, daemon, http, https, admin, seeded: Value::Null };
        gitlab.seeded = gitlab.seed(seed);
        gitlab
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// `https://127.0.0.1:port`, with a certificate of [its own authority](Self::ca_path).
    pub fn https_url(&self) -> String {
        format!("https://{}", self.https)
    }

    /// Where its authority's certificate lies.
    pub fn ca_path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// A request to its second port, which must succeed.
    #[track_caller]
    pub fn sim(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::new(method, &format!("/_sim{path}"));
        let request = if body.is_null() { request } else { request.json(&body.to_string()) };
        let response = exchange(self.admin, &request);
        assert_eq!(response.status, 200, "{method} {path}: {response:?}");
        response.json()
    }

    /// Adds settings, users, groups, projects, members and tokens; the answer has their ids and values.
    #[track_caller]
    pub fn seed(&self, seed: &Value) -> Value {
        self.sim("POST", "/seed", seed)
    }

    /// Makes a token for somebody, without an end, and gives its value.
    #[track_caller]
    pub fn token(&self, user: &str, scopes: &[&str]) -> String {
        self.token_with(&json!({"user": user, "name": "a test's", "scopes": scopes}))
    }

    /// The same, described in full.
    #[track_caller]
    pub fn token_with(&self, token: &Value) -> String {
        let seeded = self.seed(&json!({"tokens": [token]}));
        seeded["tokens"][0]["value"].as_str().unwrap().to_owned()
    }

    /// Stops its clock there.
    #[track_caller]
    pub fn set_time(&self, now: &str) {
        self.sim("PUT", "/clock", &json!({"now": now}));
    }

    /// Lets its clock run, so far apart from the machine's.
    #[track_caller]
    pub fn shift_time(&self, seconds: i64) {
        self.sim("PUT", "/clock", &json!({"offset_seconds": seconds}));
    }

    /// Changes what an administrator decides.
    #[track_caller]
    pub fn set(&self, settings: &Value) {
        self.sim("PATCH", "/settings", settings);
    }

    /// Asks for one failure of requests to a path: `action` such as `{"kind": "lose_answer"}`.
    #[track_caller]
    pub fn fail(&self, method: &str, path: &str, action: &Value) {
        self.sim("POST", "/faults", &json!({"method": method, "path": path, "action": action}));
    }

    /// From now on loses every connection before anything happens.
    #[track_caller]
    pub fn go_down(&self) {
        let always = json!({"path": "/**", "times": null, "action": {"kind": "lose_request"}});
        self.sim("POST", "/faults", &always);
    }

    /// Forgets every failure that was asked for.
    #[track_caller]
    pub fn come_back(&self) {
        self.sim("DELETE", "/faults", &Value::Null);
    }

    /// The minted identities and tokens that work.
    #[track_caller]
    pub fn live(&self) -> Value {
        self.sim("GET", "/live", &Value::Null)
    }

    /// What it was asked.
    #[track_caller]
    pub fn requests(&self) -> Vec<Value> {
        self.sim("GET", "/requests", &Value::Null).as_array().cloned().unwrap_or_default()
    }

    /// Makes every token that it ever issued one that must not be found.
    #[track_caller]
    pub fn plant(&self, planted: &Planted) {
        let secrets = self.sim("GET", "/secrets", &Value::Null);
        for secret in secrets.as_array().into_iter().flatten().filter_map(Value::as_str) {
            planted.remember("a token of the simulator", secret);
        }
    }

    /// Revokes a token behind its owner's back.
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        let fingerprint = dvx_proto::Fingerprint::of(token.as_bytes());
        self.sim("PATCH", &format!("/tokens/{fingerprint}"), &json!({"revoked": true}));
    }

    /// The answer of the API to a request with a token and a JSON body, where there are such.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Response {
        let mut request = Request::new(method, &format!("/api/v4{path}"));
        if let Some(token) = token {
            request = request.header("PRIVATE-TOKEN", token);
        }
        self.send(&if body.is_null() { request } else { request.json(&body.to_string()) })
    }

    /// The answer to any request, on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        exchange(self.http, request)
    }

    /// A connection to it.
    pub fn connect(&self) -> Connection {
        Connection::tcp(TcpStream::connect(self.http).expect("the simulator runs")).with_chunks()
    }
}

#[track_caller]
fn exchange(address: SocketAddr, request: &Request) -> Response {
    let stream = TcpStream::connect(address).expect("the simulator runs");
    Connection::tcp(stream).with_chunks().exchange(&request.clone().header("Connection", "close"))
}
