//! What single values mean.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dvx_proto::{InvalidName, quoted, quoted_unless_plain};

use super::Seccomp;
use super::error::Cause;
use super::reader::Value;

/// A kind of value, in the words of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) noun: &'static str,
    pub(super) expected: &'static str,
}

impl Kind {
    pub(super) const TABLE: Self = Self { noun: "a table", expected: "a section of keys" };
    pub(super) const TABLES: Self = Self { noun: "a list of tables", expected: "[[agents]]" };
    pub(super) const PATH: Self = Self { noun: "a path", expected: "an absolute path" };
    pub(super) const SOCKET: Self =
        Self { noun: "a socket's path", expected: "an absolute path of at most 107 bytes" };
    pub(super) const LOOPBACK: Self =
        Self { noun: "a loopback address", expected: "127.0.0.1:port or [::1]:port" };
    pub(super) const UPSTREAM: Self =
        Self { noun: "a kind of upstream", expected: "\"control\" or \"directory\"" };
    pub(super) const CONTROL: Self =
        Self { noun: "a control plane's address", expected: "https://host[:port] or unix:///path" };
    pub(super) const MODE: Self =
        Self { noun: "a file mode", expected: "an octal text from \"0400\" to \"0777\"" };
    pub(super) const MAX_STALE: Self = Self { noun: "a duration", expected: "\"1s\" to \"30d\"" };
    pub(super) const RATE: Self =
        Self { noun: "a rate", expected: "requests a second, 0 (no limit) to 1000000" };
    pub(super) const CONNECTIONS: Self = Self { noun: "a number of connections", expected: "1 to 100000" };
    pub(super) const SECCOMP: Self =
        Self { noun: "a seccomp mode", expected: "\"kill\", \"errno\", \"log\" or \"off\"" };
    pub(super) const SWITCH: Self = Self { noun: "a switch", expected: "true or false" };
    pub(super) const USER: Self = Self { noun: "a user's name", expected: "a name that getent(1) finds" };
    pub(super) const UID: Self =
        Self { noun: "a user id", expected: "0 to 4294967294, but not 65534 (nobody)" };
    pub(super) const GID: Self =
        Self { noun: "a group id", expected: "0 to 4294967294, but not 65534 (nogroup)" };
    pub(super) const UNIT: Self =
        Self { noun: "a systemd unit", expected: "a system unit's name, NAME.service or NAME.scope" };
    pub(super) const CGROUP: Self = Self {
        noun: "a cgroup's path",
        expected: "a path below the cgroup mount, such as \"/system.slice/my-agent.service\"",
    };

    /// A name, with one that could be meant.
    pub(super) const fn name(example: &'static str) -> Self {
        Self { noun: "a name", expected: example }
    }
}

/// A name of `dvx_proto`: those know themselves what they look like.
pub(super) fn name<T: FromStr<Err = InvalidName>>(value: &Value<'_, '_>, kind: Kind) -> Result<T, Cause> {
    Ok(value.text(kind)?.parse()?)
}

/// An absolute path in which `${NAME}` stands for an environment variable, as systemd's
/// `${CREDENTIALS_DIRECTORY}`.
pub(super) fn path(value: &Value<'_, '_>, kind: Kind) -> Result<PathBuf, Cause> {
    let given = value.text(kind)?;
    let expanded = expand(given, &|name| value.env(name)).map_err(|unset| match unset {
        Some(name) => Cause::Unset { given: quoted(given), name: quoted_unless_plain(name) },
        None => value.invalid(kind),
    })?;
    let usable = expanded.starts_with('/') && expanded.len() > 1 && !expanded.contains('\0');
    usable.then(|| PathBuf::from(expanded)).ok_or_else(|| value.invalid(kind))
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

/// An address that only this machine can reach. IPv4 in IPv6's clothes is taken as IPv4.
pub(super) fn loopback(value: &Value<'_, '_>, kind: Kind) -> Result<SocketAddr, Cause> {
    let address: SocketAddr = value.text(kind)?.parse().map_err(|_| value.invalid(kind))?;
    let ip = address.ip().to_canonical();
    if !ip.is_loopback() {
        return Err(value.invalid(kind));
    }
    Ok(SocketAddr::new(ip, address.port()))
}

/// A kind of upstream that this version has.
pub(super) enum UpstreamKind {
    Control,
    Directory,
}

/// The kinds that the documentation names; the last comes with a later version.
pub(super) fn upstream_kind(value: &Value<'_, '_>, kind: Kind) -> Result<UpstreamKind, Cause> {
    match value.text(kind)? {
        "control" => Ok(UpstreamKind::Control),
        "directory" => Ok(UpstreamKind::Directory),
        "vault" => Err(Cause::Unavailable("vault")),
        _ => Err(value.invalid(kind)),
    }
}

pub(super) fn mode(value: &Value<'_, '_>, kind: Kind) -> Result<u32, Cause> {
    let text = value.text(kind)?;
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| (0o400..=0o777).contains(mode)).ok_or_else(|| value.invalid(kind))
}

pub(super) fn max_stale(value: &Value<'_, '_>, kind: Kind) -> Result<Duration, Cause> {
    const RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * DAY);
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

pub(super) fn rate(value: &Value<'_, '_>, kind: Kind) -> Result<u32, Cause> {
    within(value, kind, 0..=1_000_000)
}

pub(super) fn connections(value: &Value<'_, '_>, kind: Kind) -> Result<u32, Cause> {
    within(value, kind, 1..=100_000)
}

/// A user's or a group's id. The kernel shows 65534 for whom it cannot name, so that is nobody; the highest
/// number means "unchanged" in its interfaces (setuid(2)).
pub(super) fn id(value: &Value<'_, '_>, kind: Kind) -> Result<u32, Cause> {
    const OVERFLOW: u32 = 65534;
    match within(value, kind, 0..=u32::MAX - 1)? {
        OVERFLOW => Err(value.invalid(kind)),
        id => Ok(id),
    }
}

fn within(value: &Value<'_, '_>, kind: Kind, range: std::ops::RangeInclusive<u32>) -> Result<u32, Cause> {
    let number = u32::try_from(value.integer(kind)?).ok();
    number.filter(|number| range.contains(number)).ok_or_else(|| value.invalid(kind))
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

pub(super) fn switch(value: &Value<'_, '_>, kind: Kind) -> Result<bool, Cause> {
    value.boolean(kind)
}
