//! Asking the control plane: HTTP/1.1 over its Unix socket or TLS. No proxies, no redirects: a token goes to
//! the address that was given for it and nowhere else.

mod connect;
mod failure;
mod request;
mod trust;

use std::time::Duration;

use bytes::Bytes;
use dvx_proto::operator::{IDEMPOTENCY_KEY, PREFIX, Page, REVISION};
use dvx_proto::{ControlAddress, Problem, Token};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Response, http};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use self::connect::Connector;
use crate::settings::Settings;

pub(crate) use failure::ClientError;
pub(crate) use request::{Request, with_query};

/// How long an exchange may take on which nobody waits on purpose.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer: a full page of the largest elements is below a tenth of it.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// When a request whose connection broke off is sent again, where that is safe.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1000)];

/// How many elements are asked for at once.
const PAGE: u32 = dvx_proto::operator::MAX_PAGE;

type Sender = SendRequest<Full<Bytes>>;

/// Asks the control plane.
pub(crate) struct Client {
    connector: Connector,
    authorization: Option<HeaderValue>,
    kept: Option<Sender>,
}

/// What came back, and went well.
pub(crate) struct Answer {
    /// The revision that the change got.
    pub(crate) revision: Option<u64>,
    body: Bytes,
}

impl Client {
    /// A client for what was chosen. Nothing is connected yet; files are read.
    pub(crate) fn new(settings: Settings) -> Result<Self, ClientError> {
        let authorization = settings.token.as_ref().map(bearer);
        let connector = Connector::new(settings.address, settings.control_user, settings.ca_file.as_deref())?;
        Ok(Self { connector, authorization, kept: None })
    }

    /// The same as somebody else.
    #[must_use]
    pub(crate) fn with_token(self, token: &Token) -> Self {
        Self { authorization: Some(bearer(token)), ..self }
    }

    pub(crate) fn address(&self) -> &ControlAddress {
        self.connector.address()
    }

    /// `GET path`, and what the answer says.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        let answer = self.send(Request::get(path)).await?;
        self.parse(&answer)
    }

    /// Everything that a list has, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page: Page<T> = self.page(path, after.as_deref(), PAGE).await?;
            all.extend(page.items);
            match page.next {
                // A list that comes back to where it was would never end.
                Some(next) if after.as_ref() == Some(&next) => {
                    return Err(self.malformed("its list goes round in circles"));
                }
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// One page of a list.
    pub(crate) async fn page<T: DeserializeOwned>(
        &mut self,
        path: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<T>, ClientError> {
        let query = [("limit", Some(limit.to_string())), ("after", after.map(str::to_owned))];
        self.get(&with_query(path, &query)).await
    }

    /// Sends a request, again where the connection breaks off and that is safe.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Answer, ClientError> {
        let mut pauses = RETRY_PAUSES.into_iter();
        let mut lost = None;
        loop {
            let result = self.exchange(&request).await;
            let error = match result {
                Err(error) if error.is_connection_loss() && request.is_repeatable() => error,
                // It was there a moment ago.
                Err(error @ ClientError::Connect { .. }) if lost.is_some() => error,
                result => return result,
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            lost = Some(error);
            sleep(pause).await;
        }
    }

    /// What an answer says.
    pub(crate) fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        // The parser's own words repeat what it read, which may be a token.
        serde_json::from_slice(&answer.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.malformed(&format!("not the JSON that was expected (line {line}, column {column})"))
        })
    }

    /// Begins an answer that is not kept in memory.
    pub(crate) async fn stream(&mut self, request: &Request) -> Result<Incoming, ClientError> {
        let response = self.within(PATIENCE, request).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(self.collect(response).await.err().unwrap_or_else(|| self.malformed("an answer without sense")))
    }

    async fn exchange(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let patience = request.patience().unwrap_or(PATIENCE);
        let address = self.address().clone();
        let whole = async {
            let response = self.begin(request).await?;
            self.collect(response).await
        };
        match timeout(patience, whole).await {
            Ok(result) => result,
            Err(_) => {
                // What still comes on this connection belongs to this request.
                self.kept = None;
                Err(ClientError::Timeout { address, after: patience })
            }
        }
    }

    async fn within(
        &mut self,
        patience: Duration,
        request: &Request,
    ) -> Result<Response<Incoming>, ClientError> {
        let address = self.address().clone();
        let begun = timeout(patience, self.begin(request)).await;
        begun.unwrap_or(Err(ClientError::Timeout { address, after: patience }))
    }

    /// Sends it, and waits for the head of the answer.
    async fn begin(&mut self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        let kept = match self.kept.take() {
            // Not one that the control plane has closed in the meantime.
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        let mut sender = match kept {
            Some(kept) => kept,
            None => self.connector.connect().await?,
        };
        let message = self.message(request)?;
        let response = sender.send_request(message).await.map_err(|source| self.broken(source))?;
        self.kept = Some(sender);
        Ok(response)
    }

    fn message(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, ClientError> {
        let mut builder = http::Request::builder()
            .method(request.method().clone())
            .uri(format!("{PREFIX}{}", request.path()))
            .header(HOST, self.address().authority())
            .header(USER_AGENT, concat!("dvx/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(key) = request.idempotency_key() {
            builder = builder.header(IDEMPOTENCY_KEY, key);
        }
        if request.has_body() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        // Names and times need no escapes, so this fails for nothing that the command line lets through.
        builder.body(Full::new(request.body())).map_err(|_| ClientError::Unspeakable)
    }

    async fn collect(&mut self, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                self.kept = None;
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(source) => self.broken(*source),
                    Err(other) if other.is::<LengthLimitError>() => self.malformed("its answer is too long"),
                    Err(_) => self.malformed("its answer has no end"),
                });
            }
        };
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if head.status.is_success() {
            return Ok(Answer { revision: text(REVISION).and_then(|text| text.parse().ok()), body });
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let retry_after_seconds = text(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
        Err(ClientError::Problem { status: head.status.as_u16(), problem, retry_after_seconds })
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Exchange { address: self.address().clone(), source }
    }

    pub(crate) fn malformed(&self, why: &str) -> ClientError {
        ClientError::Malformed { address: self.address().clone(), why: why.to_owned() }
    }
}

/// The value of the `Authorization` field. A token has visible ASCII only, so it always is one.
fn bearer(token: &Token) -> HeaderValue {
    let mut text = Zeroizing::new(Vec::with_capacity(7 + Token::MAX_BYTES));
    text.extend_from_slice(b"Bearer ");
    text.extend_from_slice(token.expose_secret());
    let mut value = HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
