//! GitHub: who a token is.

use std::fmt;
use std::time::Duration;

use dvx_proto::{InvalidUrl, RemoteUrl, Token};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderValue};
use jiff::fmt::strtime;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;

use crate::answer::{Said, decode, retry_after};
use crate::call::{Call, Repeat, credential, perform};
use crate::error::Error;
use crate::scope::Scopes;
use crate::text::is_name;
use crate::transport::{Answer, Transport};

/// The version of the API that is spoken.
const API_VERSION: &str = "2022-11-28";

/// How long to wait where GitHub's secondary limit does not say it: its documentation asks for a minute.
const SECONDARY_WAIT: Duration = Duration::from_secs(60);

/// github.com, a tenant of ghe.com, or a GitHub Enterprise Server.
#[derive(Clone)]
pub struct GitHub {
    transport: Transport,
    api: RemoteUrl,
}

/// Who a token is, and what GitHub says about the token beside that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubUser {
    /// The user's number.
    pub id: u64,
    /// The user's unique name.
    pub login: String,
    /// The scopes of a classic token; none where GitHub does not tell them, as for a fine-grained one.
    pub scopes: Option<Scopes>,
    /// When the token ends, if it does.
    pub ends_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
}

impl GitHub {
    /// The instance whose web address is `url`. Its API is at `api.github.com`, at `api.` before the name of a
    /// tenant of ghe.com, and at `/api/v3` of an Enterprise Server.
    pub fn new(transport: Transport, url: &RemoteUrl) -> Result<Self, InvalidUrl> {
        Ok(Self { transport, api: api_url(url)? })
    }

    /// Who the token is: `GET /user`, for which a token needs no scope.
    pub async fn user(&self, token: &Token) -> Result<GitHubUser, Error> {
        let mut headers = credential("authorization", "Bearer ", token);
        headers.insert("x-github-api-version", HeaderValue::from_static(API_VERSION));
        let (route, target) = ("/user", "/user".to_owned());
        let (repeat, not_ours) = (Repeat::Reads, not_github);
        let call = Call { method: Method::GET, route, target, body: None, repeat, headers, not_ours };
        let outcome = perform(&self.transport, &self.api, call).await;
        let answer = check(outcome.map_err(|error| error.without(token))?, token)?;
        read_user(&answer, token)
    }
}

pub(crate) fn read_user(answer: &Answer, token: &Token) -> Result<GitHubUser, Error> {
    let User { id, login } = decode(answer, Repeat::Reads, not_github)?;
    if !is_name(&login, token) {
        return Err(not_github("a user without a usual name"));
    }
    Ok(GitHubUser { id, login, scopes: scopes(&answer.headers), ends_at: end(&answer.headers) })
}

fn api_url(url: &RemoteUrl) -> Result<RemoteUrl, InvalidUrl> {
    let (host, _) = url.origin().host_and_port();
    if host == "github.com" || host == "www.github.com" {
        return "https://api.github.com".parse();
    }
    if host.ends_with(".ghe.com") {
        return format!("https://api.{}", host.trim_start_matches("api.")).parse();
    }
    format!("{url}/api/v3").parse()
}

fn not_github(found: &'static str) -> Error {
    Error::NotGitHub { found }
}

pub(crate) fn check(answer: Answer, token: &Token) -> Result<Answer, Error> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return Ok(answer);
    }
    let limited = || exhausted(&answer.headers) || answer.headers.contains_key("retry-after");
    let wait = || retry_after(&answer.headers, "x-ratelimit-reset");
    let message = match Said::by(&answer, Some(token)) {
        Said::Message(message) => message,
        _ if status == 429 => return Err(Error::RateLimited { retry_after: wait() }),
        _ if status >= 500 => return Err(Error::Server { status }),
        _ if status == 403 => return Err(Error::Forbidden),
        _ => return Err(not_github("a refusal in other words than GitHub's")),
    };
    Err(match status {
        401 if message.says("Bad credentials") => Error::InvalidToken,
        401 => Error::Unusable { message },
        429 => Error::RateLimited { retry_after: wait() },
        403 if message.says("secondary rate limit") => {
            Error::RateLimited { retry_after: wait().or(Some(SECONDARY_WAIT)) }
        }
        403 if limited() => Error::RateLimited { retry_after: wait() },
        403 if message.says("suspended") || message.says("locked") => Error::Blocked { message },
        // An organisation's rules on single sign-on, tokens' lives and addresses.
        403 => Error::NotPermitted { message },
        404 => not_github("no such page"),
        500..=599 => Error::Server { status },
        _ => Error::Rejected { status, message },
    })
}

fn exhausted(headers: &HeaderMap) -> bool {
    headers.get("x-ratelimit-remaining").is_some_and(|value| value.as_bytes() == b"0")
}

/// `repo, read:user`; the header is empty for a classic token without scopes.
fn scopes(headers: &HeaderMap) -> Option<Scopes> {
    let text = headers.get("x-oauth-scopes")?.to_str().ok()?;
    Some(text.split(',').map(str::trim).filter(|scope| !scope.is_empty()).collect())
}

/// `2026-12-25 07:00:00 UTC`, or with an offset such as `-0700` instead of the zone's name.
fn end(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("github-authentication-token-expiration")?.to_str().ok()?.trim();
    if let Some(text) = text.strip_suffix(" UTC") {
        let civil = strtime::parse("%Y-%m-%d %H:%M:%S", text).ok()?.to_datetime().ok()?;
        return TimeZone::UTC.to_timestamp(civil).ok();
    }
    strtime::parse("%Y-%m-%d %H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GitHub").field(&self.api.to_string()).finish()
    }
}

#[cfg(test)]
mod tests;
