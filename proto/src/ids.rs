//! Names of agents, enclaves, providers and secrets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::quote::quoted;

/// A text that is not a name of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given} is not {kind}; expected {expected}")]
pub struct InvalidName {
    given: String,
    kind: &'static str,
    expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $first:expr, $rest:expr, $max:literal) => {
        name!($(#[$doc])* $name, $kind, $expected, $expected, $first, $rest, $max);
    };
    (
        $(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $pattern:literal,
        $first:expr, $rest:expr, $max:literal
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The longest name of this kind, in bytes.
            pub const MAX_BYTES: usize = $max;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let mut bytes = text.bytes();
                if text.len() <= $max && bytes.next().is_some_and(first) && bytes.all(rest) {
                    return Ok(Self(text.into()));
                }
                Err(InvalidName { given: quoted(text), kind: $kind, expected: $expected })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::schema::text().pattern(Some(concat!("^", $pattern, "$"))).into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

const fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

const fn lower_digit_dash(byte: u8) -> bool {
    lower_or_digit(byte) || byte == b'-' || byte == b'_'
}

name!(
    /// Names an agent within its enclave; also a directory name under `/run/dvx/agents`.
    AgentName, "an agent's name", "[a-z0-9][a-z0-9_-]{0,63}", lower_or_digit, lower_digit_dash, 64
);
name!(
    /// Names an enclave; the `iss` of its broker's agent tokens.
    EnclaveName, "an enclave's name", "[a-z0-9][a-z0-9_-]{0,63}", lower_or_digit, lower_digit_dash, 64
);
name!(
    /// Names an operator.
    OperatorName, "an operator's name", "[a-z0-9][a-z0-9_-]{0,63}", lower_or_digit, lower_digit_dash, 64
);
name!(
    /// A Unix user of an enclave, by name or number (useradd(8)). The broker looks it up.
    UnixUser,
    "a Unix user",
    "a user's name or number, such as \"agent1\" or \"1001\"",
    "[A-Za-z0-9_][A-Za-z0-9._$-]{0,31}",
    |byte| byte.is_ascii_alphanumeric() || byte == b'_',
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'$'),
    32
);
name!(
    /// Names a provider such as `gitlab`.
    ProviderName, "a provider's name", "[a-z0-9][a-z0-9_-]{0,63}", lower_or_digit, lower_digit_dash, 64
);
name!(
    /// Names a secret. It stands in paths and file names as it is, so nothing in it needs escaping and it
    /// never begins with a dot.
    SecretName,
    "a secret's name",
    "[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}",
    |byte| byte.is_ascii_alphanumeric() || byte == b'_',
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'),
    128
);

impl SecretName {
    /// The provider whose token a secret of this name is: `gitlab` for `gitlab:token`.
    pub fn provider(&self) -> Option<ProviderName> {
        self.as_str().strip_suffix(":token")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_names_are_lower_case_and_short() {
        for good in ["gitlab", "0", "a_b-c", &"a".repeat(64)] {
            assert!(good.parse::<ProviderName>().is_ok(), "{good}");
        }
        for bad in ["", "GitLab", "-a", "_a", "a.b", "a/b", "a b", "é", "a\n", &"a".repeat(65)] {
            assert!(bad.parse::<ProviderName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secret_names_cannot_leave_their_directory() {
        for good in ["DATABASE_URL", "gitlab:token", "tls.crt", "_x"] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..data", ".hidden", "a/b", "a%2fb", "a b", "a\0"] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }
}
