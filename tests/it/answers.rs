//! The contract's table of answers: for each row the status, `Proxy-Status`, body, end of the
//! connection, metric and log line. What odd requests get is in `requests`; DNS and dialling in
//! `dialling`.

use std::process::Command;

use serde_json::Value;

use crate::support::{Answer, H2, Proxy, Raw, Secured, Upstream, expect_refusal, have};

/// One policy for the whole table.
const POLICY: &str = r#"
[[allow]]
pattern = "good.example"
[[allow]]
pattern = "*.good.example"
ports = [443, 8443]
[policy]
tls = "off"
deny = ["bad.good.example"]
[dns]
hosts = { "inside.good.example" = ["10.0.0.7", "169.254.169.254"] }
"#;

/// Sends a request that must be denied and checks answer, metric and log line.
#[track_caller]
fn expect_denied(proxy: &Proxy, request: impl AsRef<[u8]>, expected: (u16, &str, &str)) -> (Answer, Value) {
    let series = format!("ccpgate_denied_total{{reason=\"{}\"}}", expected.2);
    let before = proxy.metric(&series);
    let mut client = proxy.connect();
    client.send(request);
    let answer = client.read_answer();
    let line = expect_refusal(proxy, &mut client, &answer, expected);
    assert_eq!(line["event"], "denied", "{line}");
    assert_eq!(line["reason"], expected.2, "{line}");
    proxy.metric_eventually(&series, before + 1.0);
    (answer, line)
}

fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: test\r\n\r\n")
}

#[test]
fn what_the_policy_denies_is_answered_403_with_its_reason() {
    let proxy = Proxy::start(POLICY);
    for (target, reason) in [
        ("evil.example:443", "no_rule"),
        ("evil-good.example:443", "no_rule"),
        ("good.example.evil.example:443", "no_rule"),
        ("good.example:444", "port"),
        ("www.good.example:80", "port"),
        ("bad.good.example:443", "deny_rule"),
        ("192.0.2.1:443", "ip_literal"),
        ("[2001:db8::1]:443", "ip_literal"),
        // What inet_aton would take for an address is no host name either.
        ("127.0.0.1:443", "ip_literal"),
    ] {
        let (answer, line) = expect_denied(&proxy, connect(target), (403, "http_request_denied", reason));
        let body = answer.text();
        assert!(body.contains(target), "the target {target} in: {body}");
        assert_eq!(line["target"], target, "{line}");
    }
    // The rule that nearly matched is named.
    let (answer, _) =
        expect_denied(&proxy, connect("good.example:444"), (403, "http_request_denied", "port"));
    assert!(answer.text().contains("good.example"), "{}", answer.text());
    let (answer, _) =
        expect_denied(&proxy, connect("bad.good.example:443"), (403, "http_request_denied", "deny_rule"));
    assert!(
        answer.text().contains("ccpgate explain bad.good.example"),
        "a command to run: {}",
        answer.text()
    );
}

#[test]
fn every_key_is_in_every_line_of_a_denial() {
    let proxy = Proxy::start(POLICY);
    proxy.ask(connect("evil.example:443"));
    let line = proxy.access_line("denied", "evil.example:443");
    let line = line.as_object().unwrap();
    for key in [
        "time",
        "event",
        "id",
        "client",
        "target",
        "domain",
        "category",
        "upstream",
        "reason",
        "sent",
        "received",
        "duration_ms",
        "dns_ms",
        "connect_ms",
        "ended_by",
        "stage",
        "would_deny",
        "client_cert",
    ] {
        assert!(line.contains_key(key), "no {key} in {line:?}");
    }
    assert_eq!(line["domain"], Value::Null, "a name from the wire is no rule");
}

#[test]
fn absolute_form_requests_are_denied_as_method() {
    let proxy = Proxy::start(POLICY);
    for method in ["GET", "POST", "OPTIONS", "PUT"] {
        let request = format!("{method} http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n");
        expect_denied(&proxy, request, (403, "http_request_denied", "method"));
    }
}

/// What a client library does that takes an HTTPS proxy for a plain one, or a URL for a target.
#[test]
fn https_without_connect_is_told_from_plain_http() {
    let proxy = Proxy::start(POLICY);
    let (https, http) = ("asks for https:// without CONNECT", "plain http:// is not for this proxy");
    for (line, remedy, other) in [
        ("GET https://good.example/x", https, http),
        ("POST HTTPS://good.example:443/", https, http),
        ("GET wss://good.example/socket", https, http),
        ("GET http://good.example/x", http, https),
        ("GET ws://good.example/socket", http, https),
        ("GET ftp://good.example/", http, https),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: good.example\r\n\r\n");
        let (answer, _) = expect_denied(&proxy, request, (403, "http_request_denied", "method"));
        let body = answer.text();
        assert!(body.contains(remedy) && !body.contains(other), "{line}: {body}");
    }
    for target in ["https://good.example:443", "https://good.example/", "wss://good.example:443/x"] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: good.example\r\n\r\n");
        let (answer, line) = expect_denied(&proxy, request, (400, "http_request_error", "malformed"));
        let told = answer.text();
        assert!(told.contains("a scheme before the host") && !told.contains("bracket"), "{target}: {told}");
        assert!(line["detail"].as_str().unwrap().contains("a scheme before the host"), "{line}");
    }
}

/// RFC 9112 section 3.2: each form of a target has its methods, and each mistake its own words.
#[test]
fn a_target_in_another_form_is_told_as_what_it_is() {
    let secured = Secured::new();
    let proxy = Proxy::start(&format!("{POLICY}{}", secured.section("")));
    // It asks what there is, is told, and may go on.
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = client.read_answer();
        assert_eq!(answer.status, 405, "{}", answer.head);
        assert_eq!(answer.field("allow"), Some("CONNECT, GET, HEAD"), "{}", answer.head);
        assert!(answer.text().contains("OPTIONS") && !answer.text().contains("URL"), "{}", answer.text());
    }
    assert_eq!(proxy.metric("ccpgate_denied_total{reason=\"method\"}"), 0.0, "no denial");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut agent = H2::connect(&proxy, &secured.agent()).await;
        let request = http::Request::builder().method("OPTIONS").uri("*").body(()).unwrap();
        let (parts, _) = agent.ask(request, true).await.unwrap();
        assert_eq!(
            (parts.status.as_u16(), parts.headers["allow"].to_str().unwrap()),
            (405, "CONNECT, GET, HEAD")
        );
    });
    let forbidden = (403, "http_request_denied", "method");
    for (line, why) in [
        ("GET *", "GET of *, which only OPTIONS may ask for"),
        ("TRACE *", "TRACE of *, which only OPTIONS may ask for"),
        ("GET good.example:443", "GET of host:port, which only CONNECT may ask for"),
        ("OPTIONS 192.0.2.1:80", "OPTIONS of host:port, which only CONNECT may ask for"),
        ("connect good.example:443", "connect is not CONNECT"),
        ("GET http://good.example/", "GET of an absolute URL"),
        ("GET urn:example", "GET of an absolute URL"),
        ("GET agent:secret@x:1", "GET of an absolute URL"),
    ] {
        let (answer, _) = expect_denied(&proxy, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"), forbidden);
        let answer = answer.text();
        assert!(answer.contains(why) && !answer.contains("secret"), "{line}: {answer}");
    }
    for line in ["GET good.example/path", "GET good.example", "OPTIONS **", "GET ?x"] {
        let malformed = (400, "http_request_error", "malformed");
        let (answer, _) = expect_denied(&proxy, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"), malformed);
        let answer = answer.text();
        assert!(answer.contains("neither a path, nor a URL"), "{answer}");
    }
}

#[test]
fn malformed_requests_are_answered_400() {
    let proxy = Proxy::start(POLICY);
    for request in [
        "CONNECT good.example HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\n\r\nhello",
        "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\nBad Name: x\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        expect_denied(&proxy, request, (400, "http_request_error", "malformed"));
    }
}

#[test]
fn a_large_header_is_answered_431() {
    let proxy = Proxy::start(&format!("{POLICY}\n[limits]\nrequest_header = \"4KiB\""));
    let padding = "x".repeat(5000);
    let request = format!("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\nX: {padding}\r\n\r\n");
    expect_denied(&proxy, request, (431, "http_request_error", "header_size"));
}

#[test]
fn a_slow_header_is_answered_408() {
    let proxy = Proxy::start(&format!("{POLICY}\n[limits]\nheader_timeout = \"500ms\""));
    expect_denied(
        &proxy,
        "CONNECT good.example:443 HTTP/1.1\r\nHo",
        (408, "http_request_error", "header_timeout"),
    );
}

#[test]
fn a_client_that_may_not_use_the_proxy_is_answered_403_whatever_it_asks() {
    let proxy = Proxy::start(&format!(
        "{POLICY}\n[limits]\nheader_timeout = \"500ms\"\n[proxy]\nclients = [\"127.0.0.2/32\"]"
    ));
    for request in [
        connect("good.example:443"),
        // Never whole.
        "CONNECT good.example:443 HTTP/1.1\r\nHo".into(),
        connect("evil.example:443"),
        "GET /proxy.pac HTTP/1.1\r\nHost: p\r\n\r\n".into(),
    ] {
        expect_denied(&proxy, request, (403, "http_request_denied", "client"));
    }
    let mut other = Raw::connect_from([127, 0, 0, 2].into(), proxy.http());
    let answer = other.connect_target("evil.example:443");
    assert_eq!(answer.proxy_status("details"), Some("no_rule"), "the allowed client: {}", answer.head);
}

#[test]
fn private_addresses_are_never_dialled() {
    let proxy = Proxy::start(POLICY);
    let (answer, line) = expect_denied(
        &proxy,
        connect("inside.good.example:443"),
        (403, "destination_ip_prohibited", "private_address"),
    );
    assert!(answer.text().contains("allow_private"), "what to do: {}", answer.text());
    assert_eq!(line["upstream"], Value::Null, "{line}");
}

#[test]
fn a_refusal_carries_the_name_of_this_deployment() {
    for (name, shown) in [("edge-1", "edge-1;"), ("Proxy 1", "\"Proxy 1\";")] {
        let proxy = Proxy::start(&format!("{POLICY}\n[proxy]\nname = \"{name}\""));
        let answer = proxy.ask(connect("evil.example:443"));
        let field = answer.field("proxy-status").unwrap();
        assert!(field.starts_with(shown), "a token or a quoted string: {field}");
    }
}

#[test]
fn an_allowed_target_is_answered_200_without_a_body() {
    let upstream = Upstream::echo();
    let targets = ["good.example:443", "www.good.example:8443"];
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&targets)));
    for target in targets {
        let mut client = proxy.connect();
        let answer = client.connect_target(target);
        assert_eq!(answer.status, 200, "{}", answer.head);
        for field in ["content-length", "transfer-encoding", "proxy-status"] {
            assert_eq!(answer.field(field), None, "RFC 9110 §9.3.6: {}", answer.head);
        }
        client.expect_echo(b"hello");
    }
}

#[test]
fn report_mode_lets_through_and_counts_what_would_be_denied() {
    let upstream = Upstream::echo();
    let policy = POLICY.replace("[policy]", "[policy]\nmode = \"report\"");
    let targets = ["evil.example:443", "good.example:444", "bad.good.example:443", "192.0.2.1:443"];
    let proxy = Proxy::start(&format!("{policy}{}", upstream.for_targets(&targets)));
    for (target, reason) in targets.into_iter().zip(["no_rule", "port", "deny_rule", "ip_literal"]) {
        let mut client = proxy.tunnel(target);
        client.expect_echo(b"hello");
        client.finish();
        client.expect_closed();
        let line = proxy.access_line("tunnel", target);
        assert_eq!(line["would_deny"], reason, "{line}");
        assert_eq!((&line["domain"], &line["category"]), (&"none".into(), &"none".into()), "{line}");
        proxy.metric_eventually(&format!("ccpgate_reported_total{{reason=\"{reason}\"}}"), 1.0);
        assert_eq!(proxy.metric(&format!("ccpgate_denied_total{{reason=\"{reason}\"}}")), 0.0);
    }
    // All else is refused as ever, and counts as that alone.
    expect_denied(&proxy, connect("10.1.2.3:443"), (403, "destination_ip_prohibited", "private_address"));
    assert_eq!(proxy.metric("ccpgate_reported_total{reason=\"ip_literal\"}"), 1.0);
    expect_denied(
        &proxy,
        connect("inside.good.example:443"),
        (403, "destination_ip_prohibited", "private_address"),
    );
    expect_denied(
        &proxy,
        "GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n",
        (403, "http_request_denied", "method"),
    );
}

#[test]
fn nothing_behind_a_refused_connect_is_parsed() {
    let upstream = Upstream::recorder();
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["good.example:443"])));
    let mut client = proxy.connect();
    client.send(format!(
        "{}{}GET /proxy.pac HTTP/1.1\r\nHost: p\r\n\r\n",
        connect("evil.example:443"),
        connect("good.example:443")
    ));
    let answer = client.read_answer();
    expect_refusal(&proxy, &mut client, &answer, (403, "http_request_denied", "no_rule"));
    assert_eq!(upstream.accepted(), 0, "RFC 9931: what follows is dropped");
}

#[test]
fn a_refusal_is_not_lost_to_a_reset_when_much_follows() {
    let proxy = Proxy::start(POLICY);
    let mut client = proxy.connect();
    let mut bytes = connect("evil.example:443").into_bytes();
    bytes.resize(bytes.len() + 200_000, b'x');
    client.send(bytes);
    assert_eq!(client.read_answer().status, 403);
}

#[test]
fn a_fresh_machine_serves_and_curl_is_told_403() {
    if !have("curl") {
        return;
    }
    // Nothing but the embedded default; a file in /etc would be another machine's business.
    let proxy = Proxy::start_on_default();
    let ran = Command::new("curl")
        .args(["-sS", "--max-time", "10", "-o", "-", "-w", "%{http_connect}", "-x"])
        .arg(format!("http://{}", proxy.http()))
        .arg("https://example.com/")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(56), "curl's code for a refused CONNECT: {ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "403");
    let line = proxy.access_line("denied", "example.com:443");
    assert_eq!(line["reason"], "no_rule", "{line}");
    // What an administrator needs next is in the first lines.
    let start: String = proxy.log_so_far().iter().map(|line| format!("{line}\n")).collect();
    for word in ["/proxy.pac", "/metrics", "us-east-1", "explain"] {
        assert!(start.contains(word), "no {word} in:\n{start}");
    }
}
