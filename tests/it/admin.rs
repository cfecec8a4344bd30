//! The admin listener: probes, metrics that Prometheus accepts and that stay small, status.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Proxy, Raw, Upstream, have};

const POLICY: &str = "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"*.wild.example\"\n";

/// The contract's metrics and the labels that each series has.
const FAMILIES: &[(&str, &[&str])] = &[
    ("ccpgate_tunnels_active", &["domain", "category"]),
    ("ccpgate_tunnels_total", &["domain", "category", "outcome"]),
    ("ccpgate_tunnel_bytes_total", &["domain", "category", "direction"]),
    ("ccpgate_tunnel_duration_seconds_count", &["category"]),
    ("ccpgate_connect_duration_seconds_count", &["domain", "category"]),
    ("ccpgate_first_byte_seconds_count", &["category"]),
    ("ccpgate_dns_duration_seconds_count", &[]),
    ("ccpgate_denied_total", &["reason"]),
    ("ccpgate_reported_total", &["reason"]),
    ("ccpgate_error_ratio", &["category"]),
    ("ccpgate_client_connections", &["listener"]),
    ("ccpgate_tls_handshakes_total", &["resumed"]),
    ("ccpgate_tls_sessions", &[]),
    ("ccpgate_tls_resumed_age_seconds_count", &[]),
    ("ccpgate_reloads_total", &["result"]),
    ("ccpgate_config_last_reload_successful", &[]),
    ("ccpgate_draining", &[]),
    ("ccpgate_accept_errors_total", &["listener"]),
    ("ccpgate_build_info", &["version", "commit"]),
    ("process_open_fds", &[]),
    ("process_max_fds", &[]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
];

#[test]
fn every_series_exists_at_zero_from_the_start() {
    let proxy = Proxy::start(POLICY);
    let metrics = proxy.metrics();
    for (name, labels) in FAMILIES {
        let series: Vec<&str> = metrics.family(name).map(|(series, _)| series).collect();
        assert!(!series.is_empty(), "no {name} in:\n{}", metrics.text);
        for series in series {
            for label in *labels {
                assert!(series.contains(&format!("{label}=\"")), "no {label} in {series}");
            }
            assert_eq!(series.matches("=\"").count(), labels.len(), "labels of {series}");
        }
    }
    for domain in ["good.example", "*.wild.example"] {
        let of = format!("domain=\"{domain}\",category=\"extra\"");
        for outcome in [
            "ok",
            "dns",
            "connect",
            "upstream_reset",
            "client_reset",
            "idle_timeout",
            "not_tls",
            "sni_mismatch",
            "drained",
        ] {
            let series = format!("ccpgate_tunnels_total{{{of},outcome=\"{outcome}\"}}");
            assert_eq!(metrics.get(&series), Some(0.0), "{series}");
        }
    }
    for reason in [
        "no_rule",
        "port",
        "deny_rule",
        "ip_literal",
        "client",
        "method",
        "private_address",
        "malformed",
        "header_size",
        "header_timeout",
        "overload",
        "draining",
    ] {
        assert_eq!(
            metrics.get(&format!("ccpgate_denied_total{{reason=\"{reason}\"}}")),
            Some(0.0),
            "{reason}"
        );
    }
    for reason in ["no_rule", "port", "deny_rule", "ip_literal", "not_tls", "sni_mismatch"] {
        assert_eq!(
            metrics.get(&format!("ccpgate_reported_total{{reason=\"{reason}\"}}")),
            Some(0.0),
            "{reason}"
        );
    }
    for listener in ["http", "https"] {
        assert_eq!(metrics.get(&format!("ccpgate_client_connections{{listener=\"{listener}\"}}")), Some(0.0));
    }
    assert_eq!(
        metrics.get("ccpgate_config_last_reload_successful"),
        Some(1.0),
        "the start counts as a success"
    );
    assert_eq!(metrics.get("ccpgate_error_ratio{category=\"all\"}"), Some(0.0));
    let telecom = "ccpgate_tunnels_active{domain=\"rtc*.connect-telecom.us-west-2.amazonaws.com\",category=\"telecom\"}";
    assert_eq!(metrics.get(telecom), Some(0.0), "the catalogue's rules are there as well");
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    if !have("promtool") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["good.example:443"])));
    proxy.tunnel("good.example:443").expect_echo(b"x");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(proxy.metrics().text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
fn the_number_of_series_does_not_grow_with_hosts_and_clients() {
    // Names from the wire are never labels, whether they were allowed, denied or malformed.
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["*.wild.example:443"])));
    proxy.tunnel("first.wild.example:443");
    proxy.connect().connect_target("first.evil.example:443");
    let before = proxy.metrics();
    for at in 0..1000 {
        let mut client = proxy.connect();
        client.send(format!("CONNECT h{at}.evil.example:443 HTTP/1.1\r\n\r\n"));
        let mut client = proxy.connect();
        client.send(format!("CONNECT h{at}..:443 HTTP/1.1\r\n\r\n"));
        if at < 100 {
            proxy.tunnel(&format!("h{at}.wild.example:443"));
        }
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"no_rule\"}", 1001.0);
    proxy.metric_eventually("ccpgate_denied_total{reason=\"malformed\"}", 1000.0);
    let after = proxy.metrics();
    assert_eq!(after.series_count(), before.series_count());
    for name in ["evil.example", "h1.", "first."] {
        assert!(!after.text.contains(name), "{name} in the metrics");
    }
}

#[test]
fn probes_and_metrics_answer() {
    let proxy = Proxy::start(POLICY);
    for path in ["/healthz", "/readyz", "/metrics", "/proxy.pac", "/", "/api/status"] {
        let answer = proxy.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    }
    let kind = proxy.get("/metrics").field("content-type").unwrap().to_owned();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    let status = proxy.get("/api/status");
    assert!(status.field("content-type").unwrap().starts_with("application/json"), "{}", status.head);
    let json: serde_json::Value = status.json();
    assert!(json.is_object(), "{json}");
    assert_eq!(proxy.get("/nothing").status, 404);
    assert_eq!(proxy.get("/proxy.pac/").status, 404);
}

#[test]
fn other_methods_are_405_and_head_is_get_without_its_body() {
    let proxy = Proxy::start(POLICY);
    for method in ["POST", "DELETE", "PUT"] {
        for path in ["/metrics", "/proxy.pac", "/healthz"] {
            let mut client = Raw::connect(proxy.admin());
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
            let answer = client.read_answer();
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.head);
            let allow = answer.field("allow").unwrap_or_default();
            assert!(allow.contains("GET"), "{}", answer.head);
        }
    }
    let mut client = Raw::connect(proxy.admin());
    client.send("HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    client.expect_closed();
}

#[test]
fn the_page_and_the_api_are_closed_to_names_that_a_browser_may_be_led_to_us_by() {
    // DNS rebinding: probes, metrics and PAC answer any Host.
    let proxy = Proxy::start(POLICY);
    let ask = |path: &str, host: &str| {
        let mut client = Raw::connect(proxy.admin());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        client.read_head().status
    };
    for path in
        ["/", "/api/status", "/api/events", "/api/tunnels", "/api/denied", "/api/failures", "/api/history"]
    {
        assert!(ask(path, "rebound.example") >= 400, "{path}");
        assert_eq!(ask(path, "localhost:9128"), 200, "{path}");
        assert_eq!(ask(path, "127.0.0.1"), 200, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/proxy.pac"] {
        assert_eq!(ask(path, "ccpgate.monitoring.svc:9128"), 200, "{path}");
    }
    proxy.reload(&format!("{POLICY}[admin]\nhosts = [\"ccpgate.corp.example\"]\n"), "ok");
    assert_eq!(ask("/api/status", "ccpgate.corp.example"), 200, "a reload names another host");
    assert!(ask("/api/status", "rebound.example") >= 400);
}

#[test]
fn scripts_of_other_pages_get_nothing_and_hold_no_stream() {
    let proxy = Proxy::start(POLICY);
    let own = format!("http://{}", proxy.admin());
    let ask = |path: &str, fields: &str| {
        let mut client = Raw::connect(proxy.admin());
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}Connection: close\r\n\r\n",
            proxy.admin()
        ));
        client.read_head().status
    };
    for path in ["/", "/api/status", "/api/events", "/api/tunnels", "/api/history"] {
        for foreign in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: https://127.0.0.1\r\n",
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
            "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n",
        ] {
            assert_eq!(ask(path, foreign), 403, "{path} {foreign}");
        }
        for welcome in [
            "",
            &format!("Origin: {own}\r\nSec-Fetch-Site: same-origin\r\n"),
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
            "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n",
        ] {
            assert_eq!(ask(path, welcome), 200, "{path} {welcome}");
        }
    }
    assert_eq!(
        ask("/metrics", "Origin: http://grafana.example\r\n"),
        200,
        "probes and metrics answer anybody"
    );
}

#[test]
fn silent_and_slow_connections_give_way_to_a_scrape() {
    let proxy = Proxy::start(POLICY);
    let mut held = Vec::new();
    for at in 0..300 {
        let mut client = Raw::connect(proxy.admin());
        match at % 4 {
            0 => client.send("GET /metr"),
            // Answered once, and kept alive.
            1 => client.send("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            // Asks, and reads nothing.
            2 => client.send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            _ => {}
        }
        held.push(client);
    }
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(proxy.get("/metrics").status, 200);
    }
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_secs(9), "{took:?}: ten seconds is what silence may last");
}

#[test]
fn a_thousand_denied_targets_are_explained_at_once() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    for at in 0..1000 {
        let host = if at % 2 == 0 { "participant.connect.eu-west-2.amazonaws.com" } else { "crm.example" };
        client.send(format!("CONNECT h{at}.{host}:443 HTTP/1.1\r\n\r\n"));
        if client.read_answer().field("connection").is_some_and(|field| field == "close") {
            client = proxy.connect();
        }
    }
    let ask = || {
        let begun = std::time::Instant::now();
        let answer = proxy.get("/api/denied");
        let rows: serde_json::Value = answer.json();
        assert_eq!(rows.as_array().unwrap().len(), 1000);
        begun.elapsed()
    };
    let (first, second) = (ask(), ask());
    println!("{first:?}, then {second:?}");
}

#[test]
fn what_failed_and_when_is_told_to_programs() {
    let upstream = Upstream::resetter();
    let proxy = Proxy::start(&format!("{POLICY}{}", upstream.for_targets(&["good.example:443"])));
    let json = |path: &str| -> serde_json::Value {
        let answer = proxy.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    for _ in 0..3 {
        let mut client = proxy.tunnel("good.example:443");
        client.send("x");
        client.expect_gone();
        proxy.connect().connect_target("evil.example:443");
    }
    proxy.metric_eventually("ccpgate_error_ratio{category=\"all\"}", 1.0);
    let failures = json("/api/failures?client=127.0.0.0/8&host=good");
    assert_eq!(failures["failures"].as_array().unwrap().len(), 1, "{failures}");
    let reset = &failures["failures"][0];
    assert_eq!(
        (&reset["reason"], &reset["count"], &reset["kind"]),
        (&"upstream_reset".into(), &3.into(), &"failed".into())
    );
    assert_eq!(failures["reasons"], serde_json::json!(["no_rule", "upstream_reset"]));
    let denied = json("/api/failures?reason=no_rule&host=*.example&client=127.");
    assert_eq!(denied["failures"][0]["target"], "evil.example:443", "{denied}");
    for wrong in ["client=nobody", "host=**.x", "limit=0", "limit=x"] {
        assert_eq!(proxy.get(&format!("/api/failures?{wrong}")).status, 400, "{wrong}");
    }
    let history = json("/api/history?minutes=60");
    let [_, ended, failed] = &history["categories"]["extra"][0].as_array().unwrap()[..] else {
        panic!("{history}")
    };
    assert_eq!((ended, failed), (&3.into(), &3.into()), "{history}");
    assert_eq!(history["changes"][0]["kind"], "started", "{history}");
    assert!(json("/api/history?domain=*.wild.example")["categories"].as_object().unwrap().is_empty());
    for wrong in ["minutes=0", "minutes=1441", "minutes=x"] {
        assert_eq!(proxy.get(&format!("/api/history?{wrong}")).status, 400, "{wrong}");
    }
    let status = json("/api/status");
    assert_eq!(status["failures"], 6, "{status}");
    let rule =
        status["rules"].as_array().unwrap().iter().find(|rule| rule["domain"] == "good.example").unwrap();
    assert_eq!(rule["lately"], serde_json::json!({ "ended": 3, "failed": 3 }));
}

#[test]
fn the_error_ratio_is_the_share_of_the_last_ended_tunnels() {
    let upstream = Upstream::echo();
    let refusing = crate::support::Refusing::new();
    let proxy = Proxy::start(&format!(
        "{POLICY}{}\"dead.wild.example:443\" = \"{}\"\n",
        upstream.for_targets(&["good.example:443"]),
        refusing.address()
    ));
    for _ in 0..3 {
        let mut client = proxy.tunnel("good.example:443");
        client.finish();
        client.expect_closed();
    }
    proxy.connect().connect_target("dead.wild.example:443");
    proxy.metric_eventually("ccpgate_error_ratio{category=\"all\"}", 0.25);
    proxy.metric_eventually("ccpgate_error_ratio{category=\"extra\"}", 0.25);
    // Denials are the policy at work, no errors.
    proxy.connect().connect_target("evil.example:443");
    assert_eq!(proxy.metric("ccpgate_error_ratio{category=\"all\"}"), 0.25);
    assert_eq!(proxy.metric("ccpgate_error_ratio{category=\"telecom\"}"), 0.0);
}

#[test]
fn the_example_alerts_are_valid_and_fire() {
    if !have("promtool") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
    for arguments in [
        ["check", "rules", "prometheus-alerts.yml"],
        ["test", "rules", "prometheus-alerts.test.yml"],
        ["test", "rules", "prometheus-alerts-week.test.yml"],
    ] {
        let ran = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()));
    }
}

#[test]
fn the_alerts_use_metrics_that_exist() {
    let alerts = include_str!("../../deploy/prometheus-alerts.yml");
    let metrics = Proxy::start(POLICY).metrics();
    let mut checked = 0;
    for name in alerts.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        // These series exist only where there is a TLS listener, a watch, ip-ranges.json.
        let optional = ["ccpgate_certificate_", "ccpgate_probe_", "ccpgate_ranges_"];
        if name.starts_with("ccpgate_") && !optional.iter().any(|part| name.starts_with(part)) {
            assert!(metrics.family(name).next().is_some(), "no metric {name}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "found {checked} names only");
}
