//! The lines that a shell takes over.

use dvx_proto::BrokerAddress;

use crate::environment::{BROKER_URL, Environment};
use crate::shell;

/// Common clients send requests for these to a proxy too, token and all, unless they are told otherwise.
/// Each is needed: none of them covers another, and a port must not follow.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// `export` lines for a POSIX shell.
pub(super) fn lines(address: &BrokerAddress, environment: &Environment) -> String {
    let value = |name: &str| environment.get(name).map(|value| value.to_string_lossy().into_owned());
    let (lower, upper) = (value("no_proxy"), value("NO_PROXY"));
    // Programs read the one or the other: where only one is set, both mean it.
    let both = |own: &Option<String>, other: &Option<String>| {
        with_loopback(own.as_deref().or(other.as_deref()).unwrap_or_default())
    };
    let export = |name: &str, value: &str| format!("export {name}={}\n", shell::quote(value));
    export(BROKER_URL, &address.to_string())
        + &export("no_proxy", &both(&lower, &upper))
        + &export("NO_PROXY", &both(&upper, &lower))
}

/// The list with what is missing in it. `*` alone stands for everything, and for nothing in a list.
fn with_loopback(list: &str) -> String {
    if list.trim() == "*" {
        return list.to_owned();
    }
    let mut hosts: Vec<&str> = list.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    for host in LOOPBACK {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_is_missing_is_added() {
        assert_eq!(with_loopback(""), "127.0.0.1,localhost,::1");
        assert_eq!(with_loopback("a.example, localhost ,"), "a.example,localhost,127.0.0.1,::1");
        assert_eq!(with_loopback(&with_loopback("x")), with_loopback("x"));
        assert_eq!(with_loopback("127.0.0.1:8471"), "127.0.0.1:8471,127.0.0.1,localhost,::1");
    }

    #[test]
    fn a_list_that_means_everything_stays_so() {
        assert_eq!(with_loopback("*"), "*");
    }
}
