//! Addresses and paths: what ours accept, another reader takes for the same.

use std::str::FromStr;

use dvx_proto::agent::{ROUTES, Route};
use dvx_proto::{BrokerAddress, ControlAddress, Origin, RemoteUrl};
use hyper::Uri;
use url::{Host, Url};

/// Where a credential must not turn out to be sent.
const OTHERS: [&str; 3] =
    ["https://gitlab.com", "http://127.0.0.1:3000/forge", "https://[2001:db8::1]:8443/a/b"];

/// The input is one text, taken for everything that it could be.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(url) = text.parse::<RemoteUrl>() {
        check_remote(text, &url);
    }
    check_route(text);
    check_round_trip::<BrokerAddress>(text);
    check_round_trip::<ControlAddress>(text);
}

fn check_remote(text: &str, url: &RemoteUrl) {
    check_round_trip::<RemoteUrl>(text);
    let (host, port) = url.origin().host_and_port();
    let other = match Url::parse(text) {
        Ok(other) => other,
        // Names in another script are just names to us, also where they are no good ones, and so are numbers
        // that are too large.
        Err(_) if host.contains("xn--") || is_number(host) => return,
        Err(error) => panic!("{text:?}: {error}"),
    };
    let same_host = match other.host().expect("a host") {
        Host::Domain(name) => name == host,
        // A number in the place of a name is an address to others. No connection goes there, and none in the clear
        // gets as far as asking.
        Host::Ipv4(address) => host.parse() == Ok(address) || url.origin().is_https(),
        Host::Ipv6(address) => host.parse() == Ok(address),
    };
    assert!(same_host, "{text:?} leads to {host} and {other}");
    assert_eq!(Some(port), other.port_or_known_default(), "{text:?}");
    assert_eq!(url.origin().is_https(), other.scheme() == "https", "{text:?}");
    assert_eq!(url.path(), unescaped(other.path()).trim_end_matches('/'), "{text:?}");
    assert!(other.username().is_empty() && other.password().is_none() && other.query().is_none(), "{text:?}");
    if !url.origin().is_https() {
        assert!(host == "localhost" || is_loopback(&other), "{text:?} goes in the clear");
    }
    assert!(url.to_string().chars().all(|character| character.is_ascii_graphic()), "{text:?}");
    let origin = url.origin().to_string();
    let (scheme, authority) = origin.split_once("://").expect("an origin");
    assert_eq!(Origin::from_protocol_and_host(scheme, authority).as_ref(), Ok(url.origin()));
    // Some characters stand in no target; nobody connects then.
    let target = format!("{origin}{}/api/v4/user", url.path());
    if let Ok(target) = target.parse::<Uri>() {
        assert_eq!(target.path(), format!("{}/api/v4/user", url.path()), "{text:?}");
    }
    assert!(url.covers(url.origin(), Some(&format!("{}/group/project", url.path()))));
    check_covers(text, url);
}

/// No instance covers what lies outside of it.
fn check_covers(text: &str, url: &RemoteUrl) {
    for known in OTHERS {
        let known: RemoteUrl = known.parse().expect("an address");
        let covers = known.covers(url.origin(), Some(url.path()));
        let below = url
            .path()
            .strip_prefix(known.path())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        assert_eq!(covers, known.origin() == url.origin() && below, "{text:?} and {known}");
    }
}

/// Ours have no escapes, so every one is the other reader's.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        text.push(char::from(u8::from_str_radix(code, 16).expect("an escape")));
        text.push_str(rest);
    }
    text
}

/// Whether the name ends in a number.
fn is_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    last.strip_prefix("0x").unwrap_or(last).bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        _ => false,
    }
}

/// A path leads to one route, and there is no second spelling of it.
fn check_route(text: &str) {
    let Some(route) = Route::at(text) else { return };
    let spec = route.spec();
    assert!(ROUTES.contains(&spec));
    let name = match &route {
        Route::Credential(name) | Route::Rejected(name) => name.as_ref().map(|name| name.as_str()),
        Route::Secret(name) => name.as_ref().map(|name| name.as_str()),
        _ => Some(""),
    };
    // Names that cannot exist lead to nothing.
    if let Some(name) = name {
        assert_eq!(spec.path.replace("{}", name), text);
        assert!(!name.contains(['/', '%', '?', '#', '\\', ' ']) && !name.starts_with('.'), "{name:?}");
    }
}

/// What is read is written in a way that is read as the same.
fn check_round_trip<T>(text: &str)
where
    T: FromStr<Err: std::fmt::Debug> + ToString + PartialEq + std::fmt::Debug,
{
    let Ok(address) = text.parse::<T>() else { return };
    let written = address.to_string();
    assert_eq!(
        written.parse::<T>().expect("what was written can be read"),
        address,
        "{text:?} as {written:?}"
    );
}
