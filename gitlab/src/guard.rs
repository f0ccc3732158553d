//! Which addresses a provider's instance may have. Operators name instances, so without this the control
//! plane would send requests to its own neighbours for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

pub use network::{InvalidNetwork, Network};

mod network;

/// What clouds answer on: whoever may ask there gets the machine's own credentials.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // AWS, Azure, Google and most others
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure's wire server, a public address
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
];

/// Decides where connections may go. Public addresses always; private and reserved ones only in networks that
/// are allowed; loopback only when that is allowed; link-local addresses and those of metadata services never.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<Network>,
    loopback: bool,
}

/// Why no connection is made to an address or host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The instance is at an address where none may be.
    #[error("{host} is at {address}, {kind}")]
    Address {
        /// The host, as the instance's URL has it.
        host: String,
        /// The address that it has.
        address: IpAddr,
        /// What kind of address that is.
        kind: AddressKind,
    },
    /// A number in the place of a name, such as `2130706433` or `0x7f.1`: C libraries read it as an address.
    #[error("{host} is an address in an unusual form; expected a name or four decimal numbers")]
    OddForm {
        /// The host, as the instance's URL has it.
        host: String,
    },
    /// `http` to another machine, by a name that is not as local as it looks.
    #[error("{host} is at {address}, and plain http goes to loopback only")]
    Insecure {
        /// The host, as the instance's URL has it.
        host: String,
        /// The address that it has.
        address: IpAddr,
    },
}

/// What an address is for, of the kinds that are told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Anyone's: the only kind that needs no permission.
    Public,
    /// This machine's own.
    Loopback,
    /// Valid on one link only, with or without a scope.
    LinkLocal,
    /// A cloud's metadata service.
    Metadata,
    /// Of a private or otherwise reserved network (RFC 1918, RFC 6598, RFC 4193, RFC 6890).
    Private,
    /// Nobody's: unspecified, multicast, or reserved for the future.
    Unroutable,
}

impl std::fmt::Display for AddressKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a metadata service",
            Self::Private => "an address in a private network that is not allowed",
            Self::Unroutable => "an address that no machine has",
        })
    }
}

impl Guard {
    /// Allows private and reserved addresses in these networks, and loopback where one covers it.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed, loopback: false }
    }

    /// Allows loopback as well.
    #[must_use]
    pub fn with_loopback(self) -> Self {
        Self { loopback: true, ..self }
    }

    /// Refuses a host that a C library would read as an address although it does not look like one
    /// (inet_aton(3)).
    pub fn check_host(host: &str) -> Result<(), Refusal> {
        let last = host.rsplit('.').next().unwrap_or(host);
        let number = match last.strip_prefix("0x") {
            Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
        };
        if number && host.parse::<Ipv4Addr>().is_err() {
            return Err(Refusal::OddForm { host: host.to_owned() });
        }
        Ok(())
    }

    /// Whether a connection may be made to `address`, which `host` has.
    pub fn check(&self, host: &str, address: SocketAddr) -> Result<(), Refusal> {
        let ip = canonical(address.ip());
        let listed = || self.allowed.iter().any(|network| network.contains(ip));
        let kind = match address {
            // Only link-local addresses need a scope; whoever gives one to another address is up to something.
            SocketAddr::V6(v6) if v6.scope_id() != 0 => AddressKind::LinkLocal,
            _ => AddressKind::of(ip),
        };
        let good = match kind {
            AddressKind::Public => true,
            AddressKind::Loopback => self.loopback || listed(),
            AddressKind::Private => listed(),
            AddressKind::LinkLocal | AddressKind::Metadata | AddressKind::Unroutable => false,
        };
        if good { Ok(()) } else { Err(Refusal::Address { host: host.to_owned(), address: ip, kind }) }
    }
}

impl AddressKind {
    /// The kind of an address; one that carries an IPv4 address is of that one's kind.
    pub fn of(address: IpAddr) -> Self {
        let address = canonical(address);
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    /// After IANA's registry of special-purpose IPv4 addresses.
    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [0 | 224..=255, ..] => Self::Unroutable,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Self::Private,
            [198, 51, 100, _] | [203, 0, 113, _] => Self::Private,
            _ => Self::Public,
        }
    }

    /// After IANA's registry of special-purpose IPv6 addresses; outside of 2000::/3 nothing is public.
    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            // Teredo carries an IPv4 address behind somebody else's relay.
            [0x2001, 0, ..] => Self::Unroutable,
            [0x2001, 0x1..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Private,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Unroutable,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 (RFC 6052) and 6to4.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [high, low] = match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => [high, low],
        [0, 0, 0, 0, 0xffff, 0, high, low] => [high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [high, low],
        [0x2002, high, low, ..] => [high, low],
        _ => return address,
    };
    IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests;
