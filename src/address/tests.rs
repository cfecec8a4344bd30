//! Every range at its edges, and addresses in disguise.

use super::*;
use proptest::prelude::*;

fn judged(text: &str) -> &'static str {
    match classify(text.parse().unwrap()) {
        Ok(()) => "global",
        Err(special) => special.as_str(),
    }
}

/// First, last, and the neighbours below and above; `-` where there is none to tell.
#[test]
fn edges_of_every_range() {
    for (first, last, name, below, above) in [
        ("0.0.0.0", "0.255.255.255", "unspecified", "-", "1.0.0.0"),
        ("10.0.0.0", "10.255.255.255", "private", "9.255.255.255", "11.0.0.0"),
        ("100.64.0.0", "100.127.255.255", "carrier-grade NAT", "100.63.255.255", "100.128.0.0"),
        ("127.0.0.0", "127.255.255.255", "loopback", "126.255.255.255", "128.0.0.0"),
        ("169.254.0.0", "169.254.255.255", "link-local", "169.253.255.255", "169.255.0.0"),
        ("172.16.0.0", "172.31.255.255", "private", "172.15.255.255", "172.32.0.0"),
        ("192.0.0.0", "192.0.0.255", "IETF protocol assignment", "191.255.255.255", "192.0.1.0"),
        ("192.0.2.0", "192.0.2.255", "documentation", "192.0.1.255", "192.0.3.0"),
        ("192.88.99.0", "192.88.99.255", "6to4", "192.88.98.255", "192.88.100.0"),
        ("192.168.0.0", "192.168.255.255", "private", "192.167.255.255", "192.169.0.0"),
        ("198.18.0.0", "198.19.255.255", "benchmarking", "198.17.255.255", "198.20.0.0"),
        ("198.51.100.0", "198.51.100.255", "documentation", "198.51.99.255", "198.51.101.0"),
        ("203.0.113.0", "203.0.113.255", "documentation", "203.0.112.255", "203.0.114.0"),
        ("224.0.0.0", "239.255.255.255", "multicast", "223.255.255.255", "-"),
        ("240.0.0.0", "255.255.255.254", "reserved", "-", "-"),
        ("255.255.255.255", "255.255.255.255", "broadcast", "-", "-"),
        ("168.63.129.16", "168.63.129.16", "cloud metadata", "168.63.129.15", "168.63.129.17"),
        ("::", "::", "unspecified", "-", "-"),
        ("::1", "::1", "loopback", "-", "-"),
        ("::2", "::ffff:ffff", "IPv4-compatible", "-", "-"),
        ("64:ff9b::", "64:ff9b::ffff:ffff", "NAT64", "-", "-"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "NAT64", "-", "-"),
        ("100::", "100::ffff:ffff:ffff:ffff", "discard-only", "-", "-"),
        ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", "discard-only", "-", "-"),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo", "-", "-"),
        ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking", "-", "-"),
        ("2001:1::", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", "IETF protocol assignment", "-", "-"),
        ("2001:3::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "IETF protocol assignment", "-", "2001:200::"),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "documentation",
            "2001:db7:ffff::",
            "2001:db9::",
        ),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4", "2001:ffff::", "2003::"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation", "3ffe:ffff::", "3fff:1000::"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "segment routing", "-", "-"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local", "-", "-"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local", "-", "-"),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local", "-", "-"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast", "-", "-"),
        ("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "3fff:ffff::", "-"),
        ("5f01::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "-", "-"),
        ("64:ff9b:2::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "-", "-"),
        ("100:0:0:2::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved", "-", "2000::"),
    ] {
        assert_eq!(judged(first), name, "{first}");
        assert_eq!(judged(last), name, "{last}");
        for outside in [below, above] {
            assert!(outside == "-" || judged(outside) == "global", "{outside}");
        }
    }
}

#[test]
fn metadata_and_disguises() {
    for (text, name) in [
        ("169.254.169.254", "cloud metadata"),
        ("169.254.170.2", "cloud metadata"),
        ("100.100.100.200", "cloud metadata"),
        ("fd00:ec2::254", "cloud metadata"),
        ("::ffff:169.254.169.254", "cloud metadata"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", "global"),
        ("::10.0.0.1", "IPv4-compatible"),
        ("::ffff:0:10.0.0.1", "reserved"),
        ("64:ff9b::169.254.169.254", "NAT64"),
        ("64:ff9b::8.8.8.8", "NAT64"),
        ("2002:a00:1::", "6to4"),
        ("2600:f0f2:7100::1", "global"),
        ("2a05:d000::1", "global"),
        ("52.94.0.1", "global"),
    ] {
        assert_eq!(judged(text), name, "{text}");
    }
    let embedded = nat64_embedded("64:ff9b::a00:1".parse().unwrap());
    assert_eq!(embedded, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(nat64_embedded("64:ff9b:1::a00:1".parse().unwrap()), None);
}

#[test]
fn table_entries_are_networks() {
    for (network, length, _) in V4 {
        assert_eq!(v4_prefix(*network, *length), network.to_bits(), "{network}");
    }
    for (network, length, _) in V6 {
        assert_eq!(v6_prefix(*network, *length), network.to_bits(), "{network}");
    }
}

proptest! {
    /// The standard library's own, narrower view is never contradicted.
    #[test]
    fn agrees_with_std(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let special = address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast()
            || address.is_documentation();
        prop_assert!(!special || classify(address.into()).is_err());
        prop_assert_eq!(classify(address.to_ipv6_mapped().into()), classify(address.into()));
    }
}
