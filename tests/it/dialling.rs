//! From an allowed name to a connection: name servers in every mood, addresses that may not be
//! dialled, upstreams that don't answer.

use serde_json::Value;

use crate::support::{
    Answer, Blackhole, Dns, Proxy, Raw, Refusing, Reply, Secured, Upstream, expect_refusal,
    in_a_network_of_its_own,
};

const NAME: &str = "name.example";

/// A proxy that asks `dns`, may dial loopback, and allows the names on the upstream's port.
fn proxy_with(dns: &Dns, upstream: &Upstream, more: &str) -> Proxy {
    let port = upstream.address().port();
    Proxy::start(&format!(
        "[[allow]]\npattern = \"{NAME}\"\nports = [443, {port}]\n[[allow]]\npattern = \"*.{NAME}\"\nports = [443, {port}]\n{}\n{more}",
        dns.as_config()
    ))
}

const LOOPBACK: &str = "[egress]\nallow_private = [\"127.0.0.1/32\"]";

/// A CONNECT that fails: the answer is checked with its metric and log line.
#[track_caller]
fn expect_failure(proxy: &Proxy, target: &str, expected: (u16, &str, &str)) -> (Answer, Value) {
    let mut client = proxy.connect();
    let answer = client.connect_target(target);
    let line = expect_refusal(proxy, &mut client, &answer, expected);
    assert_eq!(line["target"], target, "{line}");
    (answer, line)
}

fn outcome(outcome: &str) -> String {
    format!("ccpgate_tunnels_total{{domain=\"{NAME}\",category=\"extra\",outcome=\"{outcome}\"}}")
}

#[test]
fn names_are_resolved_dialled_and_remembered() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.addresses(NAME, &["127.0.0.1"]);
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    let target = format!("{NAME}:{}", upstream.address().port());
    for _ in 0..3 {
        let mut client = proxy.tunnel(&target);
        client.expect_echo(b"resolved");
        client.finish();
        client.expect_closed();
    }
    let line = proxy.access_line("tunnel", &target);
    assert_eq!(line["upstream"], upstream.address().to_string(), "{line}");
    assert!(line["connect_ms"].is_number(), "{line}");
    let asked = dns.asked().iter().filter(|name| *name == NAME).count();
    assert!(asked <= 2, "A and AAAA once, then from the cache: {asked} questions");
    assert!(proxy.metric("ccpgate_dns_duration_seconds_count") >= 1.0);
}

#[test]
fn denied_names_and_addresses_are_never_asked_for() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    for target in ["evil.example:443", "name.example:444", "127.0.0.1:443", "127.1:443", "0x7f000001:443"] {
        let mut client: Raw = proxy.connect();
        assert!(client.connect_target(target).status >= 400);
    }
    assert_eq!(dns.asked(), [""; 0], "only what is allowed is resolved");
}

#[test]
fn failures_of_dns() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    for (label, reply, rcode) in [
        ("missing", None, "NXDOMAIN"),
        ("failing", Some(Reply::Failure), "SERVFAIL"),
        ("refused", Some(Reply::Refused), "REFUSED"),
    ] {
        let name = format!("{label}.{NAME}");
        if let Some(reply) = reply {
            dns.set(&name, reply);
        }
        let (answer, line) = expect_failure(&proxy, &format!("{name}:443"), (502, "dns_error", "dns"));
        let field = answer.field("proxy-status").unwrap();
        assert!(field.contains(&format!("rcode=\"{rcode}\"")), "{field}");
        assert_eq!(line["event"], "tunnel", "{line}");
        assert_eq!((&line["outcome"], &line["stage"]), (&"dns".into(), &"dns".into()), "{line}");
        assert!(line["dns_ms"].is_number(), "{line}");
    }
    dns.set(&format!("empty.{NAME}"), Reply::Nothing);
    expect_failure(&proxy, &format!("empty.{NAME}:443"), (502, "dns_error", "dns"));
    let series = format!("ccpgate_tunnels_total{{domain=\"*.{NAME}\",category=\"extra\",outcome=\"dns\"}}");
    proxy.metric_eventually(&series, 4.0);
    // The share of failures is a metric of its own.
    proxy.metric_eventually("ccpgate_error_ratio{category=\"extra\"}", 1.0);
    proxy.metric_eventually("ccpgate_error_ratio{category=\"all\"}", 1.0);
}

#[test]
fn a_mute_name_server_is_a_timeout_and_the_next_one_is_asked() {
    let (mute, dns, upstream) = (Dns::start(), Dns::start(), Upstream::echo());
    mute.set(NAME, Reply::Mute);
    let proxy = proxy_with(&mute, &upstream, LOOPBACK);
    expect_failure(&proxy, &format!("{NAME}:443"), (504, "dns_timeout", "dns"));
    proxy.metric_eventually(&outcome("dns"), 1.0);

    dns.addresses(NAME, &["127.0.0.1"]);
    let both = format!("[dns]\nservers = [\"{}\", \"{}\"]\ntimeout = \"5s\"", mute.address(), dns.address());
    let port = upstream.address().port();
    let proxy =
        Proxy::start(&format!("[[allow]]\npattern = \"{NAME}\"\nports = [{port}]\n{both}\n{LOOPBACK}"));
    proxy.tunnel(&format!("{NAME}:{port}")).expect_echo(b"from the second server");
}

#[test]
fn a_failure_is_soon_forgotten() {
    // An agent retries at once.
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.set(NAME, Reply::Failure);
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    let target = format!("{NAME}:{}", upstream.address().port());
    expect_failure(&proxy, &target, (502, "dns_error", "dns"));
    dns.addresses(NAME, &["127.0.0.1"]);
    crate::support::eventually("the name to work again", || {
        let mut client = proxy.connect();
        (client.connect_target(&target).status == 200).then_some(())
    });
}

#[test]
fn addresses_that_are_not_public_are_never_dialled() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    let proxy = proxy_with(&dns, &upstream, "");
    // One address of every special range.
    for (at, address) in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fd00:ec2::254",
        "fc00::1",
        "fe80::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a00:1::1",
        "2001:0:1::1",
        "2001:db8::1",
        "100::1",
        // The same by other ways, and what is assigned to nobody.
        "::8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2001::1",
        "fec0::1",
        "5f00::1",
        "3fff::1",
        "4000::1",
        "192.88.99.1",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("a{at}.{NAME}");
        dns.addresses(&name, &[address]);
        let mut client = proxy.connect();
        let answer = client.connect_target(&format!("{name}:443"));
        let got = (answer.status, answer.proxy_status("error"), answer.proxy_status("details"));
        let expected = (403, Some("destination_ip_prohibited"), Some("private_address"));
        assert_eq!(got, expected, "{address}: {}", answer.head);
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"private_address\"}", 43.0);
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn of_mixed_addresses_only_what_may_be_dialled_is() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.addresses(NAME, &["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1"]);
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    let target = format!("{NAME}:{}", upstream.address().port());
    let mut client = proxy.tunnel(&target);
    client.expect_echo(b"to and fro");
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.access_line("tunnel", &target)["upstream"], upstream.address().to_string());
}

#[test]
fn the_address_that_was_judged_is_the_one_that_is_dialled() {
    // The answer changes for the worse at once; the cache may hold either, a dial may not.
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.addresses(NAME, &["127.0.0.2"]);
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    let target = format!("{NAME}:{}", upstream.address().port());
    for address in ["127.0.0.2", "127.0.0.3"] {
        dns.addresses(NAME, &[address]);
        let mut client = proxy.connect();
        assert_eq!(client.connect_target(&target).status, 403);
    }
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn of_an_alias_only_the_final_addresses_count() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    dns.set(NAME, Reply::Alias("elsewhere.example".into()));
    dns.addresses("elsewhere.example", &["127.0.0.1"]);
    dns.set(&format!("loop.{NAME}"), Reply::Alias(format!("loop.{NAME}")));
    dns.set(&format!("inside.{NAME}"), Reply::Alias("inside.example".into()));
    dns.addresses("inside.example", &["10.0.0.1"]);
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    proxy.tunnel(&format!("{NAME}:{}", upstream.address().port())).expect_echo(b"by its alias");
    let inside = format!("inside.{NAME}:443");
    expect_failure(&proxy, &inside, (403, "destination_ip_prohibited", "private_address"));
    let mut client = proxy.connect();
    let answer = client.connect_target(&format!("loop.{NAME}:443"));
    assert!(matches!(answer.status, 502 | 504), "{}", answer.head);
}

#[test]
fn search_domains_widen_nothing() {
    // The absolute name is asked for, whatever resolv.conf says.
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    let proxy = proxy_with(&dns, &upstream, LOOPBACK);
    expect_failure(&proxy, &format!("{NAME}:443"), (502, "dns_error", "dns"));
    assert!(dns.asked().iter().all(|name| name == NAME), "{:?}", dns.asked());
}

#[test]
fn fixed_answers_are_judged_like_dns() {
    let (dns, upstream) = (Dns::start(), Upstream::echo());
    let port = upstream.address().port();
    let policy = format!("[[allow]]\npattern = \"{NAME}\"\nports = [{port}]\n");
    let hosts = format!("{}hosts = {{ \"{NAME}\" = [\"127.0.0.1\"] }}\n", dns.as_config());
    let target = format!("{NAME}:{port}");

    let proxy = Proxy::start(&format!("{policy}{hosts}"));
    expect_failure(&proxy, &target, (403, "destination_ip_prohibited", "private_address"));
    let proxy = Proxy::start(&format!("{policy}{hosts}{LOOPBACK}"));
    proxy.tunnel(&target).expect_echo(b"allowed");
    assert_eq!(dns.asked(), [""; 0]);
}

#[test]
fn the_proxy_refuses_to_be_its_own_upstream() {
    // An allowed name that leads back to a listener, of whatever kind.
    let (dns, secured) = (Dns::start(), Secured::new());
    dns.addresses(NAME, &["127.0.0.1"]);
    let policy = |ports: &[u16]| {
        format!(
            "[[allow]]\npattern = \"{NAME}\"\nports = {ports:?}\n[edl]\nlisten = [\"127.0.0.1:0\"]\n{}{}{LOOPBACK}",
            secured.section(""),
            dns.as_config()
        )
    };
    let proxy = Proxy::start(&policy(&[443]));
    let lists = proxy.log_line("the lists", |l| l["event"] == "listening" && l["listener"] == "edl");
    let lists = lists["address"].as_str().unwrap().parse::<std::net::SocketAddr>().unwrap();
    let own = [proxy.http(), proxy.https(), proxy.admin(), lists];
    proxy.reload(&policy(&own.map(|own| own.port())), "ok");
    for own in own {
        let mut client = proxy.connect();
        let answer = client.connect_target(&format!("{NAME}:{}", own.port()));
        assert_eq!(answer.status, 403, "{own}: {}", answer.head);
        assert_eq!(answer.proxy_status("error"), Some("destination_ip_prohibited"), "{}", answer.head);
    }
}

#[test]
fn failures_of_the_dial() {
    let (refusing, blackhole) = (Refusing::new(), Blackhole::new());
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.{NAME}\"\n[egress]\nconnect_timeout = \"1s\"\n[egress.connect_to]\n\
         \"refused.{NAME}:443\" = \"{}\"\n\"dark.{NAME}:443\" = \"{}\"\n\"nowhere.{NAME}:443\" = \"255.255.255.255:443\"",
        refusing.address(),
        blackhole.address()
    ));
    for (label, status, error) in [
        ("refused", 502, "connection_refused"),
        ("dark", 504, "connection_timeout"),
        // The broadcast address: the kernel refuses without a packet.
        ("nowhere", 502, "destination_ip_unroutable"),
    ] {
        let (_, line) = expect_failure(&proxy, &format!("{label}.{NAME}:443"), (status, error, "connect"));
        assert_eq!(line["event"], "tunnel", "{line}");
        assert_eq!((&line["outcome"], &line["stage"]), (&"connect".into(), &"connect".into()), "{line}");
        // The firewall's log is searched by address.
        let address = if label == "dark" { blackhole.address().to_string() } else { String::new() };
        assert!(line["detail"].as_str().unwrap().contains(&address), "{line}");
    }
    let series =
        format!("ccpgate_tunnels_total{{domain=\"*.{NAME}\",category=\"extra\",outcome=\"connect\"}}");
    proxy.metric_eventually(&series, 3.0);
}

#[test]
fn a_kernel_that_gives_up_first_is_a_timeout_too() {
    in_a_network_of_its_own(&[], || {
        // Packets at the beginning and after a second; after two more it gives up. Many machines are set to a few.
        std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let blackhole = Blackhole::new();
        let dark = blackhole.address();
        let proxy = Proxy::start(&format!(
            "[[allow]]\npattern = \"{NAME}\"\n[egress]\nconnect_timeout = \"1m\"\n[egress.connect_to]\n\"{NAME}:443\" = \"{dark}\""
        ));
        let expected = (504, "connection_timeout", "connect");
        let (_, line) = expect_failure(&proxy, &format!("{NAME}:443"), expected);
        let told = line["detail"].as_str().unwrap();
        assert!(told.contains(&format!("no answer from {dark}")), "{line}");
        assert_eq!(line["cause"], "tcp_timeout", "{line}");
    });
}

#[test]
fn a_dead_address_costs_a_quarter_of_a_second() {
    // RFC 8305 §5. The blackhole and the upstream must share a port.
    let blackhole = Blackhole::new();
    let port = blackhole.address().port();
    let Ok(listener) = std::net::TcpListener::bind(("127.0.0.2", port)) else { return };
    let dns = Dns::start();
    dns.addresses(NAME, &["127.0.0.1", "127.0.0.2"]);
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"{NAME}\"\nports = [{port}]\n{}[egress]\nallow_private = [\"127.0.0.0/8\"]",
        dns.as_config()
    ));
    let started = std::time::Instant::now();
    proxy.tunnel(&format!("{NAME}:{port}"));
    let took = started.elapsed();
    assert!(took.as_millis() < 2500, "took {took:?}, of a connect_timeout of 5 s");
    drop(listener);
}

#[test]
fn connect_to_prefers_the_most_specific_pattern() {
    let (broad, narrow) = (Upstream::recorder(), Upstream::echo());
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.{NAME}\"\n[egress.connect_to]\n\"*.{NAME}:443\" = \"{}\"\n\"one.{NAME}:443\" = \"{}\"",
        broad.address(),
        narrow.address()
    ));
    proxy.tunnel(&format!("one.{NAME}:443")).expect_echo(b"narrow");
    proxy.tunnel(&format!("two.{NAME}:443")).send("x");
    crate::support::eventually("a connection to each", || {
        ((broad.accepted(), narrow.accepted()) == (1, 1)).then_some(())
    });
}

#[test]
fn source_address_is_where_it_dials_from() {
    let upstream = Upstream::serve(|mut stream| {
        let from = stream.peer_addr().unwrap().ip().to_string();
        std::io::Write::write_all(&mut stream, from.as_bytes()).unwrap();
    });
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"{NAME}\"\n[egress]\nsource_address = [\"127.0.0.9\"]\n{}",
        upstream.for_targets(&[&format!("{NAME}:443")])
    ));
    assert_eq!(proxy.tunnel(&format!("{NAME}:443")).read_to_end().unwrap(), b"127.0.0.9");
}
