//! Who calls: finding the token, and judging its state in GitLab's order.

use jiff::{SignedDuration, Timestamp};

use super::answer::Answer;
use super::model::{State, Token, TokenKind, UserState};
use super::params::Params;
use crate::git::Request;

/// `last_used_at` is written at most this often.
const LAST_USED_LAG: SignedDuration = SignedDuration::from_mins(10);

/// A value with this beginning in `PRIVATE-TOKEN` is a job's and looked up elsewhere.
const JOB_TOKEN_PREFIX: &str = "glcbt-";

/// Somebody with a token in good order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) user_id: u64,
    pub(super) token_id: u64,
    pub(super) admin: bool,
}

/// Which scopes an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scopes {
    /// `api`, or `read_api` for reading.
    Api,
    /// These, or `read_user` for reading.
    ReadUser,
    /// `api` or `self_rotate`.
    SelfRotate,
    /// Whatever the token has.
    Any,
}

impl Scopes {
    fn allow(self, method: &str, token: &Token) -> bool {
        let has = |scope: &str| token.scopes.iter().any(|given| given == scope);
        let reads = matches!(method, "GET" | "HEAD");
        match self {
            Self::Any => true,
            Self::SelfRotate => has("api") || has("self_rotate"),
            Self::Api => has("api") || (reads && has("read_api")),
            Self::ReadUser => has("api") || (reads && (has("read_api") || has("read_user"))),
        }
    }

    /// What the refusal lists: those of the endpoint's class, then those of the whole API, whatever the method.
    fn registered(self) -> &'static str {
        match self {
            Self::Api | Self::Any => "api read_api",
            Self::ReadUser => "read_user api read_api",
            Self::SelfRotate => "self_rotate api read_api",
        }
    }
}

/// A token as it was presented.
#[derive(Debug, Clone)]
pub(super) struct Presented {
    pub(super) value: String,
    /// `private-token`, `bearer`, `basic`, or `query`.
    pub(super) place: &'static str,
}

/// Every token in a request to the API, in the order in which GitLab looks at them.
pub(super) fn presented(request: &Request, params: &Params) -> Option<Presented> {
    let found = |value: Option<String>, place| {
        value.filter(|value| !value.is_empty()).map(|value| Presented { value, place })
    };
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let private = request.header("private-token").filter(|value| !value.starts_with(JOB_TOKEN_PREFIX));
    found(params.text("access_token"), "query")
        .or_else(|| found(params.text("private_token"), "query"))
        .or_else(|| found(private.map(String::from), "private-token"))
        .or_else(|| found(bearer.map(String::from), "bearer"))
}

impl State {
    /// Checks a token: expired, then revoked, then scope, then the user.
    pub(super) fn authenticate(
        &mut self,
        presented: &Presented,
        scopes: Scopes,
        (method, path): (&str, &str),
        now: Timestamp,
    ) -> Result<Caller, Answer> {
        let token = self.token_of_value(&presented.value).filter(|token| token.kind != TokenKind::Deploy);
        let token = token.ok_or_else(Answer::unauthorized)?.clone();
        if token.is_expired(now) {
            return Err(Answer::invalid_token(
                "Token is expired. You can either do re-authorization or token refresh.",
            ));
        }
        if token.is_revoked() {
            if is_rotation(path) {
                self.revoke_descendants(token.id, now);
            }
            return Err(Answer::invalid_token("Token was revoked. You have to re-authorize from the user."));
        }
        if !scopes.allow(method, &token) {
            return Err(Answer::insufficient_scope(scopes.registered()));
        }
        if token.kind == TokenKind::Impersonation && !self.settings.impersonation {
            let why = "Token is an impersonation token but impersonation was disabled.";
            return Err(Answer::invalid_token(why));
        }
        self.check_user(&token)?;
        self.touch(token.id, now);
        Ok(self.caller_of(&token))
    }

    fn check_user(&self, token: &Token) -> Result<(), Answer> {
        let user = self.users.get(&token.user_id).ok_or_else(Answer::unauthorized)?;
        let why = match user.state {
            UserState::Active => return Ok(()),
            UserState::Blocked => "Your account has been blocked.",
            UserState::Pending => {
                "Your account is pending approval from your GitLab administrator and hence blocked. Please \
                 contact your GitLab administrator if you think this is an error."
            }
        };
        Err(Answer::message(403, format!("403 Forbidden - {why}")))
    }

    pub(super) fn caller_of(&self, token: &Token) -> Caller {
        let admin = self.users.get(&token.user_id).is_some_and(|user| user.admin);
        let in_force = !self.settings.admin_mode || token.scopes.iter().any(|scope| scope == "admin_mode");
        Caller { user_id: token.user_id, token_id: token.id, admin: admin && in_force }
    }

    /// Notes the use of a token, but not each one.
    pub(super) fn touch(&mut self, token_id: u64, now: Timestamp) {
        let Some(token) = self.tokens.get_mut(&token_id) else { return };
        if token.last_used_at.is_none_or(|last| last + LAST_USED_LAG <= now) {
            token.last_used_at = Some(now);
        }
    }

    /// Automatic reuse detection: everything that came out of a consumed token ends.
    fn revoke_descendants(&mut self, token_id: u64, now: Timestamp) {
        let children: Vec<u64> = self
            .tokens
            .values()
            .filter(|token| token.previous == Some(token_id))
            .map(|token| token.id)
            .collect();
        for child in children {
            if let Some(token) = self.tokens.get_mut(&child)
                && token.is_active(now)
            {
                token.revoked_at = Some(now);
            }
            self.revoke_descendants(child, now);
        }
    }
}

/// `access_tokens/(\d+|self)/rotate$`
fn is_rotation(path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let rotate = segments.next() == Some("rotate");
    let id = segments.next().unwrap_or_default();
    let number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let tokens = segments.next().is_some_and(|segment| segment.ends_with("access_tokens"));
    rotate && (id == "self" || number) && tokens
}
