//! Behind load balancers that say for whom they speak: who is believed, what becomes of those who must
//! not say it, and what a balancer's own checks may ask. Here the balancer is 127.0.0.2, and a machine that
//! comes directly is 127.0.0.1.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::support::{
    Answer, NAME, PATIENCE, Proxy, Raw, Secured, Upstream, ccpgate, eventually, expect_refusal,
};

const TARGET: &str = "good.example:443";
const BALANCER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 1, of an agent at this address.
fn v1(agent: &str) -> Vec<u8> {
    format!("PROXY TCP4 {agent} 192.0.2.1 40000 3128\r\n").into_bytes()
}

/// Version 2 with a field that nobody knows.
fn v2(agent: &str) -> Vec<u8> {
    let (family, ends) = match agent.parse().unwrap() {
        IpAddr::V4(agent) => (0x11, [agent.octets().as_slice(), &[192, 0, 2, 1]].concat()),
        IpAddr::V6(agent) => (0x21, [agent.octets(), std::net::Ipv6Addr::LOCALHOST.octets()].concat()),
    };
    let rest = [&ends[..], &40000_u16.to_be_bytes(), &3128_u16.to_be_bytes(), b"\xea\0\x02\x01x"].concat();
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[0x21, family], &length, &rest].concat()
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// A proxy behind the balancer, for agents of 10.0.0.0/8 and fd00::/8.
#[track_caller]
fn start(upstream: &Upstream, secured: &Secured, more: &str) -> Proxy {
    let proxy = "[proxy]\nclients = [\"10.0.0.0/8\", \"fd00::/8\", \"127.0.0.1\"]\nproxy_protocol = [\"127.0.0.2\"]\n";
    secured.start(upstream, "", &format!("{proxy}{more}"))
}

fn from_the_balancer(to: SocketAddr, header: &[u8]) -> Raw {
    let mut connection = Raw::connect_from(BALANCER, to);
    connection.send(header);
    connection
}

fn over_tls(secured: &Secured, connection: Raw) -> std::io::Result<Raw> {
    let name = ServerName::try_from(NAME).unwrap();
    connection.secure(ClientConnection::new(secured.agent().config(), name).unwrap())
}

#[track_caller]
fn get(connection: &mut Raw, path: &str) -> Answer {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: proxy.corp.example\r\n\r\n"));
    connection.read_answer()
}

fn headers(proxy: &Proxy, said: &str) -> f64 {
    proxy.metric(&format!("ccpgate_proxy_headers_total{{said=\"{said}\"}}"))
}

#[test]
fn the_agent_that_a_balancer_names_is_the_client_everywhere() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    let agents = [(v1("10.1.2.3"), "10.1.2.3"), (v2("10.1.2.4"), "10.1.2.4"), (v2("fd00::5"), "fd00::5")];
    for (header, agent) in &agents {
        let plain = from_the_balancer(proxy.http(), header);
        let secure = over_tls(&secured, from_the_balancer(proxy.https(), header)).unwrap();
        for mut client in [plain, secure] {
            assert_eq!(client.connect_target(TARGET).status, 200, "{agent}");
            client.expect_echo(b"exactly what follows the header");
            let live = proxy.get(&format!("/api/tunnels?client={agent}")).text();
            assert!(live.contains(TARGET), "{agent}: {live}");
            client.finish();
            client.expect_closed();
            let agent = SocketAddr::new(agent.parse().unwrap(), 40000).to_string();
            proxy.log_line("the tunnel of the agent", |line| {
                line["event"] == "tunnel" && line["client"] == agent
            });
        }
        let mut refused = from_the_balancer(proxy.http(), header);
        assert_eq!(refused.connect_target("evil.example:443").status, 403);
    }
    assert_eq!((headers(&proxy, "client"), headers(&proxy, "refused")), (9.0, 0.0));
    // Who is denied is the agent, too; and an agent outside of proxy.clients is one whatever the balancer is.
    let denied = proxy.get("/api/denied").text();
    assert!(denied.contains("\"clients\":3"), "{denied}");
    let mut stranger = from_the_balancer(proxy.http(), &v1("192.0.2.9"));
    let answer = stranger.connect_target(TARGET);
    assert_eq!((answer.status, answer.proxy_status("details")), (403, Some("client")));
    assert!(answer.text().contains("192.0.2.9"), "{}", answer.text());
    // One who comes directly is served as ever.
    proxy.tunnel(TARGET);
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    for header in [v1("10.1.2.3"), v2("10.1.2.3")] {
        let mut plain = Raw::connect_from(BALANCER, proxy.http());
        plain.send_bytewise(&header);
        assert_eq!(plain.connect_target(TARGET).status, 200);
        let mut secure = Raw::connect_from(BALANCER, proxy.https());
        secure.send_bytewise(&header);
        let mut secure = over_tls(&secured, secure).unwrap();
        assert_eq!(secure.connect_target(TARGET).status, 200);
        secure.expect_echo(b"pieces");
        // All at once with what follows.
        let request = format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\nearly");
        let mut at_once = from_the_balancer(proxy.http(), &[&header[..], request.as_bytes()].concat());
        assert_eq!(at_once.read_head().status, 200);
        assert_eq!(at_once.read_exactly(5), b"early");
    }
}

#[test]
fn limits_count_the_agent_and_not_the_balancer() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "[limits]\nconnections_per_client = 2\n");
    let mut held = Vec::new();
    for agent in ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"] {
        let mut client = from_the_balancer(proxy.http(), &v2(agent));
        assert_eq!(client.connect_target(TARGET).status, 200, "{agent}");
        held.push(client);
    }
    let mut third = from_the_balancer(proxy.http(), &v1("10.0.0.1"));
    let answer = third.connect_target(TARGET);
    assert_eq!((answer.status, answer.proxy_status("details")), (503, Some("overload")));
    drop(held);
    eventually("the places of the agent", || {
        let mut again = from_the_balancer(proxy.http(), &v1("10.0.0.1"));
        (again.connect_target(TARGET).status == 200).then_some(())
    });
}

#[test]
fn a_balancers_own_check_may_ask_whether_the_proxy_is_ready_and_nothing_else() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    // The balancer's own address isn't among the clients.
    let proxy = start(&upstream, &secured, "");
    for header in [LOCAL, UNKNOWN, b"PROXY UNKNOWN fd00::1 fd00::2 1 2\r\n"] {
        let connect = || from_the_balancer(proxy.http(), header);
        let mut check = connect();
        let answer = get(&mut check, "/readyz");
        assert_eq!((answer.status, answer.text().trim()), (200, "ready"));
        // The connection stays open, and may ask again.
        check.send("HEAD /readyz?from=balancer HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(check.read_head().status, 200);
        let mut secure = over_tls(&secured, from_the_balancer(proxy.https(), header)).unwrap();
        assert_eq!(get(&mut secure, "/readyz").status, 200);
        for path in ["/proxy.pac", "/", "/readyz/", "http://a.example/readyz"] {
            let mut check = connect();
            let answer = get(&mut check, path);
            assert_eq!((answer.status, answer.proxy_status("details")), (403, Some("client")), "{path}");
        }
        let mut check = connect();
        let answer = check.connect_target(TARGET);
        let line = expect_refusal(&proxy, &mut check, &answer, (403, "http_request_denied", "client"));
        assert!(line["detail"].as_str().unwrap().contains("speaks for itself"), "{line}");
        assert!(answer.text().contains("/readyz"), "{}", answer.text());
        // A check that only opens the port.
        connect().finish();
    }
    assert_eq!(headers(&proxy, "refused"), 0.0);
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn a_balancer_that_names_nobody_is_refused() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    let mut too_long = [SIGNATURE, b"\x21\x11\xff\xff"].concat();
    too_long.resize(200, 0);
    let mut wrong_sum = [SIGNATURE, b"\x21\x11\0\x13"].concat();
    wrong_sum.extend_from_slice(b"\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x02\x03\0\x04\x01\x02\x03\x04");
    let cases: &[(&[u8], &str)] = &[
        (b"CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", "no PROXY protocol header"),
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "no PROXY protocol header"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "no PROXY protocol header"),
        (b"\x05\x01\0", "no PROXY protocol header"),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n", "a PROXY protocol line"),
        (&too_long, "more than 4096 bytes"),
        (&wrong_sum, "CRC32c is wrong"),
    ];
    for (bytes, words) in cases {
        let mut plain = from_the_balancer(proxy.http(), bytes);
        let answer = plain.read_answer();
        let line = expect_refusal(&proxy, &mut plain, &answer, (400, "http_request_error", "malformed"));
        assert!(line["detail"].as_str().unwrap().contains(words), "{line}");
        assert!(answer.text().contains("proxy.proxy_protocol") || answer.text().contains(words));
        let mut secure = from_the_balancer(proxy.https(), bytes);
        let address = secure.local().to_string();
        secure.expect_closed();
        proxy.log_line("the refusal on the TLS listener", |line| {
            line["event"] == "denied" && line["reason"] == "malformed" && line["client"] == address
        });
    }
    // The connection ends within the header.
    let mut cut = from_the_balancer(proxy.http(), &v2("10.0.0.1")[..20]);
    cut.finish();
    let answer = cut.read_answer();
    assert_eq!((answer.status, answer.proxy_status("details")), (400, Some("malformed")));
    // Two balancers in a row, each with a header of its own.
    let mut twice = from_the_balancer(proxy.http(), &[v2("10.0.0.1"), v1("10.0.0.2")].concat());
    let answer = twice.read_answer();
    assert_eq!((answer.status, answer.proxy_status("details")), (400, Some("malformed")));
    assert!(answer.text().contains("only the nearest may send one"), "{}", answer.text());
    let malformed = cases.len() as f64 * 2.0 + 2.0;
    assert_eq!(proxy.metric("ccpgate_denied_total{reason=\"malformed\"}"), malformed);
    assert_eq!(headers(&proxy, "refused"), malformed - 1.0);
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn nobody_else_may_name_a_client() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    let headers_of = [v1("10.0.0.1"), v2("10.0.0.1"), UNKNOWN.to_vec(), LOCAL.to_vec()];
    // Also from an address that may not use the proxy itself, as a balancer's own seldom may.
    for (from, header) in headers_of.iter().flat_map(|header| [1, 3].map(|last| (last, header))) {
        let from = IpAddr::from([127, 0, 0, from]);
        let mut plain = Raw::connect_from(from, proxy.http());
        plain.send(header);
        let answer = plain.read_answer();
        let line = expect_refusal(&proxy, &mut plain, &answer, (400, "http_request_error", "malformed"));
        assert!(line["detail"].as_str().unwrap().contains("isn't in proxy.proxy_protocol"), "{line}");
        let mut secure = Raw::connect_from(from, proxy.https());
        secure.send(header);
        // TLS's own word for it, an alert, may come first.
        let got = secure.read_to_end().unwrap();
        assert!(got.is_empty() || got[0] == 21, "{got:?}");
        let address = secure.local().to_string();
        proxy.log_line("the refusal on the TLS listener", |line| {
            line["event"] == "handshake_failed" && line["client"] == address
        });
    }
    assert_eq!((headers(&proxy, "client"), headers(&proxy, "check")), (0.0, 0.0));
}

#[test]
fn a_header_has_its_time() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "[limits]\nheader_timeout = \"300ms\"\n");
    for to in [proxy.http(), proxy.https()] {
        // Nothing was asked, so nothing is refused.
        Raw::connect_from(BALANCER, to).expect_closed();
    }
    assert_eq!(proxy.metric("ccpgate_denied_total{reason=\"header_timeout\"}"), 0.0);
    let mut plain = from_the_balancer(proxy.http(), &v1("10.0.0.1")[..15]);
    assert_eq!(plain.read_answer().status, 408);
    from_the_balancer(proxy.https(), &v2("10.0.0.1")[..15]).expect_closed();
    assert_eq!(proxy.metric("ccpgate_denied_total{reason=\"header_timeout\"}"), 2.0);
}

#[test]
fn a_flood_without_headers_is_counted_and_told_in_few_lines() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    for _ in 0..300 {
        let mut client = from_the_balancer(proxy.https(), b"\x16\x03\x01\x02\0\x01");
        client.finish();
        client.expect_closed();
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"malformed\"}", 300.0);
    let lines = proxy.log_so_far().iter().filter(|line| line["event"] == "denied").count();
    assert!((1..300).contains(&lines), "{lines}");
}

#[test]
fn a_reload_says_who_the_balancers_are() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let policy = |balancers: &str| {
        let proxy = format!(
            "[proxy]\nlisten = [\"127.0.0.1:0\"]\nclients = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\nproxy_protocol = {balancers}\n"
        );
        secured.policy(&upstream, "", &proxy)
    };
    let proxy = Proxy::start(&policy("[]"));
    let ask = |header: &[u8]| from_the_balancer(proxy.http(), header).connect_target(TARGET).status;
    assert_eq!((ask(b""), ask(&v1("10.0.0.1"))), (200, 400));
    proxy.reload(&policy("[\"127.0.0.2\"]"), "ok");
    assert_eq!((ask(b""), ask(&v1("10.0.0.1"))), (400, 200));
    proxy.reload(&policy("[\"127.0.0.3\", \"::ffff:127.0.0.4\"]"), "ok");
    assert_eq!((ask(b""), ask(&v1("10.0.0.1"))), (200, 400));
    let mut mapped = Raw::connect_from("127.0.0.4".parse().unwrap(), proxy.http());
    mapped.send(v1("10.0.0.1"));
    assert_eq!(mapped.connect_target(TARGET).status, 200);
}

#[test]
fn the_pac_file_behind_a_balancer_names_where_the_agent_came_in() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "");
    let mut client = from_the_balancer(proxy.http(), &v1("10.0.0.1"));
    client.send("GET /proxy.pac HTTP/1.0\r\n\r\n");
    let pac = client.read_answer().text();
    assert!(pac.contains(&format!("PROXY 192.0.2.1:{}", proxy.http().port())), "{pac}");
}

#[test]
fn networks_that_cover_the_agents_are_warned_of() {
    let check = |proxy: &str| ccpgate(Some(&format!("[proxy]\n{proxy}\n")), &["config", "check"]);
    let said = check("clients = [\"10.4.0.0/16\"]\nproxy_protocol = [\"10.0.0.0/8\"]").expect(0).stderr;
    assert!(said.contains("proxy.proxy_protocol") && said.contains("10.4.0.0/16"), "{said}");
    let said = check("clients = [\"10.0.0.0/8\"]\nproxy_protocol = [\"10.0.0.10\"]").expect(0).stderr;
    assert!(!said.contains("proxy_protocol"), "{said}");
    let said = check("proxy_protocol = [\"balancer.corp\"]").expect(2).stderr;
    assert!(said.contains("proxy.proxy_protocol[0]") && said.contains("10.0.0.0/8"), "{said}");
}

/// Nothing of it holds a connection that is quiet behind its header longer than any other.
#[test]
fn behind_its_header_a_connection_has_the_usual_time() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = start(&upstream, &secured, "[limits]\nheader_timeout = \"1s\"\n");
    let begun = std::time::Instant::now();
    let mut quiet = from_the_balancer(proxy.http(), &v1("10.0.0.1"));
    quiet.expect_closed();
    assert!((Duration::from_millis(900)..PATIENCE).contains(&begun.elapsed()));
}
