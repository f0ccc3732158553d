//! A block of IP addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// An address and how many of its leading bits count (RFC 4632, RFC 4291).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidNetwork;

impl Network {
    /// Whether an address lies in it. IPv4 in IPv6's clothes is IPv4.
    #[cfg_attr(not(test), expect(dead_code, reason = "addresses of instances are looked up by integrations"))]
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let (ours, width) = bits(self.address);
        let (theirs, their_width) = bits(address.to_canonical());
        width == their_width && (ours ^ theirs) & mask(width, self.prefix) == 0
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let (given, width) = bits(address);
        let plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => width,
            Some(text) => {
                Some(text).filter(plain).and_then(|text| text.parse().ok()).ok_or(InvalidNetwork)?
            }
        };
        // Bits behind the prefix mean that somebody meant another network.
        if prefix > width || given & !mask(width, prefix) & mask(width, width) != 0 {
            return Err(InvalidNetwork);
        }
        Ok(Self { address, prefix })
    }
}

/// The address in the low bits, and how many those are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The leading `prefix` of `width` bits.
fn mask(width: u8, prefix: u8) -> u128 {
    let all = u128::MAX.checked_shr(u32::from(128 - width)).unwrap_or(0);
    let host = u128::MAX.checked_shr(u32::from(128 - width.saturating_sub(prefix))).unwrap_or(0);
    all & !host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "::1", "10.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_not_quite_a_network_is_refused() {
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::1/64", "x/8"]
        {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }
}
