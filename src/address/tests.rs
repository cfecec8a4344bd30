//! Every range at its edges, and addresses in disguise.

use super::*;
use proptest::prelude::*;

fn judged(text: &str) -> &'static str {
    match classify(text.parse().unwrap()) {
        Ok(()) => "global",
        Err(special) => special.into_str(),
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
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn judged_with(text: &str, allowed: &[&str]) -> Result<(), String> {
    judge(text.parse().unwrap(), &networks(allowed)).map_err(|barred| barred.to_string())
}

/// An allowed translator opens what is global behind it, and nothing else.
#[test]
fn a_network_of_a_translator_opens_global_addresses_alone() {
    for (network, inside, outside) in [
        ("64:ff9b::/96", "64:ff9b::52.94.0.1", "64:ff9b::169.254.169.254"),
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", "64:ff9b::168.63.129.16"),
        ("64:ff9b::/32", "64:ff9b::8.8.8.8", "64:ff9b::127.0.0.1"),
        ("64:ff9b:1::/96", "64:ff9b:1::8.8.8.8", "64:ff9b:1::10.0.0.1"),
        ("64:ff9b:1:fffe::/96", "64:ff9b:1:fffe::8.8.8.8", "64:ff9b:1:fffe::10.0.0.1"),
        // RFC 6052: bits 48 to 63, then 72 to 87.
        ("64:ff9b:1::/48", "64:ff9b:1:3450:0a:500::", "64:ff9b:1:a9fe:a9:fe00::"),
        ("64:ff9b:1:3400::/56", "64:ff9b:1:3434:50:a05::", "64:ff9b:1:340a::1"),
        ("64:ff9b:1:7::/64", "64:ff9b:1:7:34:500a:500:0", "64:ff9b:1:7:a9:fea9:fe00:0"),
        // Wider than the translator's prefix, whose place is then looked for.
        ("64:ff9b:1::/48", "64:ff9b:1::8.8.8.8", "64:ff9b:1::169.254.169.254"),
        ("64:ff9b:1::/48", "64:ff9b:1:3434::8.8.8.8", "64:ff9b:1:3434::169.254.169.254"),
        // What a translator ignores does not hide where it looks.
        ("64:ff9b:1::/48", "64:ff9b:1:3450:0a:500::", "64:ff9b:1:a9fe:a9:fe00:808:808"),
        ("2002::/16", "2002:808:808::1", "2002:a9fe:a9fe::1"),
        ("2001::/32", "2001:0:808:808::f7f7:f7f7", "2001:0:808:808::f5ff:fffe"),
        ("2001::/32", "2001:0:808:808::f7f7:f7f7", "2001:0:a00:1::f7f7:f7f7"),
        ("::/96", "::8.8.8.8", "::169.254.169.254"),
        ("::ffff:0:0:0/96", "::ffff:0:8.8.8.8", "::ffff:0:169.254.169.254"),
        ("fe80::/10", "fe80::5efe:8.8.8.8", "fe80::5efe:10.0.0.1"),
        ("::/0", "2600:f0f2:7100::5efe:8.8.8.8", "2600:f0f2:7100::200:5efe:a9fe:a9fe"),
        ("fd00::/8", "fd00:ec2::253", "64:ff9b::8.8.8.8"),
    ] {
        assert_eq!(judged_with(inside, &[network]), Ok(()), "{inside} by {network}");
        assert!(judged_with(outside, &[network]).is_err(), "{outside} by {network}");
        assert!(judged_with(outside, &[]).is_err(), "{outside} by nothing");
        // Not even by a network of everything in IPv6; the inner one has to be named.
        assert!(judged_with(outside, &["::/0"]).is_err() || outside.ends_with("8.8.8.8"), "{outside}");
    }
    assert_eq!(judged_with("64:ff9b::10.1.2.3", &["64:ff9b::/96", "10.0.0.0/8"]), Ok(()));
    assert_eq!(judged_with("::ffff:10.1.2.3", &["10.0.0.0/8"]), Ok(()));
    assert!(judged_with("::ffff:10.1.2.3", &["::/0"]).is_err(), "it is an IPv4 address");
}

/// An address is taken for the one in it where it leads nowhere else: all that it may mean count.
#[test]
fn an_address_leads_to_itself_or_to_what_a_translator_makes_of_it() {
    let led = |text: &str, allowed: &[&str]| -> Vec<String> {
        led_to(text.parse().unwrap(), &networks(allowed)).map(|address| address.to_string()).collect()
    };
    for itself in
        ["52.94.0.1", "2600:f0f2::1", "::1", "::52.94.0.1", "2002:345e:1::1", "2600:f0f2::5efe:345e:1"]
    {
        let same = itself.parse::<IpAddr>().unwrap().to_string();
        assert_eq!(led(itself, &["::/0"]), [same]);
    }
    assert_eq!(led("::ffff:52.94.0.1", &[]), ["52.94.0.1"]);
    // Allowed or not: it is read as the commonest translators read it, or as the network says.
    for (address, allowed, inner) in [
        ("64:ff9b::52.94.0.1", &[] as &[&str], &["52.94.0.1"] as &[&str]),
        ("64:ff9b::52.94.0.1", &["64:ff9b::/32"], &["52.94.0.1"]),
        ("64:ff9b:1:fffe::52.94.0.1", &[], &["52.94.0.1"]),
        ("64:ff9b:1:7:34:5e00:100:0", &["64:ff9b:1:7::/64"], &["52.94.0.1"]),
        ("64:ff9b:1:345e:0:100::", &["64:ff9b:1::/48"], &["52.94.0.1"]),
        // Another prefix than the administrator's.
        ("64:ff9b:1:345e:0:100::", &["64:ff9b:1:345e::/96"], &["0.0.0.0"]),
        // What a translator ignores is not zero, so that a longer prefix may be meant.
        ("64:ff9b:1:345e:0:100:808:808", &["64:ff9b:1::/48"], &["52.94.0.1", "94.0.1.0", "8.8.8.8"]),
        ("64:ff9b:2::52.94.0.1", &["::/0"], &["64:ff9b:2::345e:1"]),
    ] {
        assert_eq!(led(address, allowed), inner, "{address} by {allowed:?}");
    }
}

/// Whatever is wide enough to be written for another reason leaves credentials alone.
#[test]
fn a_metadata_address_is_opened_by_nothing_but_itself() {
    let ranges = V4.iter().map(|(a, _, s)| (IpAddr::from(*a), s));
    let metadata = ranges.chain(V6.iter().map(|(a, _, s)| (IpAddr::from(*a), s)));
    let metadata: Vec<_> = metadata.filter(|(_, s)| **s == Special::Metadata).map(|(a, _)| a).collect();
    assert!(metadata.len() > 10, "{metadata:?}");
    for address in metadata {
        let exact = IpNet::from(address);
        for length in 0..exact.max_prefix_len() {
            let wide = [IpNet::new(address, length).unwrap()];
            let barred = judge(address, &wide).map_err(|barred| barred.special);
            assert_eq!(barred, Err(Special::Metadata), "{address} by {wide:?}");
        }
        assert_eq!(judge(address, &[exact]), Ok(()), "{address}");
        let another: IpAddr =
            if address.is_ipv4() { v4(169, 254, 1, 1).into() } else { v6(0xfd00, 1, 1, 1, 1).into() };
        assert!(judge(address, &[another.into()]).is_err(), "{address}");
        let IpAddr::V4(inner) = address else { continue };
        let everything = networks(&["0.0.0.0/0", "::/0"]);
        assert!(judge(inner.to_ipv6_mapped().into(), &everything).is_err(), "{address}");
        for (outer, network) in disguises(inner) {
            let network: IpNet = network.parse().unwrap();
            for also in &everything {
                let barred = judge(outer.into(), &[network, *also]).map_err(|barred| barred.special);
                assert_eq!(barred, Err(Special::Metadata), "{address} as {outer} by {also}");
            }
            assert_eq!(judge(outer.into(), &[network, exact]), Ok(()), "{address} as {outer}");
        }
    }
    // Its neighbours are private addresses like others.
    for (address, network) in [("169.254.169.253", "169.254.0.0/16"), ("fd00:ec2::253", "fd00::/8")] {
        assert_eq!(judged_with(address, &[network]), Ok(()), "{address}");
    }
}

#[test]
fn a_barred_address_is_told_by_what_it_stands_for() {
    for (address, allowed, told) in [
        ("169.254.169.254", &[][..], "it is cloud metadata"),
        ("::ffff:169.254.169.254", &[], "169.254.169.254, which is not a public address: it is cloud"),
        ("64:ff9b::a9fe:a9fe", &["64:ff9b::/96"], "169.254.169.254, and that is cloud metadata"),
        ("64:ff9b::a9fe:a9fe", &[], "169.254.169.254, and that is cloud metadata"),
        ("64:ff9b::8.8.8.8", &[], "it is NAT64"),
        ("64:ff9b:1::8.8.8.8", &[], "it is NAT64"),
    ] {
        let got = judged_with(address, allowed).unwrap_err();
        assert!(got.contains(told), "{address}: {got}");
    }
}

/// Every way to put an IPv4 address into an IPv6 one, and the network that it is in.
fn disguises(inner: Ipv4Addr) -> Vec<(Ipv6Addr, &'static str)> {
    let [a, b, c, d] = inner.octets().map(u128::from);
    let low = u128::from(inner.to_bits());
    let at = |network: &str, bits: u128| {
        Ipv6Addr::from_bits(network.parse::<Ipv6Addr>().unwrap().to_bits() | bits)
    };
    let global = 0x0808_0808_u128;
    vec![
        (at("::ffff:0:0:0", low), "::ffff:0:0:0/96"),
        (at("64:ff9b::", low), "64:ff9b::/96"),
        (at("64:ff9b:1:abcd::", low), "64:ff9b:1:abcd::/96"),
        (at("64:ff9b:1::", a << 72 | b << 64 | c << 48 | d << 40), "64:ff9b:1::/48"),
        (at("64:ff9b:1:5600::", a << 64 | b << 48 | c << 40 | d << 32), "64:ff9b:1:5600::/56"),
        (at("64:ff9b:1:7::", a << 48 | b << 40 | c << 32 | d << 24), "64:ff9b:1:7::/64"),
        (at("2002::", low << 80 | 1), "2002::/16"),
        (at("2001::", global << 64 | u128::from(!inner.to_bits())), "2001::/32"),
        (at("2001::", low << 64 | 0xf7f7_f7f7), "2001::/32"),
        (at("fd00:1::5efe:0:0", low), "fd00::/8"),
        (at("2600:f0f2::200:5efe:0:0", low), "2600::/12"),
    ]
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
    /// The network of a disguise opens what is global in it; the rest needs a network of its own.
    #[test]
    fn a_disguise_is_judged_by_what_it_hides(
        inner in prop_oneof![
            any::<u32>(),
            (0..V4.len(), any::<u32>()).prop_map(|(range, host)| {
                let (network, length, _) = V4[range];
                network.to_bits() | host.checked_shr(length).unwrap_or(0)
            }),
        ]
    ) {
        let inner = Ipv4Addr::from_bits(inner);
        for (outer, network) in disguises(inner) {
            // In 64:ff9b:1::/48 nothing is translated to 0.0.0.0/8: another reading counts.
            if inner.octets()[0] == 0 && network.starts_with("64:ff9b:1:") {
                continue;
            }
            let network: IpNet = network.parse().unwrap();
            let opened = judge(outer.into(), &[network]).is_ok();
            prop_assert_eq!(opened, classify(inner.into()).is_ok(), "{} as {}", inner, outer);
            let both = [network, IpNet::from(IpAddr::V4(inner))];
            prop_assert!(judge(outer.into(), &both).is_ok(), "{} as {}", inner, outer);
            prop_assert!(reached_by(outer.into()).any(|found| found == IpAddr::V4(inner)));
            let led_to: Vec<_> = led_to(outer.into(), &[network]).collect();
            let of_translator = network.to_string().starts_with("64:ff9b:");
            let host = if of_translator { IpAddr::V4(inner) } else { IpAddr::V6(outer) };
            prop_assert_eq!(led_to, [host], "{} as {}", inner, outer);
        }
    }

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

#[test]
fn an_address_is_cut_to_its_network() {
    let cut = |address: &str| cut(address.parse().unwrap()).to_string();
    assert_eq!(cut("10.20.30.40"), "10.20.30.0");
    assert_eq!(cut("::ffff:10.20.30.40"), "10.20.30.0");
    assert_eq!(cut("2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
    assert_eq!(cut("255.255.255.255"), "255.255.255.0");
}
