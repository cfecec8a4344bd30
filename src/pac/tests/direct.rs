//! Hosts that never go to a proxy.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

fn with_direct(patterns: &[&str], direct: &[&str]) -> String {
    let direct = direct.iter().map(|text| entry(text)).collect();
    let answers = Answers { direct, ..answers(&["PROXY proxy1.corp:3128"], "PROXY old.corp:8080") };
    render(&policy(patterns), &answers)
}

pub(super) fn entry(text: &str) -> Direct {
    text.parse::<IpNet>().map_or_else(|_| Direct::parse_name(text).unwrap(), Direct::Network)
}

#[track_caller]
fn expect(pac: &str, cases: &[(&str, &str)]) {
    for (host, expected) in cases {
        assert_eq!(ask_one(pac, host), *expected, "{host:?}");
    }
}

const DIRECT: &str = "DIRECT";
const LISTED: &str = "PROXY proxy1.corp:3128";
const OTHER: &str = "PROXY old.corp:8080";

#[test]
fn localhost_in_every_dress_never_goes_to_a_proxy() {
    expect(
        &with_direct(&["*.localhost", "localhost", "127.0.0.1"], &[]),
        &[
            ("localhost", DIRECT),
            ("LocalHost.", DIRECT),
            ("app.localhost", DIRECT),
            ("A.B.LOCALHOST.", DIRECT),
            ("127.0.0.1", DIRECT),
            ("127.0.0.1.", DIRECT),
            ("127.255.255.254", DIRECT),
            ("::1", DIRECT),
            ("[::1]", DIRECT),
            ("0:0:0:0:0:0:0:1", DIRECT),
            ("[0000:0:0::0:0001]", DIRECT),
            ("::ffff:127.0.0.1", DIRECT),
            ("[::FFFF:7F00:1]", DIRECT),
            ("notlocalhost", OTHER),
            ("localhost.example.com", OTHER),
            ("localhosts", OTHER),
            (".localhost", OTHER),
            ("localhost..", OTHER),
            ("localhost ", OTHER),
            ("127.0.0.1.example.com", OTHER),
            ("127.0.0.256", OTHER),
            ("127.0.0", OTHER),
            ("127.0.0.01", OTHER),
            ("x127.0.0.1", OTHER),
            ("127.0.0.1\n", OTHER),
            ("128.0.0.1", OTHER),
            ("126.255.255.255", OTHER),
            ("::2", OTHER),
            ("::1:1", OTHER),
            (":::1", OTHER),
            ("1::1", OTHER),
            ("::", OTHER),
            ("[", OTHER),
            ("[]", OTHER),
            ("[localhost", OTHER),
        ],
    );
}

#[test]
fn patterns_networks_and_plain_names_go_past_every_proxy() {
    let pac = with_direct(
        &["*.crm.example", "wiki.corp.example", "10.1.2.3", "login", "*.aws"],
        &["plain", "*.corp.example", "sip*.voice.example", "10.0.0.0/8", "2001:db8:40::/42", "0.0.0.0/32"],
    );
    expect(
        &pac,
        &[
            // Also what the allow list has.
            ("wiki.corp.example", DIRECT),
            ("10.1.2.3", DIRECT),
            ("login", DIRECT),
            ("a.b.Corp.Example.", DIRECT),
            ("corp.example", OTHER),
            ("corp.example.com", OTHER),
            ("sip7.voice.example", DIRECT),
            ("sip.x.voice.example", OTHER),
            ("na1.crm.example", LISTED),
            ("intranet", DIRECT),
            ("INTRANET.", DIRECT),
            ("under_score", DIRECT),
            // No names.
            ("", OTHER),
            (".", OTHER),
            ("2130706432", OTHER),
            ("0x7f000002", OTHER),
            ("2001:db8::1", OTHER),
            ("fe80::1%eth0", OTHER),
            ("web01", DIRECT),
            ("0xdeadline", DIRECT),
            ("[10.255.0.1]", DIRECT),
            ("::ffff:10.0.0.1", DIRECT),
            ("11.0.0.0", OTHER),
            ("10.0.0.0.example", OTHER),
            ("0.0.0.0", DIRECT),
            ("0.0.0.1", OTHER),
            ("2001:db8:7f:ffff::", DIRECT),
            ("[2001:DB8:40::1]", DIRECT),
            ("2001:db8:80::", OTHER),
            ("2001:db8:3f:ffff:ffff:ffff:ffff:ffff", OTHER),
            ("constructor", DIRECT),
            ("__proto__.x", OTHER),
            ("x.tostring", OTHER),
        ],
    );
    // Without the word no name is plain.
    expect(&with_direct(&[], &["*.corp.example"]), &[("intranet", OTHER), ("constructor", OTHER)]);
}

#[test]
fn a_network_of_all_is_of_one_family() {
    let pac = with_direct(&[], &["::/0"]);
    expect(&pac, &[("2001:db8::1", DIRECT), ("192.0.2.1", OTHER), ("::ffff:192.0.2.1", OTHER), ("a", OTHER)]);
    let pac = with_direct(&[], &["0.0.0.0/0"]);
    expect(&pac, &[("192.0.2.1", DIRECT), ("::ffff:192.0.2.1", DIRECT), ("2001:db8::1", OTHER)]);
    // A mapped network is the IPv4 network.
    let pac = with_direct(&[], &["::ffff:10.0.0.0/104"]);
    expect(&pac, &[("10.1.2.3", DIRECT), ("::ffff:a01:203", DIRECT), ("11.0.0.0", OTHER)]);
}

#[test]
fn strings_that_only_an_attacker_sends_are_no_addresses() {
    let pac = with_direct(&["a.example"], &["0.0.0.0/0", "::/0", "plain"]);
    let long = "1:".repeat(120);
    for host in [
        "1:2:3:4:5:6:7:8:9",
        "1::2::3",
        "12345::",
        "::g",
        "1:2:3",
        "::1.2.3.4.5",
        "::1.2.3",
        ":1",
        "1:",
        &long,
    ] {
        assert_eq!(ask_one(&pac, host), OTHER, "{host}");
    }
    let colons = ":".repeat(250);
    assert_eq!(ask_one(&pac, &colons), OTHER);
    for quote in ["\"", "\\", "'", "</script>", "\u{2028}", "\0", "*", "(", "a\nb", "%00"] {
        // No error, whatever the answer.
        ask_one(&pac, &format!("{quote}.example"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn agrees_with_what_an_entry_covers(
        networks in proptest::collection::vec((any::<u32>(), 0_u8..=32, any::<u128>(), 0_u8..=128), 1..4),
        near in proptest::collection::vec((any::<u8>(), any::<u32>(), any::<u128>()), 30),
        names in proptest::collection::vec("([a-c]{1,2}\\.){0,3}[a-c]{1,2}", 20),
        patterns in proptest::collection::vec(any_pattern(), 0..4),
        plain in any::<bool>(),
    ) {
        let mut direct: Vec<Direct> =
            patterns.iter().map(|text| Direct::Pattern(Pattern::parse(text).unwrap())).collect();
        let mut hosts: Vec<Host> = names.iter().map(|name| Host::Name(name.as_str().into())).collect();
        for (four, four_bits, six, six_bits) in &networks {
            let four = IpNet::new(Ipv4Addr::from_bits(*four).into(), *four_bits).unwrap().trunc();
            let six = IpNet::new(Ipv6Addr::from_bits(*six).into(), *six_bits).unwrap().trunc();
            direct.extend([Direct::Network(four), Direct::Network(six)]);
            // Addresses in the network and just outside it.
            for (shift, a, b) in &near {
                let (IpAddr::V4(base4), IpAddr::V6(base6)) = (four.addr(), six.addr()) else { unreachable!() };
                let low4 = a.checked_shr(u32::from(*four_bits)).unwrap_or(0);
                let low6 = b.checked_shr(u32::from(*six_bits)).unwrap_or(0);
                let flip4 = 1_u32 << (shift % 32);
                let flip6 = 1_u128 << (shift % 128);
                let four = Ipv4Addr::from_bits(base4.to_bits() | low4);
                hosts.extend([
                    Host::Ip(four.into()),
                    Host::Ip(Ipv4Addr::from_bits(four.to_bits() ^ flip4).into()),
                    Host::Ip(four.to_ipv6_mapped().into()),
                    Host::Ip(Ipv6Addr::from_bits(base6.to_bits() | low6).into()),
                    Host::Ip(Ipv6Addr::from_bits((base6.to_bits() | low6) ^ flip6).into()),
                ]);
            }
        }
        if plain {
            direct.push(Direct::Plain);
        }
        let answers = Answers { direct: direct.clone(), ..answers(&[], OTHER) };
        let texts: Vec<String> = hosts.iter().map(Host::to_string).collect();
        let got = ask(&render(&Policy::default(), &answers), texts.iter().map(|text| ("", text.as_str())));
        for (host, got) in hosts.iter().zip(got) {
            let loopback = matches!(host, Host::Ip(address) if address.to_canonical().is_loopback());
            let expected = loopback || direct.iter().any(|entry| entry.covers(host));
            prop_assert_eq!(got, if expected { DIRECT } else { OTHER }, "{} in {:?}", host, &direct);
        }
    }

    #[test]
    fn reads_addresses_as_the_standard_library_does(texts in proptest::collection::vec(
        prop_oneof!["[0-9a-fF]{0,5}(:[0-9a-f]{0,5}){2,8}", "([0-9a-f]{1,4}:){0,7}:?(:[0-9a-f]{1,4}){0,7}",
            "[0-9]{1,3}(\\.[0-9]{1,3}){2,4}", "::(ffff:)?[0-9]{1,3}(\\.[0-9]{1,3}){3}"], 60)) {
        let all = [IpNet::V4("0.0.0.0/0".parse().unwrap()), IpNet::V6("::/0".parse().unwrap())];
        let answers = Answers { direct: all.map(Direct::Network).into(), ..answers(&[], OTHER) };
        let got = ask(&render(&Policy::default(), &answers), texts.iter().map(|text| ("", text.as_str())));
        for (text, got) in texts.iter().zip(got) {
            let expected = if text.parse::<IpAddr>().is_ok() { DIRECT } else { OTHER };
            prop_assert_eq!(got, expected, "{}", text);
        }
    }
}
