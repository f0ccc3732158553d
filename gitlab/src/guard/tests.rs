use std::net::SocketAddrV6;

use proptest::prelude::*;

use super::*;

fn check(guard: &Guard, address: &str) -> Result<(), AddressKind> {
    let address: IpAddr = address.parse().unwrap();
    guard.check("host", SocketAddr::new(address, 443)).map_err(|refusal| match refusal {
        Refusal::Address { kind, .. } => kind,
        other => panic!("{other}"),
    })
}

fn allowing(networks: &[&str]) -> Guard {
    Guard::new(networks.iter().map(|network| network.parse().unwrap()).collect())
}

#[test]
fn addresses_are_of_their_kind_in_every_disguise() {
    use AddressKind::*;
    for (address, kind) in [
        ("1.1.1.1", Public),
        ("172.15.255.255", Public),
        ("172.32.0.0", Public),
        ("100.128.0.1", Public),
        ("2606:4700::1111", Public),
        ("::ffff:1.1.1.1", Public),
        ("64:ff9b::101:101", Public),
        ("127.0.0.1", Loopback),
        ("127.255.255.254", Loopback),
        ("::1", Loopback),
        ("::ffff:127.0.0.1", Loopback),
        ("::127.0.0.1", Loopback),
        ("64:ff9b::7f00:1", Loopback),
        ("2002:7f00:1::", Loopback),
        ("169.254.0.1", LinkLocal),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("169.254.169.254", Metadata),
        ("::ffff:169.254.169.254", Metadata),
        ("::ffff:0:a9fe:a9fe", Metadata),
        ("64:ff9b::a9fe:a9fe", Metadata),
        ("2002:a9fe:a9fe::1", Metadata),
        ("168.63.129.16", Metadata),
        ("100.100.100.200", Metadata),
        ("fd00:ec2::254", Metadata),
        ("10.0.0.1", Private),
        ("172.16.0.1", Private),
        ("172.31.255.255", Private),
        ("192.168.1.1", Private),
        ("100.64.0.1", Private),
        ("198.19.255.255", Private),
        ("203.0.113.7", Private),
        ("::ffff:10.0.0.1", Private),
        ("2002:c0a8:101::1", Private),
        ("fc00::1", Private),
        ("fdff::1", Private),
        ("fec0::1", Private),
        ("2001:db8::1", Private),
        ("0.0.0.0", Unroutable),
        ("0.1.2.3", Unroutable),
        ("224.0.0.1", Unroutable),
        ("255.255.255.255", Unroutable),
        ("::", Unroutable),
        ("ff02::1", Unroutable),
        ("2001::1", Unroutable),
        ("64:ff9b:1::1", Unroutable),
        ("4000::1", Unroutable),
    ] {
        assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
    }
}

#[test]
fn only_public_addresses_need_no_permission() {
    let guard = Guard::default();
    assert_eq!(check(&guard, "1.1.1.1"), Ok(()));
    for address in ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "fe80::1", "169.254.169.254", "::"] {
        assert!(check(&guard, address).is_err(), "{address}");
    }
}

#[test]
fn private_addresses_pass_in_the_networks_that_are_allowed() {
    let guard = allowing(&["10.1.0.0/16", "fd00::/8"]);
    assert_eq!(check(&guard, "10.1.2.3"), Ok(()));
    assert_eq!(check(&guard, "::ffff:10.1.2.3"), Ok(()));
    assert_eq!(check(&guard, "fd12::1"), Ok(()));
    assert_eq!(check(&guard, "10.2.0.1"), Err(AddressKind::Private));
    assert_eq!(check(&guard, "127.0.0.1"), Err(AddressKind::Loopback));
}

#[test]
fn no_permission_opens_link_local_addresses_and_metadata_services() {
    let guard = allowing(&["0.0.0.0/0", "::/0"]).with_loopback();
    for address in ["169.254.169.254", "169.254.1.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "::"] {
        assert!(check(&guard, address).is_err(), "{address}");
    }
    assert_eq!(check(&guard, "10.0.0.1"), Ok(()));
}

#[test]
fn loopback_needs_its_own_permission_or_a_network_that_covers_it() {
    assert_eq!(check(&Guard::default().with_loopback(), "127.0.0.1"), Ok(()));
    assert_eq!(check(&Guard::default().with_loopback(), "::1"), Ok(()));
    assert_eq!(check(&allowing(&["127.0.0.1"]), "127.0.0.1"), Ok(()));
    assert_eq!(check(&Guard::default().with_loopback(), "10.0.0.1"), Err(AddressKind::Private));
}

#[test]
fn an_address_with_a_scope_is_refused() {
    let scoped = SocketAddrV6::new("2606:4700::1111".parse().unwrap(), 443, 0, 2);
    let guard = Guard::default();
    assert!(matches!(
        guard.check("host", scoped.into()),
        Err(Refusal::Address { kind: AddressKind::LinkLocal, .. })
    ));
}

#[test]
fn numbers_that_a_c_library_takes_for_addresses_are_no_hosts() {
    for host in
        ["2130706433", "0x7f000001", "0x", "017700000001", "127.1", "0x7f.1", "0177.0.0.1", "1.2.3.0x4"]
    {
        assert!(matches!(Guard::check_host(host), Err(Refusal::OddForm { .. })), "{host}");
    }
    for host in ["gitlab.com", "127.0.0.1", "::1", "1.example", "0x7f.example", "a1", "123abc"] {
        assert_eq!(Guard::check_host(host), Ok(()), "{host}");
    }
}

#[test]
fn networks_are_read_strictly() {
    for (text, error) in [
        ("10.0.0.0/33", InvalidNetwork::Prefix { bits: 32 }),
        ("::/129", InvalidNetwork::Prefix { bits: 128 }),
        ("10.0.0.1/8", InvalidNetwork::HostBits),
        ("fd00::1/8", InvalidNetwork::HostBits),
        ("10.0.0.0/", InvalidNetwork::Form),
        ("10.0.0.0/+8", InvalidNetwork::Form),
        ("10/8", InvalidNetwork::Form),
        ("host", InvalidNetwork::Form),
    ] {
        assert_eq!(text.parse::<Network>(), Err(error), "{text}");
    }
    assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
}

proptest! {
    /// However an IPv4 address is wrapped, the decision is the one about itself.
    #[test]
    fn wrapping_an_ipv4_address_changes_nothing(bits: u32, loopback: bool) {
        let v4 = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = v4.octets();
        let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        let guard = allowing(&["10.0.0.0/8"]);
        let guard = if loopback { guard.with_loopback() } else { guard };
        let plain = check(&guard, &v4.to_string());
        for v6 in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert_eq!(check(&guard, &v6.to_string()), plain, "{}", v6);
        }
    }

    /// What std calls private, loopback, link-local and so on never passes without permission.
    #[test]
    fn nothing_that_std_calls_special_is_public(bits: u32, v6: u128) {
        let v4 = Ipv4Addr::from_bits(bits);
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified()
        {
            prop_assert!(check(&Guard::default(), &v4.to_string()).is_err());
        }
        let v6 = Ipv6Addr::from_bits(v6);
        if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback() {
            prop_assert!(check(&Guard::default(), &v6.to_string()).is_err());
        }
    }

    /// A network contains exactly the addresses that have its prefix.
    #[test]
    fn a_network_contains_what_has_its_prefix(address: u32, other: u32, prefix in 0u32..=32) {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let network: Network = format!("{}/{prefix}", Ipv4Addr::from_bits(address & mask)).parse().unwrap();
        prop_assert!(network.contains(Ipv4Addr::from_bits(address).into()));
        let inside = network.contains(Ipv4Addr::from_bits(other).into());
        prop_assert_eq!(inside, address & mask == other & mask);
    }

    #[test]
    fn reading_a_network_never_panics(text in "[0-9a-f:./]{0,24}") {
        if let Ok(network) = text.parse::<Network>() {
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
