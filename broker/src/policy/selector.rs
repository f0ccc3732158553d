//! What a rule can ask of a peer's place among the control groups.
//!
//! Paths are those of the cgroup v2 hierarchy, from its root, as `/proc/<pid>/cgroup` writes them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The name of a systemd system unit that processes run in, such as `my-agent.service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitName(Box<str>);

/// A place in the cgroup v2 hierarchy, such as `/system.slice/my-agent.service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupPath(Box<str>);

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidSelector {
    /// Slices hold no processes, and the other unit types have no control group.
    #[error("not a unit that processes run in; expected NAME.service or NAME.scope")]
    Unit,
    /// Not a path from the root of the hierarchy, or not in its plain form.
    #[error("not a cgroup path; expected /PART/PART without empty parts, \".\" or \"..\"")]
    Cgroup,
}

impl UnitName {
    /// The longest name of a unit: `UNIT_NAME_MAX` in systemd's `unit-name.h`.
    const MAX_BYTES: usize = 255;

    /// Whether a process in this control group belongs to the unit.
    ///
    /// The unit is the first part of the path that is not a slice. What lies below that part may be
    /// delegated to whoever runs there: in `/user.slice/user-1001.slice/user@1001.service/app.slice/x.service`
    /// the user made up `x.service`.
    pub(crate) fn holds(&self, path: &str) -> bool {
        unit_of(path).is_some_and(|unit| unit == &*self.0)
    }
}

impl CgroupPath {
    /// Whether a path is this one or lies below it.
    pub(crate) fn holds(&self, path: &str) -> bool {
        match path.strip_prefix(self.prefix()) {
            Some(rest) => path.starts_with('/') && (rest.is_empty() || rest.starts_with('/')),
            None => false,
        }
    }

    /// Whether no path is held by both.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        !self.holds(&other.0) && !other.holds(&self.0)
    }

    /// Whether everything here belongs to one unit, and that is another one.
    pub(crate) fn excludes_unit(&self, unit: &UnitName) -> bool {
        unit_of(&self.0).is_some_and(|own| own != &*unit.0)
    }

    /// The root is the empty prefix of every path.
    fn prefix(&self) -> &str {
        if &*self.0 == "/" { "" } else { &self.0 }
    }
}

/// The system unit that a control group belongs to.
fn unit_of(path: &str) -> Option<&str> {
    let part = path.strip_prefix('/')?.split('/').find(|part| !part.ends_with(".slice"))?;
    // systemd puts an underscore before names that the kernel would mistake for its own files
    // (`cg_escape` in systemd's cgroup-util.c).
    let unit = part.strip_prefix('_').unwrap_or(part);
    (!unit.is_empty()).then_some(unit)
}

impl FromStr for UnitName {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        // VALID_CHARS of systemd's unit-name.c, and the `@` between a template and its instance.
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let stem = text.strip_suffix(".service").or_else(|| text.strip_suffix(".scope"));
        match stem {
            Some(stem) if !stem.is_empty() && text.len() <= Self::MAX_BYTES && text.bytes().all(usable) => {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidSelector::Unit),
        }
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let parts = text.strip_prefix('/').ok_or(InvalidSelector::Cgroup)?;
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\n']);
        if parts.is_empty() || parts.split('/').all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSelector::Cgroup)
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> UnitName {
        text.parse().unwrap()
    }

    fn cgroup(text: &str) -> CgroupPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_selector_is_written_as_it_is_read() {
        assert_eq!(unit("my-agent.service").to_string(), "my-agent.service");
        assert_eq!(cgroup("/agents.slice/lab").to_string(), "/agents.slice/lab");
    }

    #[test]
    fn the_unit_is_the_first_part_that_is_not_a_slice() {
        let agent = unit("my-agent.service");
        for inside in [
            "/system.slice/my-agent.service",
            "/system.slice/my-agent.service/payload",
            "/my-agent.service",
            "/agents.slice/agents-lab.slice/my-agent.service",
            "/system.slice/_my-agent.service",
        ] {
            assert!(agent.holds(inside), "{inside}");
        }
        for outside in [
            "/",
            "",
            "my-agent.service",
            "/system.slice",
            "/system.slice/my-agent.service2",
            "/system.slice/not-my-agent.service",
            "/user.slice/user-1001.slice/user@1001.service/app.slice/my-agent.service",
            "/system.slice/docker-4f1d.scope/system.slice/my-agent.service",
            "/kubepods/pod1/my-agent.service",
            "//my-agent.service",
            "/system.slice/__my-agent.service",
        ] {
            assert!(!agent.holds(outside), "{outside}");
        }
    }

    #[test]
    fn a_cgroup_holds_itself_and_what_is_below() {
        let path = cgroup("/agents/a");
        for inside in ["/agents/a", "/agents/a/b", "/agents/a/b/c"] {
            assert!(path.holds(inside), "{inside}");
        }
        for outside in ["/", "/agents", "/agents/ab", "/agents/b", "/x/agents/a", "agents/a", ""] {
            assert!(!path.holds(outside), "{outside}");
        }
        assert!(cgroup("/").holds("/") && cgroup("/").holds("/anything"));
        assert!(!cgroup("/").holds("") && !cgroup("/").holds("relative"));
    }

    #[test]
    fn paths_exclude_each_other_when_neither_is_above() {
        assert!(cgroup("/a").excludes(&cgroup("/b")));
        assert!(cgroup("/a/b").excludes(&cgroup("/a/bc")));
        assert!(!cgroup("/a").excludes(&cgroup("/a")));
        assert!(!cgroup("/a").excludes(&cgroup("/a/b")) && !cgroup("/a/b").excludes(&cgroup("/a")));
        assert!(!cgroup("/").excludes(&cgroup("/a")) && !cgroup("/a").excludes(&cgroup("/")));
    }

    #[test]
    fn a_path_excludes_a_unit_only_when_its_own_is_known() {
        assert!(cgroup("/system.slice/a.service").excludes_unit(&unit("b.service")));
        assert!(cgroup("/system.slice/a.service/x").excludes_unit(&unit("x.service")));
        assert!(!cgroup("/system.slice/a.service").excludes_unit(&unit("a.service")));
        assert!(!cgroup("/system.slice").excludes_unit(&unit("a.service")));
        assert!(!cgroup("/").excludes_unit(&unit("a.service")));
    }

    #[test]
    fn selectors_are_written_in_one_form_only() {
        for bad in ["", "a", ".service", "a.slice", "a.socket", "a b.service", "a/b.service", "ä.service"] {
            assert_eq!(bad.parse::<UnitName>(), Err(InvalidSelector::Unit), "{bad:?}");
        }
        assert!(format!("{}.service", "a".repeat(247)).parse::<UnitName>().is_ok());
        assert!(format!("{}.service", "a".repeat(248)).parse::<UnitName>().is_err());
        for good in ["agent@1.service", "session-3.scope", r"a\x2db.service"] {
            assert!(good.parse::<UnitName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "a/b", "/a/", "//", "/a//b", "/a/../b", "/./a", "/a\n"] {
            assert_eq!(bad.parse::<CgroupPath>(), Err(InvalidSelector::Cgroup), "{bad:?}");
        }
    }
}
