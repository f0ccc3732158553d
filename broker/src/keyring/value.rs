use dvx_memory::{Arena, MemoryError, Slot};
use dvx_proto::agent::{AuthType, CredentialSummary, GIT_USERNAME};
use dvx_proto::limits::MAX_SECRET_BYTES;
use dvx_proto::{Fingerprint, InvalidToken, ProviderName, RemoteUrl, SecretName, Token};
use jiff::Timestamp;
use thiserror::Error;

use super::render::{Part, render, time};
use crate::clock::Monotonic;

/// What is known about a credential besides its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CredentialFacts {
    /// The name under which the upstream takes reports about it, where it does.
    pub(crate) id: Option<Box<str>>,
    /// Whose token it is.
    pub(crate) provider: ProviderName,
    /// Who it is there.
    pub(crate) display_name: String,
    /// What kind of identity that is.
    pub(crate) auth_type: AuthType,
    /// When the token ends, where that is known.
    pub(crate) expires_at: Option<Timestamp>,
    /// Where the token may be sent. Without one git never gets it.
    pub(crate) instance: Option<RemoteUrl>,
}

/// A credential, with its answers ready.
#[derive(Clone)]
pub(crate) struct Credential {
    /// The name under which the upstream takes reports about it, where it does.
    pub(crate) id: Option<Box<str>>,
    /// Whose token it is.
    pub(crate) provider: ProviderName,
    /// Who it is there.
    pub(crate) display_name: String,
    /// What kind of identity that is.
    pub(crate) auth_type: AuthType,
    /// When the token ends, where that is known.
    pub(crate) expires_at: Option<Timestamp>,
    /// Where the token may be sent. Without one git never gets it.
    pub(crate) instance: Option<RemoteUrl>,
    /// A public name for the token.
    pub(crate) fingerprint: Fingerprint,
    /// `{"token":"…","expires_at":…}`
    pub(crate) body: Slot,
    /// `{"username":"oauth2","password":"…","expires_at":…,"fingerprint":"…"}`
    pub(crate) git_body: Slot,
    /// The last time its source was good, where it is bad now.
    pub(crate) frozen_since: Option<Monotonic>,
}

/// A secret that its agent may see, with its answer ready.
#[derive(Clone)]
pub(crate) struct SecretEntry {
    /// Its name.
    pub(crate) name: SecretName,
    /// A public name for the value.
    pub(crate) fingerprint: Fingerprint,
    /// `{"name":"…","value":"…"}`
    pub(crate) body: Slot,
    /// The last time its source was good, where it is bad now.
    pub(crate) frozen_since: Option<Monotonic>,
}

/// Why a value cannot be served. It never repeats the value.
#[derive(Debug, Error)]
pub(crate) enum ValueError {
    /// Not a token.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// Not text, which is all that JSON can carry.
    #[error("the value is not UTF-8")]
    NotText,
    /// Above [`MAX_SECRET_BYTES`].
    #[error("the value is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    /// No room for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl CredentialFacts {
    /// What holds where nobody said otherwise: the provider's public instance and no known end.
    pub(crate) fn defaults(provider: ProviderName) -> Self {
        Self {
            id: None,
            display_name: provider.as_str().to_owned(),
            auth_type: AuthType::Pat,
            expires_at: None,
            instance: public_instance(&provider),
            provider,
        }
    }
}

fn public_instance(provider: &ProviderName) -> Option<RemoteUrl> {
    let url = match provider.as_str() {
        "gitlab" => "https://gitlab.com",
        "github" => "https://github.com",
        _ => return None,
    };
    url.parse().ok()
}

impl Credential {
    /// Renders the answers. `text` is the token, maybe with one line end behind it.
    pub(crate) fn new(facts: CredentialFacts, text: &[u8], arena: &Arena) -> Result<Self, ValueError> {
        let token = text.get(Token::locate(text)?).unwrap_or_default();
        let fingerprint = Fingerprint::of(token);
        let token = std::str::from_utf8(token).map_err(|_| ValueError::NotText)?;
        let end = time(facts.expires_at);
        let body =
            [Part::Raw(r#"{"token":""#), Part::Text(token), Part::Raw(r#"","expires_at":"#), Part::Raw(&end)];
        let git_start = format!(r#"{{"username":"{GIT_USERNAME}","password":""#);
        let git_end = format!(r#"","expires_at":{end},"fingerprint":"{fingerprint}"}}"#);
        Ok(Self {
            fingerprint,
            body: render(&[&body[..], &[Part::Raw("}")]].concat(), arena)?,
            git_body: render(&[Part::Raw(&git_start), Part::Text(token), Part::Raw(&git_end)], arena)?,
            frozen_since: None,
            id: facts.id,
            provider: facts.provider,
            display_name: facts.display_name,
            auth_type: facts.auth_type,
            expires_at: facts.expires_at,
            instance: facts.instance,
        })
    }

    /// The same, of a source that is good, or has been bad since then. The answers are shared.
    #[must_use]
    pub(crate) fn marked(&self, frozen_since: Option<Monotonic>) -> Self {
        Self { frozen_since, ..self.clone() }
    }

    /// Whether both give the same answers.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        // The body has the token and its end, and git's has nothing else.
        self.body.expose_secret() == other.body.expose_secret()
            && self.instance == other.instance
            && self.summary() == other.summary()
            && self.expires_at == other.expires_at
            && self.id == other.id
    }

    /// How it is listed.
    pub(crate) fn summary(&self) -> CredentialSummary {
        CredentialSummary {
            provider: self.provider.clone(),
            display_name: self.display_name.clone(),
            auth_type: self.auth_type,
        }
    }
}

impl SecretEntry {
    /// Renders the answer. The value is taken byte for byte.
    pub(crate) fn new(name: SecretName, value: &[u8], arena: &Arena) -> Result<Self, ValueError> {
        if value.len() > MAX_SECRET_BYTES {
            return Err(ValueError::TooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| ValueError::NotText)?;
        let parts = [
            Part::Raw(r#"{"name":""#),
            Part::Text(name.as_str()),
            Part::Raw(r#"","value":""#),
            Part::Text(text),
            Part::Raw(r#""}"#),
        ];
        let body = render(&parts, arena)?;
        Ok(Self { fingerprint: Fingerprint::of(value), body, name, frozen_since: None })
    }

    /// As [`Credential::marked`].
    #[must_use]
    pub(crate) fn marked(&self, frozen_since: Option<Monotonic>) -> Self {
        Self { frozen_since, ..self.clone() }
    }

    /// As [`Credential::same_as`].
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.body.expose_secret() == other.body.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> CredentialFacts {
        CredentialFacts::defaults("gitlab".parse().unwrap())
    }

    fn text(slot: &Slot) -> &str {
        std::str::from_utf8(slot.expose_secret()).unwrap()
    }

    #[test]
    fn the_answers_are_exact() {
        let arena = Arena::new(false).unwrap();
        let plain = Credential::new(facts(), b"glpat-a\"b\n", &arena).unwrap();
        assert_eq!(text(&plain.body), r#"{"token":"glpat-a\"b","expires_at":null}"#);
        let fingerprint = Fingerprint::of(b"glpat-a\"b");
        assert_eq!(
            text(&plain.git_body),
            format!(
                r#"{{"username":"oauth2","password":"glpat-a\"b","expires_at":null,"fingerprint":"{fingerprint}"}}"#
            )
        );
        let ending = CredentialFacts { expires_at: "2027-01-01T00:00:00Z".parse().ok(), ..facts() };
        let ending = Credential::new(ending, b"glpat-x", &arena).unwrap();
        assert_eq!(text(&ending.body), r#"{"token":"glpat-x","expires_at":"2027-01-01T00:00:00Z"}"#);

        let secret = SecretEntry::new("tls:key".parse().unwrap(), "a\nß\n".as_bytes(), &arena).unwrap();
        assert_eq!(text(&secret.body), "{\"name\":\"tls:key\",\"value\":\"a\\nß\\n\"}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_answer_is_what_serde_json_would_make_of_it(value in prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,64}"], token in "[!-~]{1,200}") {
            let arena = Arena::new(false).unwrap();
            let secret = SecretEntry::new("KEY".parse().unwrap(), value.as_bytes(), &arena).unwrap();
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            prop_assert_eq!(text(&secret.body), format!(r#"{{"name":"KEY","value":{}}}"#, quoted(&value)));
            let credential = Credential::new(facts(), token.as_bytes(), &arena).unwrap();
            prop_assert_eq!(text(&credential.body), format!(r#"{{"token":{},"expires_at":null}}"#, quoted(&token)));
            let git: serde_json::Value = serde_json::from_str(text(&credential.git_body)).unwrap();
            prop_assert_eq!(git["password"].as_str(), Some(token.as_str()));
        }
    }

    #[test]
    fn values_that_cannot_be_served_are_errors_without_the_value() {
        let arena = Arena::new(false).unwrap();
        let token = |text: &[u8]| Credential::new(facts(), text, &arena).err().map(|error| error.to_string());
        assert_eq!(token(b"").unwrap(), "the token is empty");
        assert!(token(b"glpat visible").unwrap().ends_with("(byte 5): white space, control or non-ASCII"));
        let name: SecretName = "x".parse().unwrap();
        let secret = |value: &[u8]| SecretEntry::new(name.clone(), value, &arena).err();
        assert!(matches!(secret(b"\xff"), Some(ValueError::NotText)));
        assert!(matches!(secret(&vec![b'a'; MAX_SECRET_BYTES + 1]), Some(ValueError::TooLong)));
        assert!(secret(&vec![b'a'; MAX_SECRET_BYTES]).is_none());
        assert!(secret(b"").is_none(), "an empty value is a value");
        assert_eq!(arena.usage().used_bytes, 0, "nothing is left of what failed");
    }

    #[test]
    fn only_providers_with_a_public_instance_have_one_by_default() {
        let instance = |provider: &str| {
            CredentialFacts::defaults(provider.parse().unwrap()).instance.map(|url| url.to_string())
        };
        assert_eq!(instance("gitlab").as_deref(), Some("https://gitlab.com"));
        assert_eq!(instance("github").as_deref(), Some("https://github.com"));
        assert_eq!(instance("forge"), None);
    }

    #[test]
    fn a_frozen_credential_shares_its_answers() {
        let arena = Arena::new(false).unwrap();
        let credential = Credential::new(facts(), b"glpat-x", &arena).unwrap();
        let used = arena.usage();
        let since = Monotonic::since_boot(std::time::Duration::from_secs(9));
        let frozen = credential.marked(Some(since));
        assert_eq!(frozen.frozen_since, Some(since));
        assert!(frozen.same_as(&credential));
        assert_eq!(frozen.marked(None).frozen_since, None);
        assert_eq!(arena.usage(), used);
    }

    #[test]
    fn a_secret_is_the_same_while_its_answer_is_whether_it_is_frozen_or_not() {
        let arena = Arena::new(false).unwrap();
        let new = |value: &[u8]| SecretEntry::new("KEY".parse().unwrap(), value, &arena).unwrap();
        let secret = new(b"value");
        let since = Monotonic::since_boot(std::time::Duration::from_secs(9));
        let frozen = secret.marked(Some(since));
        assert_eq!(frozen.frozen_since, Some(since));
        assert_eq!(frozen.marked(None).frozen_since, None);
        assert!(frozen.same_as(&secret));
        assert!(!secret.same_as(&new(b"another")));
    }

    #[test]
    fn what_an_answer_shows_makes_a_difference() {
        let arena = Arena::new(false).unwrap();
        let new = |facts, token: &[u8]| Credential::new(facts, token, &arena).unwrap();
        let credential = new(facts(), b"glpat-x");
        assert!(credential.same_as(&new(facts(), b"glpat-x\n")));
        for other in [
            new(facts(), b"glpat-y"),
            new(CredentialFacts { display_name: "other".to_owned(), ..facts() }, b"glpat-x"),
            new(CredentialFacts { auth_type: AuthType::ServiceAccount, ..facts() }, b"glpat-x"),
            new(CredentialFacts { expires_at: "2027-01-01T00:00:00.5Z".parse().ok(), ..facts() }, b"glpat-x"),
            new(CredentialFacts { instance: None, ..facts() }, b"glpat-x"),
            new(CredentialFacts { id: Some("7".into()), ..facts() }, b"glpat-x"),
        ] {
            assert!(!credential.same_as(&other));
        }
    }
}
