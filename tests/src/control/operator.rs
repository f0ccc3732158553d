//! A client of the operator API.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::{Authority, Connection, Planted, Request, Response, tls};

/// Somebody who asks the control plane.
#[derive(Clone)]
pub struct Operator {
    place: Place,
    token: Option<String>,
    planted: Planted,
}

#[derive(Clone)]
enum Place {
    Unix(PathBuf),
    Tls(SocketAddr, Arc<ClientConfig>),
}

impl Operator {
    pub(super) fn unix(socket: &Path, token: Option<&str>, planted: &Planted) -> Self {
        let place = Place::Unix(socket.to_path_buf());
        Self { place, token: token.map(String::from), planted: planted.clone() }
    }

    pub(super) fn tls(
        address: SocketAddr,
        authority: &Authority,
        token: Option<&str>,
        planted: &Planted,
    ) -> Self {
        let place = Place::Tls(address, authority.client());
        Self { place, token: token.map(String::from), planted: planted.clone() }
    }

    /// A new connection.
    pub fn connect(&self) -> std::io::Result<Connection> {
        let connection = match &self.place {
            Place::Unix(path) => Connection::unix(UnixStream::connect(path)?),
            Place::Tls(address, config) => tls::connect(*address, Arc::clone(config))?,
        };
        Ok(connection.with_chunks())
    }

    /// The answer to one request on a connection of its own, where there is one.
    pub fn try_send(&self, request: &Request) -> std::io::Result<Response> {
        let mut connection = self.connect()?;
        let request = match &self.token {
            Some(token) => request.clone().bearer(token),
            None => request.clone(),
        };
        let bytes = request.header("Connection", "close").bytes(connection.host());
        // A server may answer and close before it has read everything.
        drop(connection.send(&bytes));
        connection.response()
    }

    /// The answer to one request on a connection of its own.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.try_send(request).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
    }

    /// The JSON of a GET below `/api/v1`, which must succeed.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let response = self.send(&Request::get(&format!("/api/v1{path}")));
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.json()
    }

    /// The answer to a request with a JSON body below `/api/v1`.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        let request = Request::new(method, &format!("/api/v1{path}"));
        self.send(&if body.is_null() { request } else { request.json(&body.to_string()) })
    }

    /// The same, which must succeed; the answer is the revision of the change.
    #[track_caller]
    pub fn change(&self, method: &str, path: &str, body: &Value) -> u64 {
        let response = self.call(method, path, body);
        assert!((200..300).contains(&response.status), "{method} {path}: {response:?}");
        revision(&response)
    }

    /// Makes an enclave and gives its API key.
    #[track_caller]
    pub fn create_enclave(&self, name: &str) -> String {
        let response = self.call("POST", "/enclaves", &json!({"name": name}));
        assert_eq!(response.status, 201, "{response:?}");
        let key = response.json()["api_key"].as_str().unwrap().to_owned();
        self.planted.remember(&format!("the API key of {name}"), &key);
        key
    }

    /// Makes an operator and gives its token.
    #[track_caller]
    pub fn create_operator(&self, name: &str, role: &str) -> String {
        let response = self.call("POST", "/operators", &json!({"name": name, "role": role}));
        assert_eq!(response.status, 201, "{response:?}");
        let token = response.json()["token"].as_str().unwrap().to_owned();
        self.planted.remember(&format!("the token of {name}"), &token);
        token
    }

    /// Makes an agent.
    #[track_caller]
    pub fn create_agent(&self, name: &str, enclave: &str, uid: u32) -> u64 {
        let body = json!({"name": name, "enclave": enclave, "unix_user": uid.to_string()});
        self.change("POST", "/agents", &body)
    }

    /// Sets a secret of an agent, or of the organisation, that agents may get by name.
    #[track_caller]
    pub fn set_secret(&self, agent: Option<&str>, name: &str, value: &str) -> u64 {
        self.change("PUT", &secret_path(agent, name), &json!({"value": value}))
    }

    /// Gives an agent a credential.
    #[track_caller]
    pub fn set_token(&self, agent: &str, provider: &str, token: &str) -> u64 {
        let body = json!({"value": token, "agent_accessible": false});
        self.change("PUT", &secret_path(Some(agent), &format!("{provider}:token")), &body)
    }

    /// Gives an agent a new credential, which from now on must not be found anywhere.
    #[track_caller]
    pub fn plant(&self, agent: &str, provider: &str) -> String {
        let token = self.planted.token(&format!("{provider} token of {agent}"));
        self.set_token(agent, provider, &token);
        token
    }

    /// Deletes a secret.
    #[track_caller]
    pub fn delete_secret(&self, agent: Option<&str>, name: &str) -> u64 {
        self.change("DELETE", &secret_path(agent, name), &Value::Null)
    }

    /// Isolates, restores, revokes or reprovisions an agent.
    #[track_caller]
    pub fn set_state(&self, agent: &str, verb: &str) -> u64 {
        let body = match verb {
            "isolate" | "revoke" => json!({"reason": "a test"}),
            _ => Value::Null,
        };
        self.change("POST", &format!("/agents/{agent}/{verb}"), &body)
    }

    /// Waits until every broker that a change concerns has it in force.
    #[track_caller]
    pub fn delivered(&self, revision: u64) {
        let delivery = self.get(&format!("/deliveries/{revision}?wait_seconds=20"));
        assert_eq!(delivery["complete"], true, "{delivery}");
    }

    /// The enclaves whose brokers have not confirmed a change.
    #[track_caller]
    pub fn missing(&self, revision: u64) -> Vec<String> {
        let delivery = self.get(&format!("/deliveries/{revision}"));
        let missing = delivery["missing"].as_array().unwrap().iter();
        missing.map(|missing| missing["enclave"].as_str().unwrap().to_owned()).collect()
    }

    /// Audit events, oldest first, of all pages; `query` such as `agent=alpha`.
    #[track_caller]
    pub fn audit(&self, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/audit?limit=1000&{query}{after}"));
            events.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return events,
            }
        }
    }
}

/// The revision that an answer names; 0 where it names none.
pub(crate) fn revision(response: &Response) -> u64 {
    response.header("dvx-revision").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn secret_path(agent: Option<&str>, name: &str) -> String {
    match agent {
        Some(agent) => format!("/agents/{agent}/secrets/{name}"),
        None => format!("/secrets/{name}"),
    }
}
