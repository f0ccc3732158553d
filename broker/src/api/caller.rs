//! Who is calling: the connection's peer, and the token that a request may or must carry.

use std::time::Duration;

use dvx_proto::Code;
use dvx_proto::agent::Transport;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::problem::Refusal;
use super::{Api, Settings, rate_limited, upstream_unavailable};
use crate::clock::Now;
use crate::identity::TokenError;
use crate::peer::{PeerFacts, Unidentified};
use crate::policy::{AgentRule, NoMatch};

/// The other end of a connection, as it was found at accept.
pub(crate) struct Peer {
    pub(crate) transport: Transport,
    /// The port that was connected to; 0 on a Unix socket.
    pub(crate) tcp_port: u16,
    pub(crate) identity: Result<PeerFacts, Unidentified>,
}

impl Peer {
    pub(crate) fn uid(&self) -> Option<u32> {
        match &self.identity {
            Ok(facts) => Some(facts.uid),
            Err(unidentified) => unidentified.uid,
        }
    }
}

impl Api {
    /// The agent that this request comes from: named by its connection, and by its token where there is one.
    pub(super) fn authenticate<'a>(
        &self,
        peer: &Peer,
        settings: &'a Settings,
        headers: &HeaderMap,
        now: Now,
    ) -> Result<&'a AgentRule, Refusal> {
        let facts = peer.identity.as_ref().map_err(|unidentified| unknown(unidentified.to_string()))?;
        let agent = settings.rules.agent_for(facts).map_err(|no_match| match no_match {
            NoMatch::Awaited => upstream_unavailable().with_reason(no_match.to_string()),
            no_match => unknown(no_match.to_string()),
        })?;
        let Some(token) = bearer(headers)? else {
            return match peer.transport {
                Transport::Unix => Ok(agent),
                Transport::Tcp => Err(token_missing()),
            };
        };
        let claimed = self.issuer.verify(token, facts.uid, now.wall).map_err(|error| match error {
            TokenError::TooMany => rate_limited(Duration::ZERO).with_reason(error.to_string()),
            error => token_invalid(error.to_string()),
        })?;
        if claimed.is_for(&agent.name, facts.uid) {
            Ok(agent)
        } else {
            let reason = format!("the token names agent {} and uid {}", claimed.agent, claimed.uid);
            Err(Refusal::new(Code::PeerMismatch, "the token was issued to another agent").with_reason(reason))
        }
    }
}

/// The bearer token of a request (RFC 6750, section 2.1), if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(token_invalid("more than one Authorization field".to_owned()));
    }
    match field.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(Some(token)),
        _ => Err(token_invalid("the Authorization field is not of the form Bearer <token>".to_owned())),
    }
}

/// The caller learns no more than that; the log has what the kernel said.
pub(super) fn unknown(reason: String) -> Refusal {
    Refusal::new(Code::PeerUnknown, "no agent is configured for the user and process that called")
        .with_hint("ask the operator of this enclave which user, unit or group the agent must run as")
        .with_reason(reason)
}

fn token_missing() -> Refusal {
    Refusal::new(Code::TokenMissing, "on loopback TCP a request needs Authorization: Bearer <agent token>")
        .with_hint("send the content of ~/.dvx/token (`dvxir init` links it), or use the Unix socket")
}

fn token_invalid(reason: String) -> Refusal {
    Refusal::new(Code::TokenInvalid, "the agent token is malformed, has expired, or is not this broker's")
        .with_hint("read the token file again: it is renewed every few minutes")
        .with_reason(reason)
}
