//! What the helper does with a question: which broker it asks for what, and what git is told.

use dvx_proto::agent::{GitCredential, GitCredentialRequest, Rejection};
use dvx_proto::{Fingerprint, InvalidUrl, Origin, ProviderName};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::answer::{QUIT, render};
use super::lines::{Attributes, Round};
use crate::client::{Client, ClientError};
use crate::error::{Exit, Failure};
use crate::link::instances;

/// What git is told.
pub(crate) enum Outcome {
    /// Nothing: git goes on to its next helper.
    Nothing,
    /// The credential.
    Answer(Zeroizing<Vec<u8>>),
    /// To ask nobody else, and why.
    Quit(&'static [u8], Failure),
}

/// Answers `get`.
pub(crate) fn get(client: &Client, asked: &Attributes, now: Timestamp) -> Result<Outcome, Failure> {
    let Some(target) = Target::of(asked)? else { return Ok(Outcome::Nothing) };
    if let Round::Again(refused) = asked.round {
        let refused = match refused {
            Some(fingerprint) => Some(fingerprint),
            None => target.ask(client).ok().map(|credential| credential.fingerprint),
        };
        if let Some(fingerprint) = refused {
            target.report(client, fingerprint);
        }
    }
    let credential = match target.ask(client) {
        Ok(credential) => credential,
        Err(error) => {
            let status = error.status();
            let failure = error.into_failure(&format!("no credential for {}", target.origin));
            return match status {
                Some(404) => Ok(Outcome::Nothing),
                Some(403) => Ok(Outcome::Quit(QUIT, failure)),
                _ => Err(failure),
            };
        }
    };
    match render(&credential, asked.keeps_state, asked.round, now) {
        Some(lines) => Ok(Outcome::Answer(lines)),
        None => Err(Failure::new(
            Exit::Other,
            format!("no credential for {}", target.origin),
            "the broker's user name is not one that git can be told",
        )),
    }
}

/// Answers `erase`: what git forgets is a hint that the provider refused it, never a proof, since git also
/// erases good credentials on errors of its own. So it is reported and no more; nobody waits for the result.
pub(crate) fn report_refused(client: &Client, asked: &Attributes) {
    if let (Ok(Some(target)), Some(fingerprint)) = (Target::of(asked), asked.password) {
        target.report(client, fingerprint);
    }
}

/// Where git wants to go.
struct Target {
    origin: Origin,
    request: GitCredentialRequest,
}

impl Target {
    /// `None` where no instance can be: git also asks helpers about mail servers, certificates and proxies, and
    /// about hosts that it reaches in the clear.
    fn of(asked: &Attributes) -> Result<Option<Self>, Failure> {
        let refuse = |why: String| Failure::new(Exit::Other, "git's question is refused", why);
        let given = |value: &Option<String>, key: &str| match value.as_deref() {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(refuse(format!("it names no {key}"))),
        };
        let protocol = given(&asked.protocol, "protocol")?;
        if !protocol.eq_ignore_ascii_case("https") && !protocol.eq_ignore_ascii_case("http") {
            return Ok(None);
        }
        let host = given(&asked.host, "host")?;
        let origin = match Origin::from_protocol_and_host(&protocol, &host) {
            Ok(origin) => origin,
            Err(InvalidUrl::Insecure) => return Ok(None),
            Err(error) => return Err(refuse(format!("{protocol}://{host}: {error}"))),
        };
        let path = asked.path.clone().filter(|path| !path.is_empty());
        let request = GitCredentialRequest { protocol, host, path, wwwauth: asked.challenges.clone() };
        Ok(Some(Self { origin, request }))
    }

    fn ask(&self, client: &Client) -> Result<GitCredential, ClientError> {
        // Names and challenges: nothing in here is secret, and nothing in here can fail to be JSON.
        let body = serde_json::to_vec(&self.request).unwrap_or_default();
        let answer = client.post("/v1/agent/git-credential", &body)?;
        answer.json().map_err(|source| client.malformed(source))
    }

    /// Reports a token as refused at every provider that it might be of; where the broker does not hold a
    /// token with this fingerprint that says nothing to it. Whatever goes wrong here must not keep git from
    /// its answer.
    fn report(&self, client: &Client, fingerprint: Fingerprint) {
        let client = &client.hurried();
        let body = serde_json::to_vec(&Rejection { fingerprint }).unwrap_or_default();
        for provider in self.providers(client).unwrap_or_default() {
            let _best_effort = client.post(&format!("/v1/agent/credentials/{provider}/rejected"), &body);
        }
    }

    /// The providers whose instance lies where git wants to go; all of them, where the broker does not say
    /// where they lie.
    fn providers(&self, client: &Client) -> Result<Vec<ProviderName>, ClientError> {
        /// What is needed of an element of the listing, so that a kind of credential that this version does
        /// not know is no obstacle.
        #[derive(Deserialize)]
        struct Listed {
            provider: ProviderName,
        }

        let answer = client.get("/v1/agent/credentials")?;
        let instances = instances(answer.links());
        if instances.is_empty() {
            let listed: Vec<Listed> = answer.json().map_err(|source| client.malformed(source))?;
            return Ok(listed.into_iter().map(|listed| listed.provider).collect());
        }
        let path = self.request.path.as_deref();
        let here = instances.into_iter().filter(|instance| instance.url.covers(&self.origin, path));
        Ok(here.filter_map(|instance| instance.provider).collect())
    }
}
