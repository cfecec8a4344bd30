use std::time::{Duration, Instant};

use super::endpoint;
use crate::support::{Region, ccpgate};

#[test]
fn a_healthy_region_says_nothing_alarming() {
    let region = Region::healthy();
    let began = Instant::now();
    let ran = region.check(&["--host", "a.transport.connect.us-west-2.amazonaws.com"]).expect(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(ran.stdout.starts_with("ok: "), "{}", ran.stdout);
    for word in ["fail", "degraded", "error", "refus", "\u{1b}"] {
        assert!(!ran.stdout.contains(word), "{word} in\n{}", ran.stdout);
    }
    assert!(ran.stdout.contains("\nsignalling  ok\n"), "{}", ran.stdout);
}

#[test]
fn the_report_has_the_keys_of_the_contract() {
    let region = Region::healthy();
    let report = region.check(&["--json"]).expect(0).json();
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    for key in
        "schema_version verdict summary cause owner endpoints categories clock_skew_ms via regions".split(' ')
    {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert_eq!((&report["schema_version"], &report["verdict"]), (&1.into(), &"ok".into()));
    assert!(report["cause"].is_null() && report["owner"].is_null() && report["via"].is_null());
    let acme = endpoint(&report, "acme.my.connect.aws");
    assert_eq!(
        (&acme["status"], &acme["protocol"], &acme["port"]),
        (&"ok".into(), &"tcp".into(), &443.into())
    );
    assert_eq!(acme["address"], region.upstream().address().to_string());
    for step in ["connect_ms", "tls_ms", "http_ms"] {
        assert!(acme["steps"][step].is_u64(), "{acme:#}");
    }
    assert!(acme["steps"]["dns_ms"].is_null(), "connect_to asks nobody: {acme:#}");
    assert!(acme["rtt_ms"].is_u64(), "{acme:#}");
    let wild = endpoint(&report, "*.transport.connect.us-west-2.amazonaws.com");
    assert_eq!(wild["status"], "untested", "{wild:#}");
    assert_eq!(report["categories"]["login"]["status"], "ok");
    assert_eq!(report["categories"]["signalling"]["status"], "untested");
    assert!(report["clock_skew_ms"].as_i64().unwrap().abs() < 5_000, "{report:#}");
}

#[test]
fn hosts_under_no_rule_are_untested_and_categories_are_chosen() {
    let region = Region::healthy();
    let named = ["--json", "--category", "chat", "--host", "www.example.net"];
    let report = region.check(&named).expect(0).json();
    let other = endpoint(&report, "www.example.net");
    assert_eq!(other["status"], "untested");
    assert!(other["detail"].as_str().unwrap().contains("no rule allows"), "{other:#}");
    let hosts: Vec<_> = report["endpoints"].as_array().unwrap().iter().map(|e| &e["host"]).collect();
    assert_eq!(hosts.len(), 2, "{hosts:?}");
}

#[test]
fn a_clock_that_is_off_is_told_from_certificates_that_are() {
    let region = Region::healthy();
    for (offset, verdict) in [("5s", "ok"), ("-60s", "degraded"), ("1d", "failed"), ("-1d", "failed")] {
        let ran = region.check(&["--json", "--clock-offset", offset]);
        let report = ran.json();
        assert_eq!(report["verdict"], verdict, "{offset}: {report:#}");
        let cause = if verdict == "ok" { "null" } else { "\"clock_skew\"" };
        assert_eq!(report["cause"].to_string(), cause, "{offset}");
        let expected = 1000.0 * if offset.ends_with('d') { 86400.0 } else { 60.0 };
        let skew = report["clock_skew_ms"].as_f64().unwrap();
        if verdict != "ok" {
            assert!((skew.abs() - expected).abs() < 10_000.0, "{offset}: {skew}");
            assert_eq!(skew < 0.0, offset.starts_with('-'), "{offset}: {skew}");
        }
    }
    // Far beyond what the certificate is valid for, and still the clock's fault.
    let report = region.check(&["--json", "--clock-offset", "2000000d"]).expect(1).json();
    assert_eq!(report["cause"], "clock_skew", "{report:#}");
}

#[test]
fn everything_dark_is_said_within_twenty_seconds() {
    let hole = crate::support::Blackhole::new();
    let names = ["*.my.connect.aws", "*.awsapps.com", "*.amazonaws.com", "*.amazon.com", "*.cloudfront.net"];
    let names = names.iter().chain(&["tools.connect.aws"]);
    let lines: String = names.map(|name| format!("\"{name}:443\" = \"{}\"\n", hole.address())).collect();
    let config = format!(
        "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\nmedia = false\n[egress.connect_to]\n{lines}"
    );
    let began = Instant::now();
    let ran = ccpgate(Some(&config), &["check"]).expect(1);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(ran.stdout.starts_with("failed: tcp_timeout at 11 of 11 endpoints"), "{}", ran.stdout);
    assert!(ran.stdout.lines().next().unwrap().ends_with("Whose turn: firewall"), "{}", ran.stdout);
}
