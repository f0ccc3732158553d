//! Networks in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// A network such as `10.0.0.0/8` or `fd00::/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidNetwork {
    /// Not of the form `address/length`.
    #[error("not a network; expected one such as 10.0.0.0/8 or fd00::/8")]
    Form,
    /// The prefix is longer than the address.
    #[error("the prefix is longer than {bits} bits")]
    Prefix {
        /// The length of the address.
        bits: u32,
    },
    /// Bits behind the prefix are set: one of the two is a slip.
    #[error("the address has bits set behind the prefix")]
    HostBits,
}

impl Network {
    /// Whether `address` lies in this network. IPv6 addresses that stand for an IPv4 address are not unpacked.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                masked(address, self.prefix) == bits(self.address)
            }
            _ => false,
        }
    }
}

/// The bits of an address, at the right end.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits of the prefix; the others are zero.
fn masked(address: IpAddr, prefix: u32) -> u128 {
    let behind = width(address).saturating_sub(prefix);
    let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
    bits(address) & mask
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Form)?;
        let bits = width(address);
        let prefix = match prefix {
            None => bits,
            Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_err(|_| InvalidNetwork::Prefix { bits })?
            }
            Some(_) => return Err(InvalidNetwork::Form),
        };
        if prefix > bits {
            return Err(InvalidNetwork::Prefix { bits });
        }
        if masked(address, prefix) != self::bits(address) {
            return Err(InvalidNetwork::HostBits);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
