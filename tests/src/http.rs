//! A small HTTP client: exact bytes out, a parsed answer in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::{Code, PROBLEM_MEDIA_TYPE, Problem};
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::caller::Process;

mod stream;

use stream::Stream;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A request, still to be changed in any way.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    default_host: bool,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            default_host: true,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A PUT.
    pub fn put(target: &str) -> Self {
        Self::new("PUT", target)
    }

    /// A DELETE.
    pub fn delete(target: &str) -> Self {
        Self::new("DELETE", target)
    }

    /// A POST.
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sends no `Host` unless one was added.
    #[must_use]
    pub fn without_host(mut self) -> Self {
        self.default_host = false;
        self
    }

    /// Gives it a JSON body.
    #[must_use]
    pub fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body.as_bytes())
    }

    /// Gives it a body with its length.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Length", &body.len().to_string())
    }

    /// The bytes on the wire.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.default_host {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A parsed answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The only value of a field.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers_named(name);
        assert!(values.len() <= 1, "{name} stands twice: {values:?}");
        values.first().copied()
    }

    /// All values of a field.
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks what every answer of the agent API has.
    #[track_caller]
    pub fn assert_standard_headers(&self) {
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        assert_eq!(self.header("server"), None, "{self:?}");
    }

    /// Checks an answer with a JSON body and gives the body's exact text.
    #[track_caller]
    pub fn ok_json(&self) -> &str {
        self.assert_standard_headers();
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        self.text()
    }

    /// Checks that the answer is a well-formed problem document and gives its code.
    #[track_caller]
    pub fn problem(&self) -> Code {
        self.assert_standard_headers();
        assert_eq!(self.header("content-type"), Some(PROBLEM_MEDIA_TYPE), "{self:?}");
        let problem: Problem =
            serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let code = problem.code().unwrap_or_else(|| panic!("not a code of the contract: {problem:?}"));
        assert_eq!((problem.status, self.status), (code.status(), code.status()), "{problem:?}");
        assert_eq!(problem.title, code.title());
        assert!(!problem.detail.is_empty(), "{problem:?}");
        code
    }
}

/// A connection to a daemon.
pub struct Connection {
    stream: Stream,
    /// Who made it.
    maker: Option<Arc<Process>>,
    host: String,
    unread: Vec<u8>,
    /// Whether answers may come in chunks.
    chunks: bool,
}

impl Connection {
    /// Over a Unix socket.
    pub fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeouts can be set");
        Self::new(Stream::Unix(stream), "dvx".into())
    }

    /// Over TCP; the `Host` of requests is the address of the other end.
    pub fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeouts can be set");
        let host = stream.peer_addr().map_or_else(|_| "127.0.0.1".into(), |address| address.to_string());
        Self::new(Stream::Tcp(stream), host)
    }

    /// Over TLS; the `Host` of requests is the address of the other end.
    pub fn tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        stream.sock.set_read_timeout(Some(TIMEOUT)).expect("timeouts can be set");
        let host = stream.sock.peer_addr().map_or_else(|_| "127.0.0.1".into(), |address| address.to_string());
        Self::new(Stream::Tls(Box::new(stream)), host)
    }

    fn new(stream: Stream, host: String) -> Self {
        Self { stream, maker: None, host, unread: Vec::new(), chunks: false }
    }

    /// Takes answers in chunks too. The agent API has none.
    #[must_use]
    pub fn with_chunks(mut self) -> Self {
        self.chunks = true;
        self
    }

    pub(crate) fn kept_by(mut self, maker: &Arc<Process>) -> Self {
        self.maker = Some(Arc::clone(maker));
        self
    }

    /// What requests on this connection have as their `Host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn exchange(&mut self, request: &Request) -> Response {
        let bytes = request.bytes(&self.host);
        self.exchange_bytes(&bytes)
    }

    /// Sends these bytes and reads the answer.
    #[track_caller]
    pub fn exchange_bytes(&mut self, bytes: &[u8]) -> Response {
        // A broker may answer and close before it has read everything.
        drop(self.send(bytes));
        self.response().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&self) {
        self.stream.finish_sending().expect("the sending half can be shut");
    }

    /// How long reading waits.
    pub fn set_timeout(&self, limit: Duration) {
        self.stream.set_timeout(limit).expect("timeouts can be set");
    }

    /// Reads one answer. `UnexpectedEof` without any bytes means that the broker closed.
    pub fn response(&mut self) -> io::Result<Response> {
        let head = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break self.unread.drain(..at + 4).collect::<Vec<u8>>();
            }
            self.read_more()?;
        };
        let (status, headers) = parse_head(&head)?;
        let mut response = Response { status, headers, body: Vec::new() };
        if status >= 200 && status != 204 {
            response.body = self.read_body(&response)?;
        }
        Ok(response)
    }

    /// Reads everything until the broker closes. A reset counts as a close.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more().is_ok() {}
        std::mem::take(&mut self.unread)
    }

    /// Waits for the broker to close without a word.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.read_more() {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {}
            other => panic!("expected the connection to be closed: {other:?}, {:?}", self.unread),
        }
    }

    fn read_body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.header("transfer-encoding") == Some("chunked") && self.chunks {
            return self.read_chunks();
        }
        if response.header("transfer-encoding").is_some() {
            return Err(io::Error::other(format!("the agent API has no chunked answers: {response:?}")));
        }
        let Some(length) = response.header("content-length") else { return Ok(self.read_to_end()) };
        let length: usize = length.parse().map_err(io::Error::other)?;
        while self.unread.len() < length {
            self.read_more()?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            while self.unread.len() < size + 2 {
                self.read_more()?;
            }
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(head: &[u8]) -> io::Result<(u16, Vec<(String, String)>)> {
    let text = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let bad = || io::Error::other(format!("not an HTTP/1.1 answer: {text:?}"));
    // A request of version 1.0 is refused in its own words.
    let status = status.strip_prefix("HTTP/1.1 ").or_else(|| status.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)).ok_or_else(bad)?;
    let status = status.parse().map_err(|_| bad())?;
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers))
}
