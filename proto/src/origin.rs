//! Where a credential may be sent: scheme, host and port, compared exactly.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Scheme, host and port after normalising case and the default port (RFC 6454).
///
/// Only origins to which a credential may go exist: `https`, or `http` to loopback.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

/// The address of a provider's instance: an origin and the path under which the instance lies, without a
/// slash at its end (empty for most).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemoteUrl {
    origin: Origin,
    path: Box<str>,
}

/// Why a text is not an address to which a credential may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidUrl {
    /// Not of the form `https://host[:port][/path]`.
    #[error("not of the form https://host[:port][/path]")]
    Form,
    /// A scheme that would show the credential to the network.
    #[error("only https is allowed, or http to loopback")]
    Insecure,
    /// A host that is empty or has a character, a user part or a trailing dot that no host name has.
    #[error("the host is not a plain host name or address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A path with a query, a fragment, dot segments, empty segments or percent escapes.
    #[error("the path has a query, a fragment, an escape or a segment that is empty, . or ..")]
    Path,
}

impl Origin {
    /// Reads the `protocol` and `host` attributes of git's credential protocol; `host` may carry a port.
    pub fn from_protocol_and_host(protocol: &str, host: &str) -> Result<Self, InvalidUrl> {
        let scheme = if protocol.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else if protocol.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else {
            return Err(InvalidUrl::Insecure);
        };
        let (name, port) = split_port(host)?;
        let port = match port {
            None if scheme == Scheme::Https => 443,
            None => 80,
            Some(text) => parse_port(text)?,
        };
        let host = normalise_host(name)?;
        if scheme == Scheme::Http && !is_loopback(&host) {
            return Err(InvalidUrl::Insecure);
        }
        Ok(Self { scheme, host, port })
    }
}

impl Origin {
    /// The host, IPv6 addresses without brackets, and the port.
    pub fn host_and_port(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }

    /// Whether connections are encrypted; the others go to loopback.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl TryFrom<String> for RemoteUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<RemoteUrl> for String {
    fn from(url: RemoteUrl) -> String {
        url.to_string()
    }
}

impl RemoteUrl {
    /// The part that a connection is made to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The path under which the instance lies: empty, or with a slash in front and none at its end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a request to `origin` and, where it is known, `path` goes to this instance.
    ///
    /// An instance under a path needs the path: its neighbours on the same host are other people's.
    pub fn covers(&self, origin: &Origin, path: Option<&str>) -> bool {
        if self.origin != *origin {
            return false;
        }
        if self.path.is_empty() {
            return true;
        }
        let Some(path) = path else { return false };
        if !is_plain_path(path.strip_prefix('/').unwrap_or(path)) {
            return false;
        }
        let prefix = self.path.trim_start_matches('/');
        path.trim_start_matches('/')
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Splits `name`, `name:port`, `[v6]` and `[v6]:port`.
fn split_port(host: &str) -> Result<(&str, Option<&str>), InvalidUrl> {
    if host.starts_with('[') {
        let end = host.find(']').ok_or(InvalidUrl::Host)?;
        let (name, rest) = host.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, Some(port))),
            None if rest.is_empty() => Ok((name, None)),
            None => Err(InvalidUrl::Host),
        };
    }
    Ok(host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))))
}

fn parse_port(text: &str) -> Result<u16, InvalidUrl> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(InvalidUrl::Port),
    }
}

fn normalise_host(host: &str) -> Result<Box<str>, InvalidUrl> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(InvalidUrl::Host)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| InvalidUrl::Host)?;
        return Ok(format!("[{address}]").into());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(InvalidUrl::Host);
    }
    Ok(host.to_ascii_lowercase().into())
}

/// `localhost` and the loopback addresses in their usual form only: 127.1 or 0x7f000001 are not names that
/// a person writes.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A path, without the slash in front, whose segments mean what they say.
fn is_plain_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'?' | b'#' | b'\\'))
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for RemoteUrl {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        const AUTHORITY: &str = "https://[a-z0-9]+([.-][a-z0-9]+)*";
        const LOOPBACK: &str = "http://(localhost|127[.]0[.]0[.]1)";
        const REST: &str = "(:[1-9][0-9]{0,3})?(/[a-z0-9]+)*";
        crate::schema::text().pattern(Some(format!("^({AUTHORITY}|{LOOPBACK}){REST}$"))).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for RemoteUrl {}

impl FromStr for RemoteUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Form)?;
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let origin = Origin::from_protocol_and_host(scheme, authority)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_plain = |path: &str| !path.ends_with('/') && is_plain_path(path);
        let plain = path.is_empty() || path.strip_prefix('/').is_some_and(is_plain);
        if !plain {
            return Err(InvalidUrl::Path);
        }
        Ok(Self { origin, path: path.into() })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = match self.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(protocol: &str, host: &str) -> Result<String, InvalidUrl> {
        Origin::from_protocol_and_host(protocol, host).map(|origin| origin.to_string())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_an_address_is_shown_as_one_that_is_the_same(text in "(https|HTTP|http)://(\\[::1\\]|localhost|[a-zA-Z0-9.-]{1,12})(:[0-9]{1,5})?(/[a-z.%]{0,3}){0,3}/{0,2}") {
            if let Ok(url) = text.parse::<RemoteUrl>() {
                let shown = url.to_string();
                prop_assert_eq!(shown.parse::<RemoteUrl>(), Ok(url.clone()), "{}", text);
                prop_assert!(url.covers(url.origin(), Some(url.path())) && !shown.ends_with('/'));
            }
        }

        #[test]
        fn whatever_the_text_nothing_but_https_leaves_the_machine(text in any::<String>()) {
            if let Ok(url) = text.parse::<RemoteUrl>() {
                prop_assert!(url.origin().is_https() || is_loopback(&url.origin().host));
            }
        }

        #[test]
        fn origins_are_the_same_whoever_compares_them(hosts in prop::collection::vec("[aA]([bB]|[.]b)?(:443|:80|:8443)?", 2), upper in any::<bool>()) {
            let protocol = if upper { "HTTPS" } else { "https" };
            let [one, other] = [0, 1].map(|at| Origin::from_protocol_and_host("https", &hosts[at]).unwrap());
            let plain = |host: &str| host.to_ascii_lowercase().trim_end_matches(":443").to_owned();
            prop_assert_eq!(one == other, plain(&hosts[0]) == plain(&hosts[1]));
            prop_assert_eq!(one == other, other == one);
            prop_assert_eq!(Origin::from_protocol_and_host(protocol, &hosts[0]), Ok(one));
        }
    }

    #[test]
    fn case_and_default_port_do_not_matter() {
        assert_eq!(origin("HTTPS", "GitLab.COM:443").unwrap(), "https://gitlab.com");
        assert_eq!(origin("https", "gitlab.com:8443").unwrap(), "https://gitlab.com:8443");
        assert_eq!(origin("http", "127.0.0.1:80").unwrap(), "http://127.0.0.1");
        assert_eq!(origin("http", "[::1]:8080").unwrap(), "http://[::1]:8080");
        assert_eq!(origin("https", "[2001:DB8::0:1]").unwrap(), "https://[2001:db8::1]");
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for host in ["gitlab.com", "10.0.0.1", "127.1", "0x7f000001", "localhost.evil.example"] {
            assert_eq!(origin("http", host), Err(InvalidUrl::Insecure), "{host}");
        }
        for protocol in ["ftp", "ssh", "", "file"] {
            assert_eq!(origin(protocol, "gitlab.com"), Err(InvalidUrl::Insecure), "{protocol}");
        }
    }

    #[test]
    fn hosts_that_are_not_plain_names_are_refused() {
        for host in [
            "",
            ".",
            "gitlab.com.",
            "a..b",
            "gitlab.com@evil.example",
            "u:p@gitlab.com",
            "gitlab.com/x",
            "a b",
            "gitlab.com\r",
            "gitlab.com\n",
            "gitlab.com\0",
            "gitläb.com",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
        ] {
            assert!(origin("https", host).is_err(), "{host:?}");
        }
        for host in ["a:", "a:0", "a:65536", "a:+1", "a: 1", "a:1:2"] {
            assert_eq!(origin("https", host), Err(InvalidUrl::Port), "{host:?}");
        }
    }

    #[test]
    fn an_instance_covers_its_own_origin_exactly() {
        let instance: RemoteUrl = "https://gitlab.com/".parse().unwrap();
        let covers =
            |host: &str| instance.covers(&Origin::from_protocol_and_host("https", host).unwrap(), None);
        assert!(covers("gitlab.com") && covers("GITLAB.com:443"));
        for other in ["gitlab.evil.example", "evil-gitlab.com", "gitlab.com.evil.example", "gitlab.com:8443"]
        {
            assert!(!covers(other), "{other}");
        }
    }

    #[test]
    fn an_instance_under_a_path_needs_the_path() {
        let instance: RemoteUrl = "https://host.example/git".parse().unwrap();
        let origin = Origin::from_protocol_and_host("https", "host.example").unwrap();
        for good in ["git", "/git/", "git/group/project.git"] {
            assert!(instance.covers(&origin, Some(good)), "{good}");
        }
        for bad in ["gitx/y", "other/git", "git/../other", "git/%2e%2e/other", "git//x", ""] {
            assert!(!instance.covers(&origin, Some(bad)), "{bad}");
        }
        assert!(!instance.covers(&origin, None));
    }

    #[test]
    fn urls_with_more_than_an_instance_needs_are_refused() {
        for bad in [
            "https://h/?q",
            "https://h/#f",
            "https://h/a/../b",
            "https://h//a",
            "https://h/%61",
            "https://h/a//",
        ] {
            assert_eq!(bad.parse::<RemoteUrl>(), Err(InvalidUrl::Path), "{bad}");
        }
        assert_eq!("gitlab.com".parse::<RemoteUrl>(), Err(InvalidUrl::Form));
        assert_eq!("https://u:p@h".parse::<RemoteUrl>(), Err(InvalidUrl::Port));
    }
}
