//! Asking the broker: one request, one connection, one write. HTTP/1.1 is spoken by hand and without an
//! async runtime, because a process per `credentials get` has to start and end in microseconds.

mod failure;
mod response;
mod transport;
mod trust;

use std::fs::File;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use dvx_proto::{BrokerAddress, Token};
use zeroize::Zeroizing;

use crate::clock::Deadline;
use crate::environment::{Environment, TokenFile};

pub(crate) use failure::ClientError;
pub(crate) use response::{Answer, InvalidAnswer};
use response::{MAX_ANSWER_BYTES, Progress};
use transport::Connection;
use trust::Trust;

/// How long an exchange may take in all. The longest answer of a healthy broker is that to git after a
/// refused token, which waits up to [`REFRESH_WAIT`](dvx_proto::limits::REFRESH_WAIT).
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an exchange may take on which nothing depends.
const LITTLE_PATIENCE: Duration = Duration::from_secs(5);

/// Room for the answers of every day, so that one read takes them in.
const USUAL_ANSWER_BYTES: usize = 1024;

/// Asks the broker.
#[derive(Clone)]
pub(crate) struct Client {
    address: BrokerAddress,
    token: Option<Rc<Token>>,
    trust: Trust,
    patience: Duration,
}

impl Client {
    /// A client as the environment wants it. Nothing is connected yet; the token is read.
    pub(crate) fn new(environment: &Environment) -> Result<Self, ClientError> {
        let address = environment.broker()?;
        let token = match (environment.token_file(), &address) {
            (Some(TokenFile::Named(path)), _) => read_token(path)?,
            (Some(TokenFile::Usual(path)), BrokerAddress::Loopback(_)) => read_token(path)?,
            (Some(TokenFile::Usual(_)), BrokerAddress::Unix(_)) | (None, _) => None,
        };
        let trust = Trust::new(environment.broker_user());
        Ok(Self { address, token: token.map(Rc::new), trust, patience: PATIENCE })
    }

    /// The same with less patience, for what must not hold its caller up.
    #[must_use]
    pub(crate) fn hurried(&self) -> Self {
        Self { patience: LITTLE_PATIENCE, ..self.clone() }
    }

    /// Where the broker is.
    pub(crate) fn address(&self) -> &BrokerAddress {
        &self.address
    }

    /// `GET path`. An answer that is a refusal is an error.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.exchange("GET", path, None)
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
        self.exchange("POST", path, Some(body))
    }

    /// The error for an answer that came and does not say what it should.
    pub(crate) fn malformed(&self, source: InvalidAnswer) -> ClientError {
        ClientError::Malformed { address: self.address.clone(), source }
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, ClientError> {
        let deadline = Deadline::after(self.patience);
        let request = self.request(method, path, body);
        let mut connection = Connection::open(&self.address, &self.trust, deadline)?;
        // A broker that has no connection left says so and closes without reading: its answer counts even
        // where the request could not be written to the end.
        let written = connection.write_all(&request);
        match self.receive(&mut connection, deadline) {
            Ok(answer) => answer.into_result(),
            Err(error) => match written {
                Err(cause) if error.is_interrupted_exchange() => {
                    Err(ClientError::Exchange { address: self.address.clone(), source: cause })
                }
                _ => Err(error),
            },
        }
    }

    /// The whole request in one piece, so that it leaves in one write.
    fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
        let token = self.token.as_ref().map(|token| token.expose_secret()).unwrap_or_default();
        let body_bytes = body.unwrap_or_default();
        // Large enough at once: a vector that grows leaves copies behind.
        let mut request =
            Zeroizing::new(Vec::with_capacity(256 + path.len() + token.len() + body_bytes.len()));
        let host = match &self.address {
            BrokerAddress::Unix(_) => "Host: localhost".to_owned(),
            BrokerAddress::Loopback(address) => format!("Host: localhost:{}", address.port()),
        };
        for part in [method, " ", path, " HTTP/1.1\r\n", &host, "\r\nConnection: close\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
        if !token.is_empty() {
            request.extend_from_slice(b"Authorization: Bearer ");
            request.extend_from_slice(token);
            request.extend_from_slice(b"\r\n");
        }
        if body.is_some() {
            let length = body_bytes.len();
            request.extend_from_slice(
                format!("Content-Type: application/json\r\nContent-Length: {length}\r\n").as_bytes(),
            );
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body_bytes);
        request
    }

    fn receive(&self, connection: &mut Connection, deadline: Deadline) -> Result<Answer, ClientError> {
        let broken = |source| ClientError::Exchange { address: self.address.clone(), source };
        let mut buffer = Zeroizing::new(vec![0; USUAL_ANSWER_BYTES]);
        let mut filled = 0;
        let mut wanted = 0;
        loop {
            let Some(remaining) = deadline.remaining() else {
                return Err(ClientError::Timeout { address: self.address.clone(), after: self.patience });
            };
            connection.set_read_timeout(remaining).map_err(broken)?;
            match connection.read(buffer.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                // The first is a signal; the second is the timeout, which the next turn sees.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(broken(error)),
            }
            if filled < wanted {
                continue;
            }
            let text = buffer.get(..filled).unwrap_or_default();
            match response::parse(text).map_err(|source| self.malformed(source))? {
                Progress::Complete(head) => {
                    buffer.truncate(filled);
                    return Ok(Answer::new(head, buffer));
                }
                Progress::Needs(bytes) => wanted = bytes,
            }
            let room = wanted.max(filled + 1).min(MAX_ANSWER_BYTES);
            if room > buffer.len() {
                grow(&mut buffer, room.max(filled * 2).min(MAX_ANSWER_BYTES));
            }
        }
    }
}

/// A larger buffer with the same content; the old one is wiped.
fn grow(buffer: &mut Zeroizing<Vec<u8>>, size: usize) {
    let mut larger = Zeroizing::new(vec![0; size]);
    if let Some(start) = larger.get_mut(..buffer.len()) {
        start.copy_from_slice(buffer);
    }
    *buffer = larger;
}

/// The token in a file; `None` where there is no file.
fn read_token(path: std::path::PathBuf) -> Result<Option<Token>, ClientError> {
    let unreadable = |source| ClientError::TokenFile { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // One byte more than a token with its line end, so that a longer file is seen to be one.
    let most = Token::MAX_BYTES + 3;
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    file.take(most as u64).read_to_end(&mut text).map_err(unreadable)?;
    match Token::try_from(text) {
        Ok(token) => Ok(Some(token)),
        Err(source) => Err(ClientError::TokenFileContent { path, source }),
    }
}

#[cfg(test)]
mod tests;
