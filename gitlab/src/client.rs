//! GitLab's API, as far as it is needed.

use std::fmt;

use dvx_proto::{RemoteUrl, Token};
use hyper::Method;
use hyper::header::HeaderMap;
use jiff::civil::Date;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::{acknowledged, decode, decode_minted};
use crate::call::{Call, Repeat, credential, perform};
use crate::classify::{check, not_gitlab};
use crate::error::{Error, Missing};
use crate::page::{self, MAX_PAGES};
use crate::scope::Scopes;
use crate::transport::{Answer, Transport};
use crate::types::{MintedToken, TokenInfo, User};

mod groups;
mod projects;
mod service_accounts;

/// Below which path of an instance the API lies.
const API: &str = "/api/v4";

/// One instance of GitLab.
#[derive(Clone)]
pub struct GitLab {
    transport: Transport,
    url: RemoteUrl,
}

/// An instance, and the token with which it is called.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    gitlab: &'a GitLab,
    token: &'a Token,
}

/// A token that is to be made.
#[derive(Debug, Clone, Serialize)]
pub struct NewToken {
    /// Its name. It need not be unique; one that is lets a token be found whose creation was not answered.
    pub name: String,
    /// What it is to be allowed.
    pub scopes: Scopes,
    /// Its last date, on which it is dead already: see [`ends_at`](crate::ends_at).
    pub expires_at: Date,
}

/// What adding something did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    Now,
    /// It was there before.
    Before,
}

/// What removing something did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// GitLab says so. A service account goes some time later; a token is dead at once.
    Now,
    /// There was nothing to remove.
    Before,
}

impl GitLab {
    /// The instance at `url`. Nothing is sent yet.
    pub fn new(transport: Transport, url: RemoteUrl) -> Self {
        Self { transport, url }
    }

    /// Where the instance is.
    pub fn url(&self) -> &RemoteUrl {
        &self.url
    }

    /// The instance, called with this token.
    pub fn with_token<'a>(&'a self, token: &'a Token) -> Session<'a> {
        Session { gitlab: self, token }
    }

    /// Whether a GitLab answers there. No credential is sent: a host that fails this never sees one.
    pub async fn probe(&self) -> Result<(), Error> {
        let call = Call {
            method: Method::GET,
            route: "/version",
            target: format!("{API}/version"),
            body: None,
            repeat: Repeat::Reads,
            headers: HeaderMap::new(),
            not_ours: not_gitlab,
        };
        let answer = perform(&self.transport, &self.url, call).await?;
        match check(answer, None) {
            // Nobody but a logged-in user is told the version, and the refusal has GitLab's own words.
            Err(Error::InvalidToken) => Ok(()),
            Err(Error::Forbidden | Error::NotFound { .. }) => Err(not_gitlab("another answer than GitLab's")),
            Err(error) => Err(error),
            Ok(_) => Err(not_gitlab("a version for anyone")),
        }
    }
}

impl Session<'_> {
    /// Who the token is: `GET /user`. Needs `api`, `read_api` or `read_user`.
    pub async fn user(&self) -> Result<User, Error> {
        let user: User = self.read("/user", "/user").await?;
        user.checked(self.token)
    }

    /// What the token is: `GET /personal_access_tokens/self`. Any scope suffices, and it works for project and
    /// group tokens too.
    pub async fn token_self(&self) -> Result<TokenInfo, Error> {
        self.read("/personal_access_tokens/self", "/personal_access_tokens/self").await
    }

    /// Replaces the session's own token by a new one: `POST /personal_access_tokens/self/rotate`. Needs `api` or
    /// `self_rotate`.
    ///
    /// Never repeated, not even by hand: when this fails in any way that leaves the outcome open, the old token
    /// must not be presented again, because GitLab then revokes its successor as well. Two of these at once with
    /// one token kill each other's.
    pub async fn rotate_self(&self, expires_at: Date) -> Result<MintedToken, Error> {
        let route = "/personal_access_tokens/self/rotate";
        let body = serde_json::json!({ "expires_at": expires_at });
        let answer = self.call(Method::POST, route, route, Some(&body), Repeat::Never).await?;
        decode_minted(&answer, not_gitlab)
    }

    /// Revokes a token of the session's own user, or of any if that is an administrator:
    /// `DELETE /personal_access_tokens/:id`.
    ///
    /// Somebody else's token is [`Error::NotPermitted`]; only administrators learn that there is none.
    pub async fn revoke_token(&self, id: crate::TokenId) -> Result<Removed, Error> {
        let target = format!("/personal_access_tokens/{id}");
        let outcome =
            self.delete("/personal_access_tokens/:id", &target, &[Missing::Token, Missing::Other]).await;
        self.tell_denial(outcome).await
    }

    async fn read<T: DeserializeOwned>(&self, route: &'static str, target: &str) -> Result<T, Error> {
        let answer = self.call(Method::GET, route, target, None::<&()>, Repeat::Reads).await?;
        decode(&answer, Repeat::Reads, not_gitlab)
    }

    async fn create<T: DeserializeOwned>(
        &self,
        route: &'static str,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let answer = self.call(Method::POST, route, target, Some(body), Repeat::Creates).await?;
        decode(&answer, Repeat::Creates, not_gitlab)
    }

    async fn mint(
        &self,
        route: &'static str,
        target: &str,
        body: &impl Serialize,
    ) -> Result<MintedToken, Error> {
        let answer = self.call(Method::POST, route, target, Some(body), Repeat::Creates).await?;
        decode_minted(&answer, not_gitlab)
    }

    /// Deletes. What is `gone` when GitLab says that it is not there, was removed before; when something else is
    /// not there, such as the group around it, nothing is known about the thing itself.
    async fn delete(&self, route: &'static str, target: &str, gone: &[Missing]) -> Result<Removed, Error> {
        match self.call(Method::DELETE, route, target, None::<&()>, Repeat::Idempotent).await {
            Ok(answer) => acknowledged(&answer).map(|()| Removed::Now),
            Err(Error::NotFound { what }) if gone.contains(&what) => Ok(Removed::Before),
            Err(error) => Err(error),
        }
    }

    /// Reads a list page by page until `found` takes an element, or to its end.
    async fn search<T: DeserializeOwned>(
        &self,
        route: &'static str,
        path: &str,
        mut found: impl FnMut(T) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut query = page::FIRST.to_owned();
        for _ in 0..MAX_PAGES {
            let target = format!("{path}?{query}");
            let answer = self.call(Method::GET, route, &target, None::<&()>, Repeat::Reads).await?;
            let elements: Vec<T> = decode(&answer, Repeat::Reads, not_gitlab)?;
            if let Some(element) = elements.into_iter().find_map(&mut found) {
                return Ok(Some(element));
            }
            match page::next(&answer.headers, &query) {
                None => return Ok(None),
                Some(next) if next == query => break,
                Some(next) => query = next,
            }
        }
        Err(Error::EndlessList { pages: MAX_PAGES })
    }

    /// Reads a whole list.
    async fn list<T: DeserializeOwned>(&self, route: &'static str, path: &str) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        self.search(route, path, |element| {
            all.push(element);
            None
        })
        .await?;
        Ok(all)
    }

    /// GitLab answers some calls with the 401 of an unknown token where the user lacks the right to make them.
    /// The token itself tells the two apart.
    async fn tell_denial<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Err(Error::InvalidToken) => {
                self.token_self().await?;
                let message = crate::ServerText::new("401 Unauthorized", None);
                Err(Error::NotPermitted { message })
            }
            outcome => outcome,
        }
    }

    async fn call(
        &self,
        method: Method,
        route: &'static str,
        target: &str,
        body: Option<&impl Serialize>,
        repeat: Repeat,
    ) -> Result<Answer, Error> {
        // Bodies are plain structures of texts and numbers, which always become JSON; without one, the instance
        // would refuse the call.
        let body = body.map(serde_json::to_vec).transpose().unwrap_or_default();
        let target = format!("{API}{target}");
        let headers = credential("private-token", "", self.token);
        let call = Call { method, route, target, body, repeat, headers, not_ours: not_gitlab };
        let outcome = perform(&self.gitlab.transport, &self.gitlab.url, call).await;
        let answer = outcome.map_err(|error| error.without(self.token))?;
        check(answer, Some(self.token))
    }
}

impl fmt::Debug for GitLab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GitLab").field(&self.url.to_string()).finish()
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.gitlab.url.to_string()).finish()
    }
}

#[cfg(test)]
mod tests;
