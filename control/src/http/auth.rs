//! Who asks: a token, or on the Unix socket the kernel's word.

use dvx_proto::Code;
use dvx_proto::operator::{OPERATOR_TOKEN_PREFIX, Role};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::Peer;
use super::error::Refusal;
use crate::app::App;
use crate::crypto::HashedToken;
use crate::domain::Actor;

/// Finds out who sent a request. A token that was sent decides, whoever is at the other end.
pub(crate) async fn authenticate(app: &App, peer: Peer, headers: &HeaderMap) -> Result<Actor, Refusal> {
    match credentials(headers)? {
        Some(token) => match app.store.operator_by_token(&HashedToken::of(token)).await {
            Ok(Some(actor)) => Ok(actor),
            Ok(None) => Err(invalid("the token is not known, or its operator was deleted")),
            Err(error) => Err(error.into()),
        },
        None => local(app, peer).await,
    }
}

/// Root and the control plane's own user own the database anyway.
async fn local(app: &App, peer: Peer) -> Result<Actor, Refusal> {
    let Some(uid) = trusted(peer, nix::unistd::geteuid().as_raw()) else {
        return Err(Refusal::new(Code::TokenMissing, "an operator token is required")
            .with_hint("send it as Authorization: Bearer, or set DVX_OPERATOR_TOKEN, or use dvx login"));
    };
    let (org, organisation) = app.default_organisation().await?;
    Ok(Actor { org, organisation, name: format!("uid:{uid}"), role: Some(Role::Admin) })
}

/// The uid of a caller that needs no token. The kernel shows no pid for a process outside of our pid namespace
/// and those below it, such as one in a container with a root of its own that was given the socket.
fn trusted(peer: Peer, own: u32) -> Option<u32> {
    match peer {
        Peer::Unix { uid, pid: Some(pid) } if pid > 0 && (uid == 0 || uid == own) => Some(uid),
        Peer::Unix { .. } | Peer::Tcp(_) => None,
    }
}

/// The token that was sent, if one was.
fn credentials(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(invalid("there is more than one Authorization field"));
    }
    let (scheme, token) = field
        .as_bytes()
        .split_at_checked("Bearer ".len())
        .ok_or_else(|| invalid("the Authorization field is not a bearer token"))?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(invalid("the Authorization field is not a bearer token"));
    }
    let token = token.trim_ascii();
    // Not worth asking the database about. A key of an enclave is somebody's, but no operator's.
    if !token.starts_with(OPERATOR_TOKEN_PREFIX.as_bytes()) {
        return Err(invalid("the token is not an operator's"));
    }
    Ok(Some(token))
}

fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Code::TokenInvalid, detail).with_hint("ask an admin for a token: dvx operator create NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn root_and_the_own_user_need_no_token_unless_they_come_from_elsewhere() {
        let unix = |uid, pid| Peer::Unix { uid, pid };
        for (peer, expected) in [
            (unix(0, Some(7)), Some(0)),
            (unix(990, Some(7)), Some(990)),
            (unix(1000, Some(7)), None),
            (unix(65534, Some(7)), None),
            (unix(0, Some(0)), None),
            (unix(0, None), None),
            (Peer::Tcp("127.0.0.1:5".parse().unwrap()), None),
        ] {
            assert_eq!(trusted(peer, 990), expected, "{peer:?}");
        }
    }

    #[test]
    fn exactly_one_bearer_token_is_a_token() {
        assert!(matches!(credentials(&headers(&[])), Ok(None)));
        assert_eq!(credentials(&headers(&["bearer dvxo_x"])).unwrap(), Some(b"dvxo_x".as_slice()));
        for bad in ["Bearer", "Bearer ", "Basic dvxo_x", "dvxo_x", "Bearer dvxe_x", "Bearer dvxo", ""] {
            let refusal = credentials(&headers(&[bad])).unwrap_err();
            assert_eq!(refusal.code, Code::TokenInvalid, "{bad}");
        }
        assert!(credentials(&headers(&["Bearer dvxo_x", "Bearer dvxo_x"])).is_err());
    }
}
