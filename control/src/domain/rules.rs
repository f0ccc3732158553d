//! Which peers an agent's user and selectors match, so far as that can be told from here.
//!
//! The broker has the last word, with the same rules (its `policy::rules`): it alone can look users up.

use dvx_proto::UnixUser;
use dvx_proto::operator::Selectors;
use thiserror::Error;

/// An agent's user and selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    user: UnixUser,
    unit: Option<String>,
    cgroup: Option<String>,
}

/// Why a text is not a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSelector {
    /// Slices hold no processes, and the other unit types have no control group.
    #[error("unit: not a unit that processes run in; expected NAME.service or NAME.scope")]
    Unit,
    /// Not a path from the root of the hierarchy, or not in its plain form.
    #[error("cgroup: not a cgroup path; expected /PART/PART without empty parts, \".\" or \"..\"")]
    Cgroup,
}

impl Rule {
    /// `UNIT_NAME_MAX` in systemd's `unit-name.h`.
    const MAX_UNIT_BYTES: usize = 255;
    /// `PATH_MAX`, which no cgroup's path can exceed.
    const MAX_CGROUP_BYTES: usize = 4096;

    /// Checks the selectors as a broker checks those of its configuration.
    pub fn parse(user: &UnixUser, selectors: &Selectors) -> Result<Self, InvalidSelector> {
        let Selectors { gid: _, unit, cgroup } = selectors;
        if unit.as_deref().is_some_and(|unit| !is_unit(unit)) {
            return Err(InvalidSelector::Unit);
        }
        if cgroup.as_deref().is_some_and(|cgroup| !is_cgroup(cgroup)) {
            return Err(InvalidSelector::Cgroup);
        }
        Ok(Self { user: user.clone(), unit: unit.clone(), cgroup: cgroup.clone() })
    }

    /// Whether no peer matches both. Groups never exclude each other: a process can be in both.
    pub fn excludes(&self, other: &Self) -> bool {
        self.user != other.user
            || both(&self.unit, &other.unit, |a, b| a != b)
            || both(&self.cgroup, &other.cgroup, |a, b| !holds(a, b) && !holds(b, a))
            || both(&self.cgroup, &other.unit, excludes_unit)
            || both(&other.cgroup, &self.unit, excludes_unit)
    }
}

fn both(a: &Option<String>, b: &Option<String>, exclude: impl Fn(&str, &str) -> bool) -> bool {
    a.as_deref().zip(b.as_deref()).is_some_and(|(a, b)| exclude(a, b))
}

/// Whether a cgroup is this one or lies below it.
fn holds(cgroup: &str, path: &str) -> bool {
    let prefix = if cgroup == "/" { "" } else { cgroup };
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether everything in the cgroup belongs to one unit, and that is another one.
fn excludes_unit(cgroup: &str, unit: &str) -> bool {
    unit_of(cgroup).is_some_and(|own| own != unit)
}

/// The system unit that a control group belongs to: the first part of the path that is not a slice.
fn unit_of(path: &str) -> Option<&str> {
    let part = path.strip_prefix('/')?.split('/').find(|part| !part.ends_with(".slice"))?;
    // systemd puts an underscore before names that the kernel would mistake for its own files
    // (`cg_escape` in systemd's cgroup-util.c).
    let unit = part.strip_prefix('_').unwrap_or(part);
    (!unit.is_empty()).then_some(unit)
}

fn is_unit(text: &str) -> bool {
    // VALID_CHARS of systemd's unit-name.c, and the `@` between a template and its instance.
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let stem = text.strip_suffix(".service").or_else(|| text.strip_suffix(".scope"));
    stem.is_some_and(|stem| !stem.is_empty())
        && text.len() <= Rule::MAX_UNIT_BYTES
        && text.bytes().all(usable)
}

fn is_cgroup(text: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\n']);
    text.len() <= Rule::MAX_CGROUP_BYTES
        && text.strip_prefix('/').is_some_and(|parts| parts.is_empty() || parts.split('/').all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(user: &str, unit: Option<&str>, cgroup: Option<&str>) -> Rule {
        let selectors = Selectors { gid: None, unit: unit.map(Into::into), cgroup: cgroup.map(Into::into) };
        Rule::parse(&user.parse().unwrap(), &selectors).unwrap()
    }

    #[test]
    fn agents_of_one_user_need_selectors_that_exclude_each_other() {
        let cases = [
            (rule("u", None, None), rule("v", None, None), true),
            (rule("u", None, None), rule("u", None, None), false),
            (rule("u", Some("a.service"), None), rule("u", None, None), false),
            (rule("u", Some("a.service"), None), rule("u", Some("a.service"), None), false),
            (rule("u", Some("a.service"), None), rule("u", Some("b.service"), None), true),
            (rule("u", None, Some("/a")), rule("u", None, Some("/b")), true),
            (rule("u", None, Some("/a")), rule("u", None, Some("/ab")), true),
            (rule("u", None, Some("/a")), rule("u", None, Some("/a/b")), false),
            (rule("u", None, Some("/")), rule("u", None, Some("/a")), false),
            (rule("u", Some("a.service"), None), rule("u", None, Some("/system.slice/b.service")), true),
            (rule("u", Some("a.service"), None), rule("u", None, Some("/system.slice/a.service/x")), false),
            (rule("u", Some("a.service"), None), rule("u", None, Some("/system.slice")), false),
        ];
        for (a, b, excluded) in cases {
            assert_eq!(a.excludes(&b), excluded, "{a:?} {b:?}");
            assert_eq!(b.excludes(&a), excluded, "{b:?} {a:?}");
        }
    }

    #[test]
    fn selectors_are_written_in_one_form_only() {
        let user = "u".parse().unwrap();
        for bad in ["", "a", ".service", "a.slice", "a b.service", "a/b.service"] {
            let selectors = Selectors { unit: Some(bad.into()), ..Selectors::default() };
            assert_eq!(Rule::parse(&user, &selectors), Err(InvalidSelector::Unit), "{bad:?}");
        }
        for bad in ["", "a", "/a/", "//", "/a//b", "/a/../b", "/./a", "/a\n"] {
            let selectors = Selectors { cgroup: Some(bad.into()), ..Selectors::default() };
            assert_eq!(Rule::parse(&user, &selectors), Err(InvalidSelector::Cgroup), "{bad:?}");
        }
    }
}
