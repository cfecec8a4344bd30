//! The TLS listener over HTTP/1.1, and what it has in common with the others: the same policy,
//! answers, log lines and metrics, whether a CONNECT comes plain, over TLS, or over HTTP/2.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use http::Request;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::h2::connect_request;
use crate::support::{
    Agent, Answer, Blackhole, Dns, H2, PATIENCE, Proxy, Raw, Refusing, Reply, Secured, Upstream,
    assert_same_bytes, client_hello, expect_refusal, handshakes, payload,
};

const TARGET: &str = "good.example:443";
const CONNECT: &str = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n";
const OPEN: &str = "ccpgate_client_connections{listener=\"https\"}";

/// An answer as far as all three ways must agree on it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    proxy_status: Option<String>,
    content_type: Option<String>,
    /// Without the request's id.
    body: String,
}

fn without_id(body: &str) -> String {
    match body.split_once("(request ") {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => body.to_owned(),
    }
}

fn told(answer: &Answer) -> Told {
    Told {
        status: answer.status,
        proxy_status: answer.field("proxy-status").map(str::to_owned),
        content_type: answer.field("content-type").map(str::to_owned),
        body: without_id(&answer.text()),
    }
}

/// Sends one request over HTTP/1.1, and, but for a 200 to a CONNECT, reads it to its end.
fn ask_h1(mut client: Raw, request: &Request<()>) -> Told {
    let method = request.method();
    client.send(format!("{method} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request.uri()));
    told(&client.read_answer())
}

async fn ask_h2(client: &mut H2, request: Request<()>) -> Told {
    let end = request.method() != "CONNECT";
    let (parts, mut stream) = client.ask(request, end).await.unwrap();
    let field = |name| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let body = stream.read_to_end().await.unwrap();
    assert_eq!(field("content-length"), Some(body.len().to_string()), "{parts:?}");
    assert_eq!(field("connection"), None, "RFC 9113 §8.2.2: {parts:?}");
    Told {
        status: parts.status.as_u16(),
        proxy_status: field("proxy-status"),
        content_type: field("content-type"),
        body: without_id(&String::from_utf8(body).unwrap()),
    }
}

/// What must agree in the log.
fn essence(line: &Value) -> Value {
    let mut line = line.clone();
    let object = line.as_object_mut().unwrap();
    for varying in ["time", "id", "client", "duration_ms", "dns_ms", "connect_ms"] {
        assert!(object.remove(varying).is_some(), "no {varying} in {object:?}");
    }
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_refusal_is_the_same_on_all_ways_in() {
    let (upstream, dns, refusing, blackhole) =
        (Upstream::echo(), Dns::start(), Refusing::new(), Blackhole::new());
    dns.set("mute.good.example", Reply::Mute);
    dns.addresses("inside.good.example", &["10.0.0.7"]);
    let secured = Secured::new();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"*.good.example\"\n\
         [policy]\ndeny = [\"bad.good.example\"]\n[dns]\nservers = [\"{}\"]\ntimeout = \"300ms\"\n\
         [egress]\nconnect_timeout = \"300ms\"\n{}\n\
         \"refusing.good.example:443\" = \"{}\"\n\"silent.good.example:443\" = \"{}\"\n{}",
        dns.address(),
        upstream.for_targets(&[TARGET]),
        refusing.address(),
        blackhole.address(),
        secured.section(""),
    ));
    let agent = secured.agent();
    let mut multiplexed = H2::connect(&proxy, &agent).await;
    let denied = |reason: &str| format!("ccpgate_denied_total{{reason=\"{reason}\"}}");
    let failed = |outcome: &str| {
        format!("ccpgate_tunnels_total{{domain=\"*.good.example\",category=\"extra\",outcome=\"{outcome}\"}}")
    };
    for (target, status, error, reason, series) in [
        ("evil.example:443", 403, "http_request_denied", "no_rule", denied("no_rule")),
        ("good.example:22", 403, "http_request_denied", "port", denied("port")),
        ("bad.good.example:443", 403, "http_request_denied", "deny_rule", denied("deny_rule")),
        ("192.0.2.1:443", 403, "http_request_denied", "ip_literal", denied("ip_literal")),
        (
            "inside.good.example:443",
            403,
            "destination_ip_prohibited",
            "private_address",
            denied("private_address"),
        ),
        ("good.example", 400, "http_request_error", "malformed", denied("malformed")),
        ("good.example:0", 400, "http_request_error", "malformed", denied("malformed")),
        ("user@good.example:443", 400, "http_request_error", "malformed", denied("malformed")),
        ("missing.good.example:443", 502, "dns_error", "dns", failed("dns")),
        ("mute.good.example:443", 504, "dns_timeout", "dns", failed("dns")),
        ("refusing.good.example:443", 502, "connection_refused", "connect", failed("connect")),
        ("silent.good.example:443", 504, "connection_timeout", "connect", failed("connect")),
    ] {
        let before = proxy.metric(&series);
        let request = connect_request(target);
        let plain = ask_h1(proxy.connect(), &request);
        let secure = ask_h1(agent.connect(&proxy), &request);
        let second = ask_h2(&mut multiplexed, request).await;
        assert_eq!(plain.status, status, "{target}: {plain:?}");
        let field = plain.proxy_status.clone().unwrap_or_default();
        assert!(field.starts_with(&format!("ccpgate; error={error}; details=\"{reason}\"")), "{field}");
        assert_eq!(secure, plain, "{target} over TLS");
        assert_eq!(second, plain, "{target} over HTTP/2");
        proxy.metric_eventually(&series, before + 3.0);
        let lines = crate::support::eventually("three lines", || {
            let lines = proxy.log_so_far();
            // User information is never shown.
            let shown = target.trim_start_matches("user@");
            let lines: Vec<_> = lines.iter().filter(|l| l["target"] == shown).map(essence).collect();
            (lines.len() == 3).then_some(lines)
        });
        assert_eq!(lines[1], lines[0], "{target} over TLS");
        assert_eq!(lines[2], lines[0], "{target} over HTTP/2");
    }
    // After all that, the one connection of the third way still serves.
    multiplexed.tunnel(TARGET).await.expect_echo(b"still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_a_connect_is_answered_the_same() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    let mut multiplexed = H2::connect(&proxy, &agent).await;
    for (method, uri, status) in [
        ("GET", "http://good.example/", 403),
        ("POST", "http://good.example/", 403),
        ("GET", "/nothing", 404),
        ("POST", "/proxy.pac", 405),
    ] {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let plain = ask_h1(proxy.connect(), &request);
        let secure = ask_h1(agent.connect(&proxy), &request);
        // HTTP/2 says whose path it is: this server's, or that of another.
        let uri = if uri.starts_with('/') { format!("https://{}{uri}", proxy.https()) } else { uri.into() };
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let second = ask_h2(&mut multiplexed, request).await;
        assert_eq!(plain.status, status, "{plain:?}");
        assert_eq!(secure, plain, "{method} over TLS");
        assert_eq!(second, plain, "{method} over HTTP/2");
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"method\"}", 6.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_and_limits_count_on_the_tls_listener_too() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let elsewhere = secured.start(&upstream, "", "[proxy]\nclients = [\"192.0.2.0/24\"]");
    // One that could speak HTTP/1.1 would have to.
    let builder = h2::client::Builder::new();
    let agent = secured.agent();
    let mut stranger = H2::connect_offering(elsewhere.https(), &agent, &builder, &["h2"]).await;
    let second = ask_h2(&mut stranger, connect_request(TARGET)).await;
    let first = ask_h1(secured.agent().connect(&elsewhere), &connect_request(TARGET));
    assert_eq!(first.proxy_status.as_deref(), Some("ccpgate; error=http_request_denied; details=\"client\""));
    // The body names the port that the client came from.
    assert_eq!((second.status, second.proxy_status), (first.status, first.proxy_status));

    let full = secured.start(&upstream, "", "[limits]\nconnections_per_client = 1");
    let mut held = H2::connect(&full, &secured.agent()).await;
    held.tunnel(TARGET).await.expect_echo(b"within").await;
    let over = ask_h1(secured.agent().connect(&full), &connect_request(TARGET));
    assert_eq!(
        over.proxy_status.as_deref(),
        Some("ccpgate; error=connection_limit_reached; details=\"overload\"")
    );
    let mut told = H2::connect(&full, &secured.agent()).await;
    assert_eq!(ask_h2(&mut told, connect_request(TARGET)).await.proxy_status, over.proxy_status);
    held.tunnel(TARGET).await.expect_echo(b"streams are no connections").await;
}

#[test]
fn a_tunnel_over_tls_is_counted_and_logged_as_any_other() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.expect_echo(&[7; 1000]);
    client.expect_echo(&[8; 234]);
    let series = |name: &str, label: &str| {
        format!("ccpgate_{name}{{domain=\"good.example\",category=\"extra\"{label}}}")
    };
    proxy.metric_eventually(&series("tunnels_active", ""), 1.0);
    proxy.metric_eventually(&series("tunnel_bytes_total", ",direction=\"sent\""), 1234.0);
    proxy.metric_eventually(&series("tunnel_bytes_total", ",direction=\"received\""), 1234.0);
    assert_eq!(proxy.metric(OPEN), 1.0);
    assert_eq!(proxy.metric("ccpgate_client_connections{listener=\"http\"}"), 0.0);
    client.finish();
    client.expect_closed();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    assert_eq!((&line["sent"], &line["received"]), (&1234.into(), &1234.into()), "{line}");
    assert_eq!(line["client"], client.local().to_string(), "{line}");
    assert_eq!(line["client_cert"], Value::Null, "{line}");
    proxy.metric_eventually(OPEN, 0.0);
    proxy.metric_eventually(&series("tunnels_total", ",outcome=\"ok\""), 1.0);
}

#[test]
fn bulk_goes_through_tls_both_ways_at_once() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    // Pieces that fit the sockets' buffers, since this client does one thing at a time.
    for chunk in payload().chunks(100_000) {
        client.expect_echo(chunk);
    }
    client.finish();
    client.expect_closed();
}

#[test]
fn each_side_may_close_its_direction_first() {
    let secured = Secured::new();
    let listener = Upstream::answers_last(payload());
    let proxy = secured.start(&listener, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.send("question");
    client.finish();
    assert_same_bytes(&client.read_to_end().unwrap(), &payload());
    assert_eq!(listener.received(), b"question");

    let speaker = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = secured.start(&speaker, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    assert_eq!(client.read_to_end().unwrap(), b"farewell");
    client.send(payload());
    client.finish();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"upstream".into()), "{line}");
    assert_same_bytes(&speaker.received(), &payload());
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() {
    let secured = Secured::new();
    let upstream = Upstream::resetter();
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.send("x");
    client.expect_reset();
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "upstream_reset");

    let (say, hear) = std::sync::mpsc::channel();
    let upstream = Upstream::serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        say.send(stream.read(&mut [0; 1]).map_err(|error| error.kind())).unwrap();
    });
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.read_exactly(5);
    client.reset();
    let ended = hear.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "a FIN would look like a clean end");
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "client_reset");
}

#[test]
fn the_hello_inside_the_tunnel_is_judged_as_ever() {
    let (upstream, secured) = (Upstream::recorder(), Secured::new());
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"sni\"");
    let hello = client_hello("good.example");
    let mut honest = secured.agent().connect(&proxy);
    assert_eq!(honest.connect_target(TARGET).status, 200);
    honest.send(&hello);
    crate::support::eventually("the hello", || (upstream.received() == hello).then_some(()));
    let mut fronting = secured.agent().connect(&proxy);
    assert_eq!(fronting.connect_target(TARGET).status, 200);
    fronting.send(client_hello("other.example"));
    fronting.expect_gone();
    let line = proxy.log_line("the mismatch", |line| line["outcome"] == "sni_mismatch");
    assert_eq!(line["target"], TARGET, "{line}");
    assert_eq!(upstream.received(), hello, "nothing of the other hello arrived");
}

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
fn live_tunnels_over_tls_run_on_at_a_drain() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mut proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    let mut kept = secured.agent().connect(&proxy);
    kept.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200);
    proxy.signal(Signal::TERM);
    kept.expect_closed();
    client.expect_echo(b"still talking");
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
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
