//! The listener itself: what isn't TLS, handshakes that never end, being the only one, the counts.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{CONNECT, OPEN, TARGET};
use crate::support::{Agent, Raw, Secured, Upstream, client_hello, expect_refusal, handshakes};

#[test]
fn the_pac_file_names_the_tls_listener_first() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let pair = format!("HTTPS 127.0.0.1:{}; PROXY 127.0.0.1:{}", proxy.https().port(), proxy.http().port());
    let get = |client: &mut Raw| {
        client.send("GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        client.read_answer()
    };
    for client in [&mut proxy.connect(), &mut secured.agent().connect(&proxy)] {
        let answer = get(client);
        assert_eq!(answer.field("content-type"), Some("application/x-ns-proxy-autoconfig"));
        assert!(answer.text().contains(&pair), "{pair} in:\n{}", answer.text());
        // The connection stays open.
        assert_eq!(get(client).status, 200);
    }
    assert!(proxy.get("/proxy.pac").text().contains(&pair));
}

#[test]
fn plain_http_on_the_tls_port_is_closed_and_the_log_says_what_it_was() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Raw::connect(proxy.https());
    client.send(CONNECT);
    // A TLS alert at most.
    let got = client.read_to_end().unwrap_or_default();
    assert!(got.is_empty() || got[0] == 21, "{got:?}");
    let line = proxy.log_line("the mistake", |line| line["event"] == "handshake_failed");
    assert_eq!(line["client"], client.local().to_string(), "{line}");
    assert!(line["error"].as_str().unwrap().starts_with("plain HTTP on the TLS listener"), "{line}");
    proxy.metric_eventually(OPEN, 0.0);
}

#[test]
fn tls_on_the_plain_port_is_told_in_plain() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = proxy.connect();
    client.send(client_hello("proxy.corp.example"));
    let answer = client.read_answer();
    assert_eq!(answer.status, 400, "{}", answer.head);
    assert!(answer.text().contains("PAC file says HTTPS"), "{}", answer.text());
}

#[test]
fn whoever_does_not_finish_the_handshake_is_dropped_in_time() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nheader_timeout = \"700ms\"");
    let begun = Instant::now();
    let silent = Raw::connect(proxy.https());
    let mut half = Raw::connect(proxy.https());
    half.send(&client_hello("proxy.corp.example")[..100]);
    // A whole first flight, and not a word after the server's.
    let mut mute = Raw::connect(proxy.https());
    mute.send(client_hello("proxy.corp.example"));
    let mut dripping = TcpStream::connect(proxy.https()).unwrap();
    let drip = std::thread::spawn(move || {
        for byte in client_hello("proxy.corp.example") {
            if dripping.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("a hello of a minute was waited for");
    });
    // After the handshake the request has as long again.
    let quiet = secured.agent().connect(&proxy);
    let quiet_h2 = secured.agent().alpn(&["h2"]).connect(&proxy);
    for mut client in [silent, half, mute, quiet, quiet_h2] {
        let _ = client.read_to_end();
    }
    drip.join().unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
    proxy.metric_eventually(OPEN, 0.0);
    assert_eq!(proxy.metrics().sum("ccpgate_denied_total"), 0.0, "no request, no denial");
}

#[test]
fn a_request_over_tls_that_drips_is_told_408() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nheader_timeout = \"500ms\"");
    let mut client = secured.agent().connect(&proxy);
    client.send("CONNECT go");
    let answer = client.read_answer();
    expect_refusal(&proxy, &mut client, &answer, (408, "http_request_error", "header_timeout"));
}

#[test]
fn a_client_without_a_common_protocol_gets_an_alert() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let error = secured.agent().alpn(&["h3"]).try_connect(proxy.https()).err().unwrap();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    // Without ALPN it is HTTP/1.1.
    let mut old = secured.agent().alpn(&[]).connect(&proxy);
    assert_eq!(old.connect_target(TARGET).status, 200);
    old.expect_echo(b"as before");
}

#[test]
fn a_listener_of_its_own_is_enough() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    // A reload takes the plain listener away, and the TLS listener stays.
    proxy.reload(&secured.policy(&upstream, "", "[proxy]\nlisten = []"), "ok");
    crate::support::eventually("the plain listener's end", || {
        TcpStream::connect(proxy.http()).err().map(|_| ())
    });
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.expect_echo(b"over TLS");
}

#[test]
fn handshakes_are_counted_by_kind() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    assert_eq!(handshakes(&proxy.metrics()), (0.0, 0.0), "there from the start");
    let agent: Agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    assert!(agent.resumes(&proxy));
    assert!(agent.resumes(&proxy));
    assert_eq!(handshakes(&proxy.metrics()), (1.0, 2.0));
    assert_eq!(proxy.metric("ccpgate_tls_resumed_age_seconds_count"), 2.0);
    proxy.metric_eventually("ccpgate_tls_sessions", 1.0);
}
