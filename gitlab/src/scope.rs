//! What a token may do.

use serde::{Deserialize, Serialize};

/// The scopes of a token, as the provider names them. What is not made like one is left out: scopes are kept and
/// shown, and an instance may make up what it likes, such as one of the token's own text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(Vec<String>);

/// What a token is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Reading by the API, as an agent does. `read_user` alone would answer `GET /user` and nothing else.
    Read,
    /// Changing by the API, as a provider does.
    Write,
    /// Replacing itself.
    RotateItself,
}

impl Need {
    /// The scopes of which one suffices.
    pub const fn sufficient(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["read_api", "api"],
            Self::Write => &["api"],
            Self::RotateItself => &["api", "self_rotate"],
        }
    }
}

impl Scopes {
    /// Whether one of the scopes suffices for `need`.
    pub fn suffice_for(&self, need: Need) -> bool {
        self.0.iter().any(|scope| need.sufficient().contains(&scope.as_str()))
    }

    /// The scopes, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there are none, which for a fine-grained token means that its rights are elsewhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(scopes: I) -> Self {
        Self(scopes.into_iter().map(Into::into).filter(|scope| is_scope(scope)).collect())
    }
}

impl From<Vec<String>> for Scopes {
    fn from(scopes: Vec<String>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

/// Both providers' scopes are small letters, digits and underscores, GitHub's in two parts.
fn is_scope(text: &str) -> bool {
    const MAX_BYTES: usize = 40;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b':');
    !text.is_empty() && text.len() <= MAX_BYTES && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_made_like_a_scope_is_left_out() {
        let scopes: Scopes =
            serde_json::from_str(r#"["api","read:user","glpat-0a1B.x","two words","",  "\u001b[31m"]"#)
                .unwrap();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["api", "read:user"]);
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["api","read:user"]"#);
    }

    #[test]
    fn one_sufficient_scope_suffices_and_others_do_not_add_up() {
        let table: [(&[&str], bool, bool, bool); 9] = [
            (&["api"], true, true, true),
            (&["read_api"], true, false, false),
            (&["read_api", "self_rotate"], true, false, true),
            (&["self_rotate"], false, false, true),
            (&["read_user"], false, false, false),
            (&["read_repository", "write_repository"], false, false, false),
            (&["read_api_x", "apis"], false, false, false),
            (&["API"], false, false, false),
            (&[], false, false, false),
        ];
        for (scopes, read, write, rotate) in table {
            let scopes: Scopes = scopes.iter().copied().collect();
            assert_eq!(scopes.suffice_for(Need::Read), read, "{scopes:?}");
            assert_eq!(scopes.suffice_for(Need::Write), write, "{scopes:?}");
            assert_eq!(scopes.suffice_for(Need::RotateItself), rotate, "{scopes:?}");
        }
    }
}
