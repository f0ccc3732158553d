//! Numbers and paths that name things at GitLab.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// The number of a user, which a service account is too.
    UserId
);
id!(
    /// The number of a group.
    GroupId
);
id!(
    /// The number of a project.
    ProjectId
);
id!(
    /// The number of a token. It changes when the token is rotated.
    TokenId
);

/// A group as a person names it: by number, or by its full path such as `company/agents`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupRef(Box<str>);

/// A text that names no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a group; expected its number or its full path, such as company/agents")]
pub struct InvalidGroupRef;

impl GroupRef {
    /// As a segment of a path: a group's slashes are escaped, its other characters need not be.
    pub(crate) fn segment(&self) -> String {
        self.0.replace('/', "%2F")
    }
}

impl FromStr for GroupRef {
    type Err = InvalidGroupRef;

    fn from_str(text: &str) -> Result<Self, InvalidGroupRef> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
        // GitLab allows 255 bytes a part and 20 levels; nobody writes that by hand.
        if text.len() > 1024 || !text.split('/').all(part) {
            return Err(InvalidGroupRef);
        }
        Ok(Self(text.into()))
    }
}

impl From<GroupId> for GroupRef {
    fn from(id: GroupId) -> Self {
        Self(id.to_string().into())
    }
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_number_or_path() {
        for (text, segment) in [("42", "42"), ("company", "company"), ("a/b-c/d.e_f", "a%2Fb-c%2Fd.e_f")] {
            assert_eq!(text.parse::<GroupRef>().unwrap().segment(), segment);
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a b", "a%2Fb", "a?b", "a#b", "ä"] {
            assert_eq!(bad.parse::<GroupRef>(), Err(InvalidGroupRef), "{bad:?}");
        }
    }
}
