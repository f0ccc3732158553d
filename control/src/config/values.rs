//! What single values mean.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dvx_gitlab::Network;
use dvx_proto::{quoted, quoted_unless_plain};

use super::error::Cause;
use super::reader::Value;
use super::{Database, DatabaseUrl, Seccomp};

/// A kind of value, in the words of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) noun: &'static str,
    pub(super) expected: &'static str,
}

impl Kind {
    pub(super) const TABLE: Self = Self { noun: "a table", expected: "a section of keys" };
    pub(super) const PATH: Self = Self { noun: "a path", expected: "an absolute path" };
    pub(super) const SOCKET: Self =
        Self { noun: "a socket's path", expected: "an absolute path of at most 107 bytes" };
    pub(super) const ADDRESS: Self = Self {
        noun: "an address to listen on",
        expected: "an IP address and a port, such as \"0.0.0.0:8470\"",
    };
    pub(super) const LOOPBACK: Self = Self {
        noun: "a loopback address",
        expected: "127.0.0.1:port or [::1]:port, since nobody is asked for a token there",
    };
    pub(super) const DATABASE: Self = Self {
        noun: "a database's URL",
        expected: "\"sqlite:///absolute/path\" or \"postgres://user@host/database\"",
    };
    pub(super) const RETENTION: Self = Self { noun: "a duration", expected: "\"1d\" to \"3650d\"" };
    pub(super) const NETWORKS: Self = Self {
        noun: "a list of networks",
        expected: "networks such as [\"10.0.0.0/8\", \"fd00::/8\"], with no bit set behind the prefix",
    };
    pub(super) const SECCOMP: Self =
        Self { noun: "a seccomp mode", expected: "\"kill\", \"errno\", \"log\" or \"off\"" };
}

/// An absolute path in which `${NAME}` stands for an environment variable, as systemd's
/// `${CREDENTIALS_DIRECTORY}`.
pub(super) fn path(value: &Value<'_, '_>, kind: Kind) -> Result<PathBuf, Cause> {
    let expanded = expanded(value, kind)?;
    let usable = expanded.starts_with('/') && expanded.len() > 1 && !expanded.contains('\0');
    usable.then(|| PathBuf::from(expanded)).ok_or_else(|| value.invalid(kind))
}

fn expanded(value: &Value<'_, '_>, kind: Kind) -> Result<String, Cause> {
    let given = value.text(kind)?;
    expand(given, &|name| value.env(name)).map_err(|unset| match unset {
        Some(name) => Cause::Unset { name: quoted_unless_plain(name) },
        None => value.invalid(kind),
    })
}

/// A path that fits into a socket address (unix(7): 108 bytes with the NUL).
pub(super) fn socket_path(value: &Value<'_, '_>, kind: Kind) -> Result<PathBuf, Cause> {
    const MAX_BYTES: usize = 107;
    let path = path(value, kind)?;
    if path.as_os_str().len() > MAX_BYTES || path.file_name().is_none() {
        return Err(value.invalid(kind));
    }
    Ok(path)
}

/// The failure is the variable that is not set, or none when braces do not match.
fn expand<'t>(text: &'t str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Option<&'t str>> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or(None)?;
        expanded.push_str(before);
        expanded.push_str(&env(name).ok_or(Some(name))?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// A URL may hold a password, so no error repeats it.
pub(super) fn database(value: &Value<'_, '_>, kind: Kind) -> Result<Database, Cause> {
    let hidden = |cause| match cause {
        Cause::Invalid { kind, .. } => Cause::Invalid { given: "this".to_owned(), kind },
        other => other,
    };
    let url = expanded(value, kind).map_err(hidden)?;
    let refused = || hidden(value.invalid(kind));
    if url.contains('\0') {
        return Err(refused());
    }
    if let Some(path) = url.strip_prefix("sqlite://") {
        // Parameters would change how durable writes are; those are not the operator's to choose.
        let usable = path.starts_with('/') && !path.ends_with('/') && !path.contains(['?', '#', '%']);
        let url = DatabaseUrl(url.clone());
        return usable.then(|| Database::Sqlite { path: path.into(), url }).ok_or_else(refused);
    }
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let usable = rest.is_some_and(|rest| !rest.is_empty());
    usable.then(|| Database::Postgres { url: DatabaseUrl(url.clone()) }).ok_or_else(refused)
}

pub(super) fn address(value: &Value<'_, '_>, kind: Kind) -> Result<SocketAddr, Cause> {
    value.text(kind)?.parse().map_err(|_| value.invalid(kind))
}

/// An address that only this machine can reach. IPv4 in IPv6's clothes is taken as IPv4.
pub(super) fn loopback(value: &Value<'_, '_>, kind: Kind) -> Result<SocketAddr, Cause> {
    let address = address(value, kind)?;
    let ip = address.ip().to_canonical();
    if !ip.is_loopback() {
        return Err(value.invalid(kind));
    }
    Ok(SocketAddr::new(ip, address.port()))
}

pub(super) fn retention(value: &Value<'_, '_>, kind: Kind) -> Result<Duration, Cause> {
    const RANGE: RangeInclusive<Duration> = Duration::from_secs(DAY)..=Duration::from_secs(3650 * DAY);
    let duration = duration(value.text(kind)?);
    duration.filter(|duration| RANGE.contains(duration)).ok_or_else(|| value.invalid(kind))
}

const DAY: u64 = 24 * 60 * 60;

/// A whole number and a unit: `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY,
        _ => return None,
    };
    // `parse` would take a sign.
    let number: u64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    number.checked_mul(seconds).map(Duration::from_secs)
}

pub(super) fn networks(value: &Value<'_, '_>, kind: Kind) -> Result<Vec<Network>, Cause> {
    let network = |text: Option<&str>| -> Result<Network, Cause> {
        let text = text.ok_or_else(|| value.invalid(kind))?;
        text.parse().map_err(|_| Cause::Invalid { given: quoted(text), kind })
    };
    value.list(kind)?.map(network).collect()
}

pub(super) fn seccomp(value: &Value<'_, '_>, kind: Kind) -> Result<Seccomp, Cause> {
    Ok(match value.text(kind)? {
        "kill" => Seccomp::Kill,
        "errno" => Seccomp::Errno,
        "log" => Seccomp::Log,
        "off" => Seccomp::Off,
        _ => return Err(value.invalid(kind)),
    })
}
