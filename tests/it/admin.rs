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
    let json: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
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
        client.read_answer().status
    };
    for path in ["/", "/api/status"] {
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
        // The certificate's series exist only where a TLS listener does.
        if name.starts_with("ccpgate_") && !name.starts_with("ccpgate_certificate_") {
            assert!(metrics.family(name).next().is_some(), "no metric {name}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "found {checked} names only");
}
