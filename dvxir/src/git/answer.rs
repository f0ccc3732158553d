//! What git is told.

use dvx_proto::Fingerprint;
use dvx_proto::agent::GitCredential;
use dvx_proto::limits::EXPIRY_MARGIN;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::lines::{Round, STATE_PREFIX};

/// How far ahead an end must be for git to be told: git drops an answer whose end has passed, and asks the
/// next helper or the person.
const LEAST_SECONDS_AHEAD: i64 = 5;

/// The lines that answer a question. Basic authentication, because pushes above `http.postBuffer` fail with
/// git's `authtype=Bearer`. `None` where the broker's user name does not fit on a line.
pub(super) fn render(
    credential: &GitCredential,
    keeps_state: bool,
    round: Round,
    now: Timestamp,
) -> Option<Zeroizing<Vec<u8>>> {
    let username = credential.username.as_bytes();
    if username.is_empty() || !username.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let password = credential.password.expose_secret();
    let mut lines = Lines(Zeroizing::new(Vec::with_capacity(256 + username.len() + password.len())));
    if keeps_state {
        // A capability stands before what needs it.
        lines.push("capability[]", b"state");
    }
    lines.push("username", username);
    lines.push("password", password);
    if let Some(end) = credential.expires_at.and_then(|end| announced_end(end, now)) {
        lines.push("password_expiry_utc", end.to_string().as_bytes());
    }
    if keeps_state {
        lines.push_state(round, credential.fingerprint);
    }
    Some(lines.0)
}

/// Tells git to ask nobody else: an operator has decided that this agent gets nothing.
pub(super) const QUIT: &[u8] = b"quit=1\n";

struct Lines(Zeroizing<Vec<u8>>);

impl Lines {
    fn push(&mut self, key: &str, value: &[u8]) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// In the first round, what makes git ask again within the same command when the server refuses the
    /// token; in the second, nothing of the kind: git would take one more refusal for a plain failure and
    /// not even tell us to forget the token.
    fn push_state(&mut self, round: Round, fingerprint: Fingerprint) {
        match round {
            Round::First => {
                self.push("state[]", format!("{STATE_PREFIX}attempt=1").as_bytes());
                self.push("state[]", format!("{STATE_PREFIX}fingerprint={fingerprint}").as_bytes());
                self.push("continue", b"1");
            }
            Round::Again(_) => self.push("state[]", format!("{STATE_PREFIX}attempt=2").as_bytes()),
        }
    }
}

/// The end that git is told: ahead of the true one, so that no token dies in git's hands, and never one
/// that git might find in the past.
fn announced_end(end: Timestamp, now: Timestamp) -> Option<i64> {
    let margin = i64::try_from(EXPIRY_MARGIN.as_secs()).unwrap_or(i64::MAX);
    let announced = end.as_second().saturating_sub(margin);
    (announced >= now.as_second().saturating_add(LEAST_SECONDS_AHEAD)).then_some(announced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(json: &str) -> GitCredential {
        serde_json::from_str(json).unwrap()
    }

    fn rendered(expires_at: &str, keeps_state: bool, round: Round, now: i64) -> String {
        let json = format!(
            r#"{{"username":"oauth2","password":"tok","expires_at":{expires_at},"fingerprint":"0123456789abcdef"}}"#
        );
        let lines =
            render(&credential(&json), keeps_state, round, Timestamp::from_second(now).unwrap()).unwrap();
        String::from_utf8(lines.to_vec()).unwrap()
    }

    #[test]
    fn old_gits_get_user_and_password_only() {
        assert_eq!(rendered("null", false, Round::First, 0), "username=oauth2\npassword=tok\n");
        assert_eq!(rendered("null", false, Round::Again(None), 0), "username=oauth2\npassword=tok\n");
    }

    #[test]
    fn the_first_round_asks_to_come_back_and_the_second_does_not() {
        assert_eq!(
            rendered("null", true, Round::First, 0),
            "capability[]=state\nusername=oauth2\npassword=tok\nstate[]=dvx:attempt=1\n\
             state[]=dvx:fingerprint=0123456789abcdef\ncontinue=1\n"
        );
        assert_eq!(
            rendered("null", true, Round::Again(None), 0),
            "capability[]=state\nusername=oauth2\npassword=tok\nstate[]=dvx:attempt=2\n"
        );
    }

    #[test]
    fn the_end_is_told_with_margin_and_never_in_the_past() {
        let end = r#""1970-01-01T01:00:00Z""#;
        assert!(rendered(end, false, Round::First, 0).ends_with("\npassword_expiry_utc=3540\n"));
        assert!(rendered(end, false, Round::First, 3535).ends_with("\npassword_expiry_utc=3540\n"));
        assert!(!rendered(end, false, Round::First, 3536).contains("expiry"));
        assert!(!rendered(end, false, Round::First, 9999).contains("expiry"));
    }

    #[test]
    fn a_user_name_that_would_start_a_line_of_its_own_is_refused() {
        for name in ["", r"a\nhost=evil", r"a\r", r"a\u0000", "a b"] {
            let json = format!(
                r#"{{"username":"{name}","password":"tok","expires_at":null,"fingerprint":"0123456789abcdef"}}"#
            );
            assert!(
                render(&credential(&json), true, Round::First, Timestamp::UNIX_EPOCH).is_none(),
                "{name}"
            );
        }
    }
}
