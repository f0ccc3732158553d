//! Roles.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a member may do in a group or project. Levels that GitLab adds between these are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessLevel(u8);

impl AccessLevel {
    /// Sees issues and little else.
    pub const GUEST: Self = Self(10);
    /// Plans.
    pub const PLANNER: Self = Self(15);
    /// Reads code.
    pub const REPORTER: Self = Self(20);
    /// Pushes code.
    pub const DEVELOPER: Self = Self(30);
    /// Manages a project.
    pub const MAINTAINER: Self = Self(40);
    /// Owns a group or project.
    pub const OWNER: Self = Self(50);

    /// The levels that a member can be given, with their names.
    pub const NAMED: [(Self, &'static str); 6] = [
        (Self::GUEST, "guest"),
        (Self::PLANNER, "planner"),
        (Self::REPORTER, "reporter"),
        (Self::DEVELOPER, "developer"),
        (Self::MAINTAINER, "maintainer"),
        (Self::OWNER, "owner"),
    ];

    /// The level of this number, if a member can be given it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::NAMED.into_iter().map(|(level, _)| level).find(|level| level.0 == number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.into_iter().find(|(level, _)| level == self) {
            Some((_, name)) => write!(f, "{name} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_only_grantable_numbers_are_levels() {
        assert!(AccessLevel::OWNER > AccessLevel::MAINTAINER && AccessLevel::GUEST < AccessLevel::DEVELOPER);
        assert_eq!(AccessLevel::from_number(30), Some(AccessLevel::DEVELOPER));
        for number in [0, 5, 31, 60] {
            assert_eq!(AccessLevel::from_number(number), None, "{number}");
        }
        assert_eq!(AccessLevel::DEVELOPER.to_string(), "developer (30)");
    }
}
