//! DNS as a stub resolver speaks it: sick servers beside sound ones, answers that come late or
//! never, servers without EDNS, packets that lie. What glibc makes of the same is in `dns_yardstick`.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::{Dns, Proxy, Reply, Upstream, eventually, in_a_network_of_its_own};

const NAME: &str = "name.example";
const LOOPBACK: &str = "[egress]\nallow_private = [\"127.0.0.1/32\", \"::1/128\"]";

fn here() -> Reply {
    Reply::addresses(&["127.0.0.1"])
}

fn config(servers: &[&Dns], timeout: &str, upstream: &Upstream, more: &str) -> String {
    let servers: Vec<_> = servers.iter().map(|dns| dns.address().to_string()).collect();
    let port = upstream.address().port();
    format!(
        "[[allow]]\npattern = \"*.{NAME}\"\nports = [{port}]\n[dns]\nservers = {servers:?}\ntimeout = \"{timeout}\"\n{more}\n{LOOPBACK}"
    )
}

fn proxy(servers: &[&Dns], timeout: &str, upstream: &Upstream, more: &str) -> Proxy {
    Proxy::start(&config(servers, timeout, upstream, more))
}

/// The status of a CONNECT to this name, and how long it took.
fn connect(proxy: &Proxy, name: &str, upstream: &Upstream) -> (u16, Option<String>, Duration) {
    let started = Instant::now();
    let mut client = proxy.connect();
    let answer = client.connect_target(&format!("{name}:{}", upstream.address().port()));
    (answer.status, answer.field("proxy-status").map(Into::into), started.elapsed())
}

#[test]
fn a_sick_server_beside_a_sound_one_costs_nothing() {
    let upstream = Upstream::echo();
    for sick in [
        Reply::Failure,
        Reply::Refused,
        Reply::Code(1),
        Reply::Code(4),
        Reply::Code(9),
        Reply::Bare(2),
        Reply::Lame,
        Reply::Bent(|packet| packet.truncate(packet.len() - 2), Box::new(here())),
    ] {
        let (first, second) = (Dns::start(), Dns::start());
        first.set_otherwise(sick.clone());
        second.set_otherwise(here());
        for servers in [[&first, &second], [&second, &first]] {
            let proxy = proxy(&servers, "60s", &upstream, "");
            for n in 0..4 {
                let (status, ..) = connect(&proxy, &format!("n{n}.{NAME}"), &upstream);
                assert_eq!(status, 200, "{sick:?}");
            }
        }
    }
}

#[test]
fn the_first_servers_word_counts_and_the_second_never_hears_of_it() {
    let upstream = Upstream::echo();
    let (corporate, public) = (Dns::start(), Dns::start());
    corporate.set_otherwise(Reply::Late(Duration::from_millis(30), Box::new(here())));
    let both = proxy(&[&corporate, &public], "60s", &upstream, "");
    assert_eq!(connect(&both, &format!("idp.{NAME}"), &upstream).0, 200);
    assert_eq!(public.asked(), [""; 0]);
    // The other way round it is no such name, and that is definite.
    let reversed = proxy(&[&public, &corporate], "60s", &upstream, "");
    let (status, field, _) = connect(&reversed, &format!("idp.{NAME}"), &upstream);
    assert_eq!(status, 502);
    assert!(field.unwrap().contains("rcode=\"NXDOMAIN\""));
}

#[test]
fn one_family_does_not_wait_for_the_other() {
    let upstream = Upstream::echo();
    for swallowed in
        [Reply::Mute, Reply::Late(Duration::from_secs(40), Box::new(Reply::Nothing)), Reply::Failure]
    {
        let dns = Dns::start();
        dns.set_otherwise(Reply::split(here(), swallowed));
        let (status, _, took) =
            connect(&proxy(&[&dns], "30s", &upstream, ""), &format!("a.{NAME}"), &upstream);
        assert_eq!(status, 200);
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    // AAAA alone: the name has an address, which nobody listens on here.
    let dns = Dns::start();
    dns.set_otherwise(Reply::split(Reply::Mute, Reply::addresses(&["::1"])));
    let (status, field, took) =
        connect(&proxy(&[&dns], "30s", &upstream, ""), &format!("a.{NAME}"), &upstream);
    assert_eq!(status, 502);
    assert!(!field.unwrap().contains("dns"), "it was dialled");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Where the family that answers first leads nowhere, as on an egress that has the other alone.
#[test]
fn the_late_family_is_dialled_when_the_first_one_leads_nowhere() {
    let upstream = Upstream::echo();
    let late = Reply::Late(Duration::from_millis(300), Box::new(here()));
    // Nobody listens on the first, and the second may not be dialled at all.
    for first in ["::1", "fd00::1"] {
        let dns = Dns::start();
        dns.set_otherwise(Reply::split(late.clone(), Reply::addresses(&[first])));
        let proxy = proxy(&[&dns], "30s", &upstream, "");
        let name = format!("a.{NAME}");
        assert_eq!(connect(&proxy, &name, &upstream).0, 200, "{first}");
        // It has joined the cache.
        assert_eq!(connect(&proxy, &name, &upstream).0, 200, "{first}");
        assert_eq!(dns.asked().len(), 2, "one question for each family");
    }
    // Where it leads nowhere either, that is said as ever.
    let dns = Dns::start();
    let private = Reply::Late(Duration::from_millis(300), Box::new(Reply::addresses(&["10.0.0.1"])));
    dns.set_otherwise(Reply::split(private, Reply::addresses(&["fd00::1"])));
    let (status, field, _) = connect(&proxy(&[&dns], "30s", &upstream, ""), &format!("a.{NAME}"), &upstream);
    assert_eq!(status, 403);
    assert!(field.unwrap().contains("private_address"));
}

/// As on an egress that has IPv4 alone, after the resolver had a hiccup over A: what it says of AAAA holds for
/// an hour, and says nothing of A.
#[test]
fn a_family_that_failed_is_asked_for_again() {
    let upstream = Upstream::echo();
    // The time to live stands before the length of the address and the address itself.
    let an_hour = |packet: &mut Vec<u8>| {
        let at = packet.len() - 16 - 2 - 4;
        packet[at..at + 4].copy_from_slice(&3600_u32.to_be_bytes());
    };
    // Nobody listens on it.
    let six = || Reply::Bent(an_hour, Box::new(Reply::addresses(&["::1"])));
    let later = |reply| Reply::Late(Duration::from_millis(300), Box::new(reply));
    let torn: fn(&mut Vec<u8>) = |packet| packet.truncate(packet.len() - 2);
    let dns = Dns::start();
    let proxy = proxy(&[&dns], "1s", &upstream, "");
    let sick = [
        ("servfail", Reply::Failure),
        ("refused", Reply::Refused),
        ("torn", Reply::Bent(torn, Box::new(here()))),
        ("late", later(Reply::Failure)),
        ("lame", later(Reply::Lame)),
        ("mute", Reply::Mute),
    ];
    for (label, four) in &sick {
        let name = format!("{label}.{NAME}");
        dns.set(&name, Reply::split(four.clone(), six()));
        assert_eq!(connect(&proxy, &name, &upstream).0, 502, "{label}");
    }
    for (label, _) in &sick {
        dns.set(&format!("{label}.{NAME}"), Reply::split(here(), six()));
    }
    for (label, _) in &sick {
        let name = format!("{label}.{NAME}");
        eventually(label, || (connect(&proxy, &name, &upstream).0 == 200).then_some(()));
    }
}

/// What is refused is refused soon, though the other family's answer never comes.
#[test]
fn a_silent_family_does_not_hold_up_the_failure_of_the_other() {
    let upstream = Upstream::echo();
    let patient = "connect_timeout = \"40s\"";
    // Nobody listens on the first three, on that port; the last may not be dialled.
    let replies = [
        (Reply::split(Reply::addresses(&["127.0.0.2"]), Reply::Mute), 502, "connection_refused"),
        (Reply::split(Reply::Mute, Reply::addresses(&["::1"])), 502, "connection_refused"),
        (Reply::split(Reply::addresses(&["127.0.0.2", "127.0.0.3"]), Reply::Mute), 502, "connection_refused"),
        (Reply::split(Reply::addresses(&["10.0.0.1"]), Reply::Mute), 403, "destination_ip_prohibited"),
        (Reply::split(Reply::Mute, Reply::addresses(&["fd00::1"])), 403, "destination_ip_prohibited"),
    ];
    let dns = Dns::start();
    let loopback = "[egress]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]";
    let config = config(&[&dns], "40s", &upstream, "").replace(LOOPBACK, &format!("{loopback}\n{patient}"));
    let proxy = Proxy::start(&config);
    for (at, (reply, status, error)) in replies.into_iter().enumerate() {
        let name = format!("n{at}.{NAME}");
        dns.set(&name, reply);
        // The second time the first family's answer is in the cache.
        for _ in 0..2 {
            let (got, field, took) = connect(&proxy, &name, &upstream);
            let field = field.unwrap();
            assert!(got == status && field.contains(error), "{at}: {got} {field}");
            assert!(took < Duration::from_secs(15), "{at}: {took:?}");
        }
    }
}

/// Where IPv6 is switched off, as on many servers, an answer in that family says nothing at all.
#[test]
fn a_family_that_this_machine_lacks_is_not_taken_for_an_answer() {
    in_a_network_of_its_own(&[], || {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let (dns, upstream) = (Dns::start(), Upstream::echo());
        let late = Reply::Late(Duration::from_millis(2500), Box::new(here()));
        dns.set_otherwise(Reply::split(late, Reply::addresses(&["2600:f0f2::1"])));
        dns.set(&format!("six.{NAME}"), Reply::split(Reply::Nothing, Reply::addresses(&["2600:f0f2::1"])));
        let proxy = proxy(&[&dns], "30s", &upstream, "");
        assert_eq!(connect(&proxy, &format!("a.{NAME}"), &upstream).0, 200, "it is reached when it is known");
        let (status, field, _) = connect(&proxy, &format!("six.{NAME}"), &upstream);
        let field = field.unwrap();
        assert!(status == 502 && field.contains("destination_ip_unroutable"), "{status} {field}");
    });
}

/// A resolver on this machine that is restarted refuses for a moment.
#[test]
fn a_server_that_refuses_is_asked_once_more() {
    let upstream = Upstream::echo();
    let dns = Dns::start();
    let address = dns.address();
    let proxy = proxy(&[&dns], "60s", &upstream, "[log]\nlevel = \"debug\"");
    drop(dns);
    let (status, field, _) = connect(&proxy, &format!("gone.{NAME}"), &upstream);
    assert_eq!(status, 502);
    assert!(field.unwrap().contains("dns_error"));
    // It may be back before it is asked at all; once it isn't.
    let caught = (0..20).any(|n| {
        let name = format!("n{n}.{NAME}");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connect(&proxy, &name, &upstream).0);
            proxy.log_line("that it refused", |line| line["name"] == name.as_str());
            let dns = Dns::start_at(address);
            dns.set_otherwise(here());
            waiting.join().unwrap() == 200
        })
    });
    assert!(caught, "never asked again");
}

#[test]
fn servers_without_edns_are_asked_without() {
    let upstream = Upstream::echo();
    for to_edns in [Reply::Mute, Reply::Code(1), Reply::Bare(1), Reply::Code(4), Reply::Failure] {
        let dns = Dns::start();
        dns.set_otherwise(Reply::edns(to_edns.clone(), here()));
        let proxy = proxy(&[&dns], "6s", &upstream, "");
        assert_eq!(connect(&proxy, &format!("one.{NAME}"), &upstream).0, 200, "{to_edns:?}");
        assert!(dns.with_edns().contains(&true));
        proxy.log_line("that it has no EDNS", |line| line["event"] == "dns_server_without_edns");
        let before = dns.with_edns().len();
        assert_eq!(connect(&proxy, &format!("two.{NAME}"), &upstream).0, 200, "{to_edns:?}");
        let after = dns.with_edns().split_off(before);
        assert!(!after.is_empty() && !after.contains(&true), "remembered: {after:?}");
    }
    let dns = Dns::start();
    dns.set_otherwise(here());
    let proxy = proxy(&[&dns], "6s", &upstream, "edns = false");
    assert_eq!(connect(&proxy, &format!("one.{NAME}"), &upstream).0, 200);
    assert!(!dns.with_edns().contains(&true), "switched off");
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let upstream = Upstream::echo();
    // 200 addresses, of which some are kept.
    let many: Vec<_> = (0..200).map(|_| Ipv4Addr::LOCALHOST.into()).collect();
    let dns = Dns::start();
    dns.set_otherwise(Reply::Truncated(Box::new(Reply::Addresses(many))));
    assert_eq!(connect(&proxy(&[&dns], "30s", &upstream, ""), &format!("a.{NAME}"), &upstream).0, 200);
    // Without TCP the next server is asked.
    let (udp_only, second) = (Dns::start_without_tcp(), Dns::start());
    udp_only.set_otherwise(Reply::Truncated(Box::new(here())));
    second.set_otherwise(here());
    let proxy = proxy(&[&udp_only, &second], "30s", &upstream, "");
    assert_eq!(connect(&proxy, &format!("a.{NAME}"), &upstream).0, 200);
}

#[test]
fn packets_that_answer_something_else_are_not_heard() {
    let upstream = Upstream::echo();
    let bends: [fn(&mut Vec<u8>); 5] = [
        |packet| packet[0] ^= 0x55,
        // The question left out, the answer kept.
        |packet| {
            packet[5] = 0;
            packet.drain(12..packet.len() - 16);
        },
        |packet| packet[13] ^= 1,
        |packet| packet[2] &= 0x7f,
        |packet| packet.truncate(5),
    ];
    for (at, bend) in bends.into_iter().enumerate() {
        let (liar, honest) = (Dns::start(), Dns::start());
        liar.set_otherwise(Reply::Bent(bend, Box::new(here())));
        honest.set_otherwise(here());
        let alone = proxy(&[&liar], "300ms", &upstream, "");
        assert_eq!(connect(&alone, &format!("a.{NAME}"), &upstream).0, 504, "{at}");
        let both = proxy(&[&liar, &honest], "300ms", &upstream, "");
        assert_eq!(connect(&both, &format!("a.{NAME}"), &upstream).0, 200, "{at}");
    }
}

#[test]
fn a_silent_server_costs_its_time_once() {
    let upstream = Upstream::echo();
    let (silent, second) = (Dns::start(), Dns::start());
    silent.set_otherwise(Reply::Mute);
    second.set_otherwise(here());
    let proxy = proxy(&[&silent, &second], "8s", &upstream, "");
    let (status, _, took) = connect(&proxy, &format!("one.{NAME}"), &upstream);
    assert!(status == 200 && took >= Duration::from_secs(7), "{status} {took:?}");
    proxy.log_line("its silence", |line| line["event"] == "dns_server_silent");
    let (status, _, took) = connect(&proxy, &format!("two.{NAME}"), &upstream);
    assert!(status == 200 && took < Duration::from_secs(5), "{status} {took:?}");
    // It is still the first to be asked.
    silent.set_otherwise(here());
    assert_eq!(connect(&proxy, &format!("three.{NAME}"), &upstream).0, 200);
    proxy.log_line("its return", |line| line["event"] == "dns_server_back");
}

#[test]
fn aliases_count_within_an_answer_and_nothing_beside_them() {
    let upstream = Upstream::echo();
    let dns = Dns::start();
    let through = |to: &str| Reply::Through(to.into(), vec![Ipv4Addr::LOCALHOST.into()]);
    dns.set(&format!("alias.{NAME}"), through("end.elsewhere"));
    // An address of a name that nobody asked for, before the alias is changed to lead elsewhere.
    let poison = |packet: &mut Vec<u8>| {
        let at = packet.windows(4).rposition(|four| four == b"\x03end").unwrap();
        packet[at + 1] = b'x';
    };
    dns.set(&format!("poison.{NAME}"), Reply::Bent(poison, Box::new(through("end.elsewhere"))));
    let proxy = proxy(&[&dns], "5s", &upstream, "");
    assert_eq!(connect(&proxy, &format!("alias.{NAME}"), &upstream).0, 200);
    assert_eq!(connect(&proxy, &format!("poison.{NAME}"), &upstream).0, 502);
}

#[test]
fn a_reload_that_leaves_dns_alone_keeps_the_cache() {
    let upstream = Upstream::echo();
    let dns = Dns::start();
    dns.set_otherwise(here());
    let same = config(&[&dns], "5s", &upstream, "");
    let proxy = Proxy::start(&same);
    let name = format!("a.{NAME}");
    assert_eq!(connect(&proxy, &name, &upstream).0, 200);
    let asked = dns.asked().len();
    proxy.reload(&format!("{same}\n[limits]\nconnections = 100"), "ok");
    assert_eq!(connect(&proxy, &name, &upstream).0, 200);
    assert_eq!(dns.asked().len(), asked, "from the cache");
    proxy.reload(&config(&[&dns], "6s", &upstream, ""), "ok");
    assert_eq!(connect(&proxy, &name, &upstream).0, 200);
    assert!(dns.asked().len() > asked, "another [dns], another cache");
}

/// Of several resolvers one has to be looked at: which one, the log says.
#[test]
fn a_failure_names_the_server_that_it_is_of() {
    let upstream = Upstream::echo();
    let late = || Box::new(Reply::Late(Duration::from_secs(2), Box::new(here())));
    for (reply, before, after) in [
        (Reply::Mute, "no DNS server answered in time: ", ""),
        (Reply::Code(3), "NXDOMAIN: the name does not exist, says the DNS server ", ""),
        (Reply::Nothing, "NOERROR: the name has no address, says the DNS server ", ""),
        (Reply::Failure, "SERVFAIL: the DNS server ", " could not answer"),
        (
            Reply::Truncated(late()),
            "the DNS server ",
            " cut its answer over UDP, and gives none over TCP in time",
        ),
    ] {
        let dns = Dns::start();
        dns.set_otherwise(reply);
        let proxy = proxy(&[&dns], "500ms", &upstream, "");
        let name = format!("n.{NAME}");
        connect(&proxy, &name, &upstream);
        let line = proxy.access_line("tunnel", &format!("{name}:{}", upstream.address().port()));
        let told = format!("{before}{}{after}", dns.address());
        assert!(line["detail"].as_str().unwrap().ends_with(&told), "{told}\n{line}");
    }
}
