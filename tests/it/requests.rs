//! What attackers and odd clients send, a numbered table row each: request line, header section,
//! and what follows it; the targets that they ask for are in `targets`. The right outcome is a
//! tunnel, a refusal with these statuses and reasons, or a closed connection; whatever else, nothing
//! but a tunnel may reach the upstream.

use std::time::Duration;

use crate::support::Right::{NoTunnel, Refused, Tunnel, TunnelOrRefused};
use crate::support::{
    Dns, LITERAL, MALFORMED, Proxy, Raw, Reply, Secured, Table, Upstream, client_hello, eventually,
};

#[test]
fn request_lines() {
    let mut table = Table::new();
    for target in ["http://good.example/", "https://good.example:443/", "//good.example", "/", "*"] {
        table.target(23, target, &MALFORMED);
    }
    for target in ["good.example:443/", "good.example:443?x", "good.example:443#x"] {
        table.target(24, target, &MALFORMED);
    }
    let denied = Refused(&[400, 403, 405], &["malformed", "method"]);
    for method in ["connect", "Connect", "CONNECTX"] {
        table.request(25, format!("{method} good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"), &denied);
    }
    for (method, target) in [
        ("GET", "http://good.example/"),
        ("POST", "http://good.example/"),
        ("TRACE", "http://good.example/"),
        ("GET", "https://good.example/"),
        ("GET", "ftp://good.example/"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: good.example\r\n\r\n");
        table.request(26, request, &Refused(&[403], &["method"]));
    }
    table.request(
        26,
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        &Refused(&[400, 403, 404, 405], &["malformed", "method"]),
    );
    table.request(26, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &denied);
    let own = table.proxy.http();
    table.request(27, format!("GET http://{own}/metrics HTTP/1.1\r\nHost: {own}\r\n\r\n"), &denied);
    let admin = table.proxy.admin();
    table.target(27, admin.to_string(), &LITERAL);
    table.request(28, "CONNECT good.example:443 HTTP/1.0\r\n\r\n", &Tunnel);
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/11.1", "HTTP/0.9", "http/1.1", "HTTP/1"] {
        let request = format!("CONNECT good.example:443 {version}\r\nHost: x\r\n\r\n");
        table.request(29, request, &MALFORMED);
    }
    table.request(29, "CONNECT good.example:443\r\n\r\n", &MALFORMED);
    for line in [
        "CONNECT  good.example:443 HTTP/1.1",
        "CONNECT good.example:443  HTTP/1.1",
        "CONNECT\tgood.example:443 HTTP/1.1",
        "CONNECT good.example:443\tHTTP/1.1",
        "CONNECT good.example:443 HTTP/1.1 ",
        "CONNECT good.example:443 HTTP/1.1\rX: y",
        " CONNECT good.example:443 HTTP/1.1",
    ] {
        table.request(30, format!("{line}\r\nHost: x\r\n\r\n"), &MALFORMED);
    }
    let ordinary = "CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    table.request(31, format!("\r\n\r\n{ordinary}"), &Tunnel);
    table.request(
        31,
        format!("{}{ordinary}", "\r\n".repeat(10_000)),
        &Refused(&[400, 408, 431], &["malformed", "header_timeout", "header_size"]),
    );
    table.finish();
}

#[test]
fn header_sections() {
    let mut table = Table::new();
    let with = |fields: &str| format!("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
    for field in [
        "A: b\r\n c",
        "Name : v",
        ": v",
        "A: b\0c",
        "A: b\rc",
        "no colon here",
        "A\u{e9}: b",
        "A(b): c",
        "\tA: b",
        "A: b\r\n\tc",
        "A b: c",
    ] {
        table.request(33, with(field), &MALFORMED);
    }
    let host = |lines: &str| format!("CONNECT good.example:443 HTTP/1.1\r\n{lines}\r\n");
    let either = TunnelOrRefused(&[400], &["malformed"]);
    for lines in ["", "Host: evil.example\r\n", "Host: a\r\nHost: b\r\n"] {
        table.request(34, host(lines), &either);
    }
    table.request(
        34,
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n",
        &Refused(&[400, 403], &["malformed", "no_rule"]),
    );
    let large = Refused(&[414, 431], &["header_size"]);
    table.request(35, with(&format!("A: {}", "x".repeat(17 * 1024))), &large);
    table.request(35, with("A: b\r\n".repeat(300).trim_end()), &large);
    table.request(35, with(&format!("A: {}", "x".repeat(1 << 20))), &large);
    table.request(35, format!("CONNECT {}", "x".repeat(40_000)), &large);
    table.request(36, with(&format!("Proxy-Authorization: Negotiate {}", "TOKEN".repeat(2400))), &Tunnel);
    for fields in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 5 5",
        "Content-Length:  5 ",
        "Content-Length: 18446744073709551617",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "transfer-encoding: x, chunked",
    ] {
        table.request(40, format!("{}hello", with(fields)), &MALFORMED);
    }
    table.request(39, with("Content-Length: 0"), &Tunnel);
    table.request(41, with("Expect: 100-continue"), &TunnelOrRefused(&[417], &["malformed"]));
    table.request(
        48,
        with("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade"),
        &either,
    );
    // Secrets of a client are nobody's to log.
    let logged = table.proxy.log_so_far().iter().any(|line| line.to_string().contains("TOKENTOKEN"));
    assert!(!logged, "Proxy-Authorization in the log");
    table.finish();
}

#[test]
fn strangers_on_the_port() {
    let mut table = Table::new();
    table.request(48, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &NoTunnel);
    table.request(49, client_hello("good.example"), &NoTunnel);
    table.request(49, b"\x05\x01\x00", &NoTunnel);
    table.request(49, b"\x04\x01\x01\xbb\x7f\x00\x00\x01\x00", &NoTunnel);
    table.request(49, "SSH-2.0-OpenSSH_9.7\r\n", &NoTunnel);
    table.request(
        49,
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\nCONNECT good.example:443 HTTP/1.1\r\n\r\n",
        &NoTunnel,
    );
    table.request(
        47,
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nCONNECT good.example:443 HTTP/1.1\r\nHost: good\r\n\r\n",
        &NoTunnel,
    );
    table.request(
        47,
        "GET http://a/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nCONNECT good.example:443 HTTP/1.1\r\n\r\n",
        &NoTunnel,
    );
    table.finish();
}

#[test]
fn line_feeds_alone_are_malformed_everywhere() {
    // Strict, and the same for every request and every line.
    let mut table = Table::new();
    table.request(32, "CONNECT good.example:443 HTTP/1.1\nHost: x\n\n", &MALFORMED);
    table.request(32, "GET /proxy.pac HTTP/1.1\nHost: x\nConnection: close\n\n", &MALFORMED);
    table.request(32, "CONNECT good.example:443 HTTP/1.1\nHost: x\r\n\r\n", &MALFORMED);
    table.request(32, "CONNECT good.example:443 HTTP/1.1\r\nHost: x\n\r\n", &MALFORMED);
    table.request(32, "CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\n", &MALFORMED);
    table.request(32, "\nCONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", &MALFORMED);
    table.finish();
}

#[test]
fn a_head_cut_anywhere_gets_the_same_answer() {
    let table = Table::new();
    for (head, status) in [
        ("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        ("CONNECT good.example:443 HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
    ] {
        let mut clients: Vec<(usize, Raw)> =
            (1..head.len()).map(|cut| (cut, table.proxy.connect())).collect();
        for (cut, client) in &mut clients {
            client.send(&head[..*cut]);
        }
        for (cut, client) in &mut clients {
            client.send(&head[*cut..]);
            // What follows is the tunnel's, or nobody's.
            client.send("CONNECT evil.example:443 HTTP/1.1\r\n\r\n\0 garbage");
        }
        for (cut, client) in &mut clients {
            let answer = client.read_answer_to_connect();
            assert_eq!(answer.status, status, "cut at {cut}: {}", answer.head);
            if status == 200 {
                let echoed = client.read_exactly(46);
                assert!(echoed.starts_with(b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n\0"), "cut at {cut}");
            }
        }
    }
    table.finish();
}

#[test]
fn a_head_in_segments_of_one_byte_is_served() {
    let table = Table::new();
    let mut client = table.proxy.connect();
    client.send_bytewise("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n");
    assert_eq!(client.read_answer_to_connect().status, 200);
    client.expect_echo(b"to and fro");
    table.finish();
}

#[test]
fn a_client_that_finishes_right_behind_its_head_gets_an_answer_or_a_close() {
    let table = Table::new();
    let mut client = table.proxy.connect();
    client.send("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\nlast words");
    client.finish();
    let got = client.read_to_end().unwrap();
    let text = String::from_utf8_lossy(&got);
    let whole = text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nlast words");
    assert!(whole || got.is_empty(), "a whole tunnel or none: {text}");
    table.finish();
}

/// The look-up takes a while: the end of the client's direction is no sign that it has left.
#[test]
fn a_client_that_finishes_right_behind_its_head_is_dialled_for_all_the_same() {
    let (dns, upstream, secured) = (Dns::start(), Upstream::echo(), Secured::new());
    let port = upstream.address().port();
    dns.set_otherwise(Reply::Late(Duration::from_millis(300), Box::new(Reply::addresses(&["127.0.0.1"]))));
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.example\"\nports = [{port}]\n{}{}[egress]\nallow_private = [\"127.0.0.1/32\"]",
        dns.as_config(),
        secured.section("")
    ));
    for (host, mut client) in [("plain", proxy.connect()), ("tls", secured.agent().connect(&proxy))] {
        client.send(format!("CONNECT {host}.example:{port} HTTP/1.1\r\nHost: x\r\n\r\nlast words"));
        client.finish();
        let got = client.read_to_end().unwrap();
        let text = String::from_utf8_lossy(&got);
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nlast words"), "{host}: {text}");
        let line = proxy.access_line("tunnel", &format!("{host}.example:{port}"));
        assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    }
}

#[test]
fn every_malformed_request_is_counted_once_and_logged_with_escapes() {
    let table = Table::new();
    let before = table.proxy.metric("ccpgate_denied_total{reason=\"malformed\"}");
    table.proxy.ask("CONNECT good\x1b[31m\".example:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    table.proxy.metric_eventually("ccpgate_denied_total{reason=\"malformed\"}", before + 1.0);
    let line = table.proxy.log_line("the malformed target", |line| line["reason"] == "malformed");
    let target = line["target"].as_str().unwrap_or_default();
    assert!(!target.contains('\x1b'), "escape sequences reach the administrator's terminal: {line}");
    table.finish();
}

#[test]
fn a_connection_that_never_began_a_request_is_not_answered_and_not_counted() {
    let table = Table::new();
    let before = table.proxy.metrics();
    drop(table.proxy.connect());
    table.proxy.connect().reset();
    let mut silent = table.proxy.connect();
    silent.expect_closed();
    let mut finished = table.proxy.connect();
    finished.finish();
    finished.expect_closed();
    eventually("all connections to end", || {
        (table.proxy.metric("ccpgate_client_connections{listener=\"http\"}") == 0.0).then_some(())
    });
    let after = table.proxy.metrics();
    for name in ["ccpgate_denied_total", "ccpgate_tunnels_total"] {
        assert_eq!(after.sum(name), before.sum(name), "{name}");
    }
    table.finish();
}

#[test]
fn many_requests_on_one_connection_until_a_tunnel() {
    let table = Table::new();
    let mut client: Raw = table.proxy.connect();
    for _ in 0..3 {
        client.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_answer().status, 200);
    }
    assert_eq!(client.connect_target("good.example:443").status, 200);
    client.expect_echo(b"a tunnel after requests");
    table.finish();
}
