//! What becomes of a parent's answers: refusals, nonsense, lateness.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::{OK, TARGET, config, echo, expect_failure, parent_that_says, request, url};
use crate::support::{Blackhole, Proxy, Refusing, Upstream};

#[test]
fn a_parents_refusal_is_told_in_its_words() {
    let page = "<html><head><style>h1 { color: red }</style></head><body><h1>Access Denied</h1>by rule 7</body></html>";
    for (said, told) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 11\r\n\r\nno such app".to_owned(),
            "403 Forbidden: no such app",
        ),
        (
            format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            ),
            "403 Forbidden: Access Denied by rule 7",
        ),
        (
            "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntry \r\n5\r\nlater\r\n0\r\n\r\n"
                .to_owned(),
            "503 Busy: try later",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n".to_owned(), "502 Bad Gateway"),
        ("HTTP/1.0 404 \r\n\r\n".to_owned(), "404"),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n".to_owned(), "302 Found"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), "101 Switching Protocols"),
        (
            "HTTP/1.1 403 No\r\n\r\nlook:\r\n\x1b[2J\u{202e}x\"y\r\nSet-Cookie: z".to_owned(),
            "403 No: look: [2J\\u{202e}x\"y Set-Cookie: z",
        ),
    ] {
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let (answer, line) = expect_failure(&proxy, 502, "connection_refused");
        let expected = format!("the parent proxy {} answered {told}", url(&parent));
        assert!(answer.text().contains(&expected), "{expected}\n{}", answer.text());
        assert!(line["detail"].as_str().unwrap().starts_with(&expected), "{line}");
        assert_eq!(answer.proxy_status("received-status"), Some(&told[..3]), "{}", answer.head);
        assert_eq!(line["upstream"], parent.address().to_string(), "{line}");
        let series = "ccpgate_tunnels_total{domain=\"good.example\",category=\"extra\",outcome=\"connect\"}";
        proxy.metric_eventually(series, 1.0);
    }
    // However much it says.
    let long = format!("HTTP/1.1 403 {}\r\n\r\n{}", "a".repeat(5000), "b".repeat(100_000));
    let (parent, _) = parent_that_says(long);
    let proxy = Proxy::start(&config(&url(&parent), ""));
    expect_failure(&proxy, 502, "connection_refused");
}

#[test]
fn answers_that_are_none() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000)).into_bytes();
    let endless = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    for (said, error, told) in [
        (Vec::new(), "connection_terminated", "without an answer"),
        (b"HTTP/1.1 200 O".to_vec(), "connection_terminated", "within its answer"),
        (large, "http_response_header_section_size", "too large a header"),
        (many, "http_response_header_section_size", "too large a header"),
        (endless, "http_response_header_section_size", "too large a header"),
        (b"SSH-2.0-OpenSSH_9\r\n".to_vec(), "http_protocol_error", "SSH-2.0-OpenSSH_9"),
        (b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), "http_protocol_error", "https://"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec(), "http_protocol_error", "HTTP/1.1"),
        (b"HTTP/2 200\r\n\r\n".to_vec(), "http_protocol_error", "HTTP/2 200"),
    ] {
        let (parent, _) = parent_that_says(said);
        let proxy = Proxy::start(&config(&url(&parent), ""));
        let (answer, line) = expect_failure(&proxy, 502, error);
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert!(line["detail"].as_str().unwrap().contains(told), "{line}");
    }
}

#[test]
fn a_parent_that_is_slow_or_away() {
    // Never an answer; an answer in time; one that dribbles for ever.
    let mute = Upstream::serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = Proxy::start(&config(&url(&mute), "connect_timeout = \"1s\"\n"));
    let started = Instant::now();
    let (answer, _) = expect_failure(&proxy, 504, "connection_timeout");
    assert!(answer.text().contains("no whole answer within 1s"), "{}", answer.text());
    assert!(started.elapsed() >= Duration::from_secs(1));

    let dribbles = Upstream::serve(|mut stream| {
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    proxy.reload(&config(&url(&dribbles), "connect_timeout = \"1s\"\n"), "ok");
    assert!(matches!(proxy.connect().connect_target(TARGET).status, 502 | 504));

    let slow = Upstream::serve(|mut stream| {
        request(&mut stream);
        std::thread::sleep(Duration::from_millis(700));
        stream.write_all(OK).unwrap();
        echo(&mut stream);
    });
    proxy.reload(&config(&url(&slow), ""), "ok");
    proxy.tunnel(TARGET).expect_echo(b"in time");

    let (refusing, blackhole) = (Refusing::new(), Blackhole::new());
    for (address, status, error) in
        [(refusing.address(), 502, "connection_refused"), (blackhole.address(), 504, "connection_timeout")]
    {
        proxy.reload(&config(&format!("http://{address}"), "connect_timeout = \"1s\"\n"), "ok");
        let (answer, _) = expect_failure(&proxy, status, error);
        assert!(answer.text().contains("the parent proxy"), "{}", answer.text());
    }
}
