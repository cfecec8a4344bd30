//! The same policy, answers, log lines and metrics, whether a request comes plain, over TLS, or over
//! HTTP/2.

use std::time::Instant;

use http::Request;
use serde_json::Value;

use super::TARGET;
use crate::support::h2::connect_request;
use crate::support::{Answer, Blackhole, Dns, H2, PATIENCE, Proxy, Raw, Refusing, Reply, Secured, Upstream};

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
    // Its first stream was reset just now and counts until the proxy has heard of it.
    let until = Instant::now() + PATIENCE;
    let mut tunnel = loop {
        match held.connect_target(TARGET).await.unwrap() {
            (parts, tunnel) if parts.status == 200 => break tunnel,
            (parts, _) => assert!(parts.status == 503 && Instant::now() < until, "{parts:?}"),
        }
    };
    tunnel.expect_echo(b"streams are no connections").await;
}
