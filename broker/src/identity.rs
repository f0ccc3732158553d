//! Agent tokens: short-lived proof of who an agent is, as JWTs with [`Claims`].
//!
//! They are signed with a key that is made at the start and lives in this process alone, so a restart ends
//! them all. Every token is checked against the connection that brings it as well: on its own it opens
//! nothing.

mod acl;
mod es256;
mod files;
mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dvx_proto::agent::{AUDIENCE, Claims};
use dvx_proto::limits::AGENT_TOKEN_TTL;
use dvx_proto::{AgentName, EnclaveName, without_trace};
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

pub(crate) use es256::KeyError;
pub(crate) use files::{TokenFileProblem, TokenFiles};

use seen::Seen;

/// Makes tokens and knows them again.
pub(crate) struct Issuer {
    enclave: EnclaveName,
    keys: es256::Keys,
    validation: Validation,
    seen: Mutex<Seen>,
}

/// A fresh token.
pub(crate) struct IssuedToken {
    pub(crate) token: Zeroizing<String>,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) agent: AgentName,
    pub(crate) uid: u32,
    /// From when to when, in seconds since 1970.
    issued_at: u64,
    expires_at: u64,
}

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("it is not an agent token")]
    Malformed,
    #[error("it is not signed with ES256")]
    Algorithm,
    #[error("it is not signed with this broker's key; a token ends when the broker is restarted")]
    Signature,
    #[error("it is for another enclave")]
    Enclave,
    #[error("it is for another audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is from the future; the clock has been set back")]
    Future,
    /// It was not looked at. The caller is to be slowed down, not told that its token is bad.
    #[error("the caller brings too many unknown tokens")]
    TooMany,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum IssueError {
    #[error("no token can be made")]
    Failed,
    /// The caller is to be slowed down.
    #[error("the caller asks for too many tokens")]
    TooMany,
}

/// A token with the longest names has about 600 characters.
const MAX_TOKEN_BYTES: usize = 1024;

impl Issuer {
    /// Makes a key.
    pub(crate) fn new(enclave: EnclaveName) -> Result<Self, KeyError> {
        Ok(Self::with_keys(enclave, es256::Keys::new()?))
    }

    fn with_keys(enclave: EnclaveName, keys: es256::Keys) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        validation.set_issuer(&[&enclave]);
        validation.set_audience(&[AUDIENCE]);
        // Times are checked here: that library reads the clock by itself.
        validation.validate_exp = false;
        Self { enclave, keys, validation, seen: Mutex::default() }
    }

    /// Makes a token for an agent that asks for one.
    pub(crate) fn issue_on_request(
        &self,
        agent: &AgentName,
        uid: u32,
        now: Timestamp,
    ) -> Result<IssuedToken, IssueError> {
        if !self.seen().may_calculate(uid, seconds(now)) {
            return Err(IssueError::TooMany);
        }
        self.issue(agent, uid, now)
    }

    /// Makes a token for an agent that runs as this user.
    pub(crate) fn issue(
        &self,
        agent: &AgentName,
        uid: u32,
        now: Timestamp,
    ) -> Result<IssuedToken, IssueError> {
        let iat = seconds(now);
        let exp = iat.saturating_add(AGENT_TOKEN_TTL.as_secs());
        let claims = Claims {
            iss: self.enclave.clone(),
            sub: agent.clone(),
            aud: AUDIENCE.to_owned(),
            uid,
            iat,
            exp,
            jti: es256::random_name().map_err(|_| IssueError::Failed)?,
        };
        let header = Header::new(Algorithm::ES256);
        let token = without_trace(|| encode(&header, &claims, self.keys.signing()));
        let token = Zeroizing::new(token.map_err(|_| IssueError::Failed)?);
        let verified = Verified { agent: claims.sub, uid, issued_at: iat, expires_at: exp };
        // Its first use costs no more than the next.
        self.seen().remember(digest(token.as_bytes()), Arc::new(verified));
        Ok(IssuedToken { token, issued_at: timestamp(iat)?, expires_at: timestamp(exp)? })
    }

    /// Tells what a token says, if it is one of ours and of now. One that is known already costs a hash; of
    /// others, the user that brings them (which the connection tells) has only so many looked at.
    pub(crate) fn verify(
        &self,
        presented: &[u8],
        bearer: u32,
        now: Timestamp,
    ) -> Result<Arc<Verified>, TokenError> {
        if presented.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let digest = digest(presented);
        let known = self.seen().get(&digest);
        if let Some(verified) = known {
            return verified.at(now).map(|()| verified);
        }
        if !self.seen().may_calculate(bearer, seconds(now)) {
            return Err(TokenError::TooMany);
        }
        let verified = without_trace(|| self.read(presented, now).map(Arc::new))?;
        self.seen().remember(digest, Arc::clone(&verified));
        Ok(verified)
    }

    fn read(&self, presented: &[u8], now: Timestamp) -> Result<Verified, TokenError> {
        let token = decode::<Presented>(presented, self.keys.verifying(), &self.validation)
            .map_err(|error| TokenError::from(error.kind()))?;
        let Presented { claims, nbf } = token.claims;
        if nbf.is_some_and(|nbf| nbf > seconds(now)) {
            return Err(TokenError::Future);
        }
        let Claims { iss: _, sub, aud: _, uid, iat, exp, jti: _ } = claims;
        let verified = Verified { agent: sub, uid, issued_at: iat, expires_at: exp };
        verified.at(now).map(|()| verified)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verified {
    /// Whether the token is valid at this time. There is no leeway: it was made by this machine's clock.
    fn at(&self, now: Timestamp) -> Result<(), TokenError> {
        let now = seconds(now);
        if now < self.issued_at {
            Err(TokenError::Future)
        } else if now >= self.expires_at {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }

    /// Whether it was made for this agent as this user.
    pub(crate) fn is_for(&self, agent: &AgentName, uid: u32) -> bool {
        self.agent == *agent && self.uid == uid
    }
}

/// The claims, and one that we never make but would respect.
#[derive(Deserialize)]
struct Presented {
    #[serde(flatten)]
    claims: Claims,
    nbf: Option<u64>,
}

impl From<&ErrorKind> for TokenError {
    fn from(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Enclave,
            ErrorKind::InvalidAudience => Self::Audience,
            _ => Self::Malformed,
        }
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    without_trace(|| Sha256::digest(token).into())
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

fn timestamp(seconds: u64) -> Result<Timestamp, IssueError> {
    let seconds = i64::try_from(seconds).map_err(|_| IssueError::Failed)?;
    Timestamp::from_second(seconds).map_err(|_| IssueError::Failed)
}

#[cfg(test)]
mod tests;
