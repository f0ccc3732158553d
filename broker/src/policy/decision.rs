//! Whether an agent gets what it asks for.

use dvx_proto::Code;
use dvx_proto::agent::{AgentState, Route, Transport};
use dvx_proto::limits::EXPIRY_MARGIN;
use jiff::Timestamp;

use crate::keyring::Freshness;

/// The answer. There is no third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Decision {
    Allow,
    Deny(Denial),
}

/// What the caller is told, and why, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
}

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) route: &'a Route,
    pub(crate) transport: Transport,
    /// `None` while the upstream has not spoken of the agent.
    pub(crate) state: Option<AgentState>,
    pub(crate) freshness: Freshness,
    pub(crate) subject: Subject,
    pub(crate) now: Timestamp,
}

/// The credential or secret that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The route names none.
    None,
    /// There is none, or it is not this agent's: the same to the caller.
    Absent,
    /// It is there.
    Held {
        expires_at: Option<Timestamp>,
        /// Of the subject alone: its source may have failed while others were confirmed.
        freshness: Freshness,
    },
}

/// What a route touches.
enum Scope {
    /// Who the caller is.
    Identity,
    /// The agent's right to act at all.
    Agent,
    /// Names and metadata from the upstream.
    Listing,
    /// One thing, whatever its age.
    Report,
    /// One value.
    Value,
}

/// Decides. The order of the checks is the order of the errors that a caller sees: transport, state,
/// upstream, thing.
pub(crate) fn decide(situation: &Situation<'_>) -> Decision {
    match check(situation) {
        Ok(()) => Decision::Allow,
        Err(denial) => Decision::Deny(denial),
    }
}

fn check(situation: &Situation<'_>) -> Result<(), Denial> {
    let scope = scope(situation.route);
    match (situation.route, situation.transport) {
        (Route::IssueToken, Transport::Tcp) => {
            return deny(Code::ForbiddenTransport, "tokens are issued on the Unix socket only");
        }
        (_, Transport::Tcp | Transport::Unix) => {}
    }
    match scope {
        Scope::Identity => Ok(()),
        // A token is worth nothing until the upstream has spoken, so it may be issued before that.
        Scope::Agent => situation.state.map_or(Ok(()), check_state),
        Scope::Listing => check_upstream(situation),
        Scope::Report => {
            check_upstream(situation)?;
            held(situation.subject).map(|_| ())
        }
        Scope::Value => {
            check_upstream(situation)?;
            let (expires_at, freshness) = held(situation.subject)?;
            check_freshness(freshness)?;
            check_expiry(expires_at, situation.now)
        }
    }
}

const fn scope(route: &Route) -> Scope {
    match route {
        Route::Discover | Route::Whoami => Scope::Identity,
        Route::IssueToken => Scope::Agent,
        Route::Credentials | Route::Secrets => Scope::Listing,
        Route::Rejected(_) => Scope::Report,
        Route::Credential(_) | Route::Secret(_) | Route::GitCredential => Scope::Value,
    }
}

fn check_upstream(situation: &Situation<'_>) -> Result<(), Denial> {
    let Some(state) = situation.state else {
        return deny(Code::UpstreamUnavailable, "the upstream has not spoken of this agent yet");
    };
    check_state(state)?;
    check_freshness(situation.freshness)
}

fn check_state(state: AgentState) -> Result<(), Denial> {
    match state {
        AgentState::Active => Ok(()),
        AgentState::Isolated => deny(Code::AgentIsolated, "the agent is isolated"),
        AgentState::Revoked => deny(Code::AgentRevoked, "the agent is revoked"),
    }
}

fn check_freshness(freshness: Freshness) -> Result<(), Denial> {
    match freshness {
        Freshness::Fresh { age: _ } => Ok(()),
        Freshness::Stale { age: _ } => {
            deny(Code::UpstreamUnavailable, "the upstream last confirmed it longer than max_stale ago")
        }
        Freshness::Never => deny(Code::UpstreamUnavailable, "never synchronised with the upstream"),
    }
}

fn held(subject: Subject) -> Result<(Option<Timestamp>, Freshness), Denial> {
    match subject {
        Subject::Held { expires_at, freshness } => Ok((expires_at, freshness)),
        Subject::Absent | Subject::None => deny(Code::NotFound, "the agent has no such thing"),
    }
}

fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Denial> {
    match expires_at {
        Some(end) if end.duration_since(now) <= margin() => {
            deny(Code::CredentialExpired, "the credential's own end has come")
        }
        Some(_) | None => Ok(()),
    }
}

fn margin() -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(EXPIRY_MARGIN).unwrap_or(jiff::SignedDuration::MAX)
}

const fn deny<T>(code: Code, reason: &'static str) -> Result<T, Denial> {
    Err(Denial { code, reason })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-05-01T12:00:00Z";
    const FRESH: Freshness = Freshness::Fresh { age: Duration::from_secs(3) };
    const STALE: Freshness = Freshness::Stale { age: Duration::from_secs(7200) };

    fn held(expires_at: Option<&str>, freshness: Freshness) -> Subject {
        Subject::Held { expires_at: expires_at.map(|text| text.parse().unwrap()), freshness }
    }

    fn code(decision: Decision) -> Option<&'static str> {
        match decision {
            Decision::Allow => None,
            Decision::Deny(denial) => Some(denial.code.as_str()),
        }
    }

    fn route(name: &str) -> Route {
        let path = match name {
            "credential" => "credentials/gitlab",
            "rejected" => "credentials/gitlab/rejected",
            "secret" => "secrets/KEY",
            other => other,
        };
        Route::at(&format!("/v1/agent/{path}")).unwrap()
    }

    /// Route, the agent's state, freshness, what the route names, and the code of the refusal.
    type Row = (&'static str, Option<AgentState>, Freshness, Subject, Option<&'static str>);

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_value_is_served_until_a_minute_before_its_end(now in 0_i64..4_000_000_000, left in -100_000_000_000_i64..200_000_000_000) {
            let now = Timestamp::from_second(now).unwrap();
            let end = now + SignedDuration::from_nanos(left);
            let expired = check_expiry(Some(end), now).is_err();
            prop_assert_eq!(expired, left <= 60_000_000_000);
            prop_assert!(check_expiry(None, now).is_ok());
            // Whatever is expired stays so.
            prop_assert!(!expired || check_expiry(Some(end), now + Duration::from_secs(1)).is_err());
        }
    }

    #[test]
    fn what_each_route_is_allowed_and_denied() {
        use AgentState::{Active, Isolated, Revoked};
        let good = || held(None, FRESH);
        let end = |text| held(Some(text), FRESH);
        let table: Vec<Row> = vec![
            ("discover", None, Freshness::Never, Subject::None, None),
            ("whoami", Some(Active), FRESH, Subject::None, None),
            ("whoami", Some(Isolated), STALE, Subject::None, None),
            ("whoami", Some(Revoked), FRESH, Subject::None, None),
            ("whoami", None, Freshness::Never, Subject::None, None),
            ("token", Some(Active), FRESH, Subject::None, None),
            ("token", Some(Active), STALE, Subject::None, None),
            ("token", None, Freshness::Never, Subject::None, None),
            ("token", Some(Isolated), FRESH, Subject::None, Some("agent-isolated")),
            ("token", Some(Revoked), FRESH, Subject::None, Some("agent-revoked")),
            ("credentials", Some(Active), FRESH, Subject::None, None),
            ("credentials", Some(Active), STALE, Subject::None, Some("upstream-unavailable")),
            ("credentials", Some(Active), Freshness::Never, Subject::None, Some("upstream-unavailable")),
            ("credentials", None, FRESH, Subject::None, Some("upstream-unavailable")),
            ("credentials", Some(Isolated), FRESH, Subject::None, Some("agent-isolated")),
            ("credentials", Some(Isolated), STALE, Subject::None, Some("agent-isolated")),
            ("credentials", Some(Revoked), FRESH, Subject::None, Some("agent-revoked")),
            ("secrets", Some(Active), FRESH, Subject::None, None),
            ("secrets", Some(Active), STALE, Subject::None, Some("upstream-unavailable")),
            ("secrets", Some(Revoked), FRESH, Subject::None, Some("agent-revoked")),
            ("credential", Some(Active), FRESH, good(), None),
            ("credential", Some(Active), FRESH, end("2026-05-01T12:01:01Z"), None),
            ("credential", Some(Active), FRESH, end("2026-05-01T12:01:00Z"), Some("credential-expired")),
            ("credential", Some(Active), FRESH, end("2020-01-01T00:00:00Z"), Some("credential-expired")),
            ("credential", Some(Active), FRESH, held(None, STALE), Some("upstream-unavailable")),
            ("credential", Some(Active), FRESH, Subject::Absent, Some("not-found")),
            ("credential", Some(Active), FRESH, Subject::None, Some("not-found")),
            ("credential", Some(Active), STALE, good(), Some("upstream-unavailable")),
            ("credential", Some(Active), STALE, Subject::Absent, Some("upstream-unavailable")),
            ("credential", Some(Active), Freshness::Never, Subject::Absent, Some("upstream-unavailable")),
            ("credential", None, FRESH, Subject::Absent, Some("upstream-unavailable")),
            ("credential", Some(Isolated), FRESH, good(), Some("agent-isolated")),
            ("credential", Some(Isolated), FRESH, Subject::Absent, Some("agent-isolated")),
            ("credential", Some(Revoked), STALE, good(), Some("agent-revoked")),
            ("git-credential", Some(Active), FRESH, good(), None),
            ("git-credential", Some(Active), FRESH, end("2026-05-01T12:00:30Z"), Some("credential-expired")),
            ("git-credential", Some(Active), FRESH, Subject::Absent, Some("not-found")),
            ("git-credential", Some(Isolated), FRESH, good(), Some("agent-isolated")),
            ("secret", Some(Active), FRESH, good(), None),
            ("secret", Some(Active), FRESH, held(None, STALE), Some("upstream-unavailable")),
            ("secret", Some(Active), FRESH, Subject::Absent, Some("not-found")),
            ("secret", Some(Revoked), FRESH, good(), Some("agent-revoked")),
            ("rejected", Some(Active), FRESH, good(), None),
            ("rejected", Some(Active), FRESH, end("2020-01-01T00:00:00Z"), None),
            ("rejected", Some(Active), FRESH, held(None, STALE), None),
            ("rejected", Some(Active), FRESH, Subject::Absent, Some("not-found")),
            ("rejected", Some(Active), STALE, good(), Some("upstream-unavailable")),
            ("rejected", Some(Isolated), FRESH, good(), Some("agent-isolated")),
        ];
        for (name, state, freshness, subject, expected) in table {
            for transport in [Transport::Unix, Transport::Tcp] {
                let expected = match (name, transport) {
                    ("token", Transport::Tcp) => Some("forbidden-transport"),
                    _ => expected,
                };
                let now = NOW.parse().unwrap();
                let route = &route(name);
                let decision = decide(&Situation { route, transport, state, freshness, subject, now });
                assert_eq!(
                    code(decision),
                    expected,
                    "{name} {state:?} {freshness:?} {subject:?} {transport:?}"
                );
            }
        }
    }
}
