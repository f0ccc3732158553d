//! A web server that answers as a closure says: what is not worth a simulator.

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::git::{Request, answer};

/// What a stub answers with.
pub struct StubAnswer {
    /// Such as `200 OK`.
    pub status: &'static str,
    /// The fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl StubAnswer {
    /// JSON.
    pub fn json(status: &'static str, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", &body.to_string())
    }

    /// A page.
    pub fn html(status: &'static str, body: &str) -> Self {
        Self::new(status, "text/html", body)
    }

    fn new(status: &'static str, kind: &str, body: &str) -> Self {
        Self { status, headers: vec![("Content-Type".into(), kind.into())], body: body.into() }
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A running stub. It ends with the test's process.
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Starts one; the closure sees method, path and the field `Authorization`.
    pub fn start(respond: impl Fn(&str, &str, &str) -> StubAnswer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is no failure of the stub.
                drop(serve(&stream, &respond, &seen));
            }
        });
        Self { address, asked }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, as `GET /path`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    stream: &TcpStream,
    respond: &impl Fn(&str, &str, &str) -> StubAnswer,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let Some(request) = Request::read_from(&mut BufReader::new(stream))? else { return Ok(()) };
    seen.lock().unwrap().push(format!("{} {}", request.method, request.path));
    let said = respond(&request.method, &request.path, request.header("authorization").unwrap_or_default());
    let headers: Vec<(&str, &str)> =
        said.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    answer(stream, said.status, &headers, said.body.as_bytes())
}
