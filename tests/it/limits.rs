//! Clients that take too much: time, space, connections, file descriptors. They are told so, the
//! others don't notice, and everything comes back when they have gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Dns, Proxy, Raw, Upstream, eventually, expect_refusal, have};

const TARGET: &str = "good.example:443";
const OPEN: &str = "ccpgate_client_connections{listener=\"http\"}";

fn start(upstream: &Upstream, limits: &str) -> Proxy {
    Proxy::start(&policy(upstream, limits))
}

fn policy(upstream: &Upstream, limits: &str) -> String {
    format!("[[allow]]\npattern = \"good.example\"\n[limits]\n{limits}\n{}", upstream.for_targets(&[TARGET]))
}

#[test]
fn a_header_that_drips_is_cut_at_header_timeout_from_its_start() {
    // A timer that each byte resets would never fire.
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "header_timeout = \"1s\"");
    let begun = Instant::now();
    let mut reader = proxy.connect();
    let mut writer = reader.stream().try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        for byte in b"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n" {
            if std::io::Write::write_all(&mut writer, &[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(60));
        }
    });
    let answer = reader.read_answer();
    assert!(begun.elapsed() < Duration::from_millis(2500), "after {:?}", begun.elapsed());
    expect_refusal(&proxy, &mut reader, &answer, (408, "http_request_error", "header_timeout"));
    drip.join().unwrap();
}

#[test]
fn many_slow_clients_hold_up_nobody() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "header_timeout = \"2s\"");
    let mut slow: Vec<Raw> = (0..500).map(|_| proxy.connect()).collect();
    for client in &mut slow {
        client.send("CONNECT go");
    }
    let begun = Instant::now();
    proxy.tunnel(TARGET).expect_echo(b"quick");
    assert!(begun.elapsed() < Duration::from_secs(1), "took {:?}", begun.elapsed());
    for client in &mut slow {
        assert_eq!(client.read_answer().status, 408);
    }
    eventually("all places to be given back", || (proxy.metric(OPEN) == 0.0).then_some(()));
    proxy.metric_eventually("ccpgate_denied_total{reason=\"header_timeout\"}", 500.0);
}

#[test]
fn a_silent_connection_gives_its_place_back_without_an_answer() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "header_timeout = \"500ms\"");
    let mut silent = proxy.connect();
    silent.expect_closed();
    proxy.metric_eventually(OPEN, 0.0);
    assert_eq!(proxy.metrics().sum("ccpgate_denied_total"), 0.0);
}

#[test]
fn a_client_over_its_limit_is_told_and_others_are_not() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "connections_per_client = 5");
    let mut held: Vec<Raw> = (0..5).map(|_| proxy.tunnel(TARGET)).collect();
    let mut over = proxy.connect();
    let answer = over.connect_target(TARGET);
    expect_refusal(&proxy, &mut over, &answer, (503, "connection_limit_reached", "overload"));
    assert!(answer.text().contains("connections_per_client"), "the key to change: {}", answer.text());
    proxy.metric_eventually("ccpgate_denied_total{reason=\"overload\"}", 1.0);

    let mut other = Raw::connect_from([127, 0, 0, 2].into(), proxy.http());
    assert_eq!(other.connect_target(TARGET).status, 200);
    other.expect_echo(b"another client");
    for client in &mut held {
        client.expect_echo(b"live");
    }
    drop(held.pop());
    eventually("the place to be free", || {
        (proxy.connect().connect_target(TARGET).status == 200).then_some(())
    });
}

#[test]
fn over_the_limit_of_all_connections_everybody_is_told() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "connections = 5");
    let mut held: Vec<Raw> = (0..5).map(|_| proxy.tunnel(TARGET)).collect();
    let mut over = Raw::connect_from([127, 0, 0, 2].into(), proxy.http());
    let answer = over.connect_target(TARGET);
    assert_eq!((answer.status, answer.proxy_status("details")), (503, Some("overload")), "{}", answer.head);
    assert_eq!(answer.proxy_status("error"), Some("connection_limit_reached"));
    for client in &mut held {
        client.expect_echo(b"live");
    }
    drop(held);
    eventually("room", || (proxy.connect().connect_target(TARGET).status == 200).then_some(()));
}

#[test]
fn a_header_just_under_the_limit_passes_and_one_over_it_does_not() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "request_header = \"8KiB\"");
    for (size, status) in [(7 * 1024, 200), (9 * 1024, 431), (1 << 20, 431)] {
        let mut client = proxy.connect();
        client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(size)));
        let answer = client.read_answer_to_connect();
        assert_eq!(answer.status, status, "{size}: {}", answer.head);
    }
    // The fields have a bound of their own, which no key raises.
    for (fields, status) in [(99, 200), (100, 431)] {
        let mut client = proxy.connect();
        client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(fields)));
        let answer = client.read_answer_to_connect();
        assert_eq!(answer.status, status, "{fields}: {}", answer.head);
        let text = answer.text();
        assert_eq!(text.contains("more than 100 header fields"), status == 431, "{text}");
        assert!(!text.contains("limits.request_header"), "{text}");
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"header_size\"}", 3.0);
}

#[test]
fn file_descriptors_run_out_and_come_back() {
    // 120 descriptors, and clients that would need 300.
    if !have("prlimit") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start_with_files(&policy(&upstream, "header_timeout = \"60s\""), 120);
    let mut live = proxy.tunnel(TARGET);
    live.expect_echo(b"before");
    let mut greedy: Vec<Raw> = (0..300).map(|_| proxy.connect()).collect();
    for client in &mut greedy {
        client.send("CONNECT go");
    }
    for _ in 0..20 {
        live.expect_echo(b"while they have run out");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = proxy.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let burnt = proxy.cpu_time() - before;
    assert!(burnt < Duration::from_millis(300), "the accept loop spins: {burnt:?} of CPU in a second");

    drop(greedy);
    let back = Instant::now();
    eventually("a tunnel after descriptors came back", || {
        let mut client = proxy.connect();
        (client.connect_target(TARGET).status == 200).then_some(())
    });
    assert!(back.elapsed() < Duration::from_secs(3), "took {:?}", back.elapsed());
    live.expect_echo(b"after");
    let errors = proxy.metric("ccpgate_accept_errors_total{listener=\"http\"}");
    let shed = proxy.metric("ccpgate_denied_total{reason=\"overload\"}");
    assert!(errors + shed > 0.0, "nothing was counted");
}

#[test]
fn too_few_descriptors_for_the_limits_are_told_of_at_the_start() {
    if !have("prlimit") {
        return;
    }
    let upstream = Upstream::echo();
    let proxy = Proxy::start_with_files(&policy(&upstream, "connections = 500"), 1000);
    let line = proxy.log_line("the warning", |line| line["event"] == "file_limit");
    assert_eq!((&line["limit"], &line["wanted"]), (&Value::from(1000), &Value::from(1200)), "{line}");
    let proxy = Proxy::start_with_files(&policy(&upstream, "connections = 500"), 1200);
    proxy.log_line("ready", |line| line["event"] == "ready");
    assert!(proxy.log_so_far().iter().all(|line| line["event"] != "file_limit"));
}

#[test]
fn without_a_descriptor_for_dns_it_is_a_limit_and_not_the_network() {
    if !have("prlimit") {
        return;
    }
    let dns = Dns::start();
    let toml = format!(
        "[[allow]]\npattern = \"*.names.example\"\n[dns]\nservers = [\"{}\"]\n[limits]\nheader_timeout = \"60s\"\n",
        dns.address()
    );
    let proxy = Proxy::start_with_files(&toml, 120);
    let mut early: Vec<Raw> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut early {
        client.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.read_answer().status, 200);
    }
    let mut greedy: Vec<Raw> = (0..300).map(|_| proxy.connect()).collect();
    for client in &mut greedy {
        client.send("CONNECT go");
    }
    eventually("the last descriptor's use", || {
        (proxy.log_so_far().iter().any(|line| line["event"] == "accept_failed")).then_some(())
    });
    let answers: Vec<_> = early
        .iter_mut()
        .enumerate()
        .map(|(number, client)| client.connect_target(&format!("n{number}.names.example:443")))
        .collect();
    let told: Vec<&str> = answers.iter().map(|answer| answer.field("proxy-status").unwrap()).collect();
    // One that ends gives its descriptor to the next one.
    let full = answers.iter().find(|answer| answer.status == 503).unwrap_or_else(|| panic!("{told:?}"));
    assert!(full.head.contains("error=connection_limit_reached; details=\"overload\""), "{}", full.head);
    assert!(full.text().contains("LimitNOFILE"), "{}", full.text());
    assert!(told.iter().all(|told| told.contains("NXDOMAIN") || told.contains("overload")), "{told:?}");
}

#[test]
fn a_flood_of_denials_is_sampled_in_the_log_and_exact_in_the_metrics() {
    let upstream = Upstream::echo();
    let proxy = start(&upstream, "");
    const FLOOD: usize = 3000;
    for _ in 0..FLOOD {
        proxy.connect().send("CONNECT evil.example:443 HTTP/1.1\r\n\r\n");
    }
    proxy.metric_eventually("ccpgate_denied_total{reason=\"no_rule\"}", FLOOD as f64);
    proxy.tunnel(TARGET).expect_echo(b"not held up");
    // No other denial follows, and yet every one is told of.
    eventually("each denial has its line or is among those left out", || {
        let log = proxy.log_so_far();
        let written = log.iter().filter(|line| line["event"] == "denied").count();
        let left_out = log.iter().filter(|line| line["event"] == "denials_left_out");
        let left_out: u64 = left_out.map(|line| line["lines"].as_u64().unwrap()).sum();
        (written < FLOOD && written + left_out as usize == FLOOD).then_some(())
    });
}

/// The disk is full, or whoever read the log has gone: tunnels live, and what is lost is counted.
#[test]
fn lines_that_cannot_be_written_are_counted_and_cost_no_tunnel() {
    let upstream = Upstream::echo();
    let leaves = Arc::default();
    let proxy = Proxy::start_with_log_until(&policy(&upstream, ""), &leaves);
    let mut tunnel = proxy.tunnel(TARGET);
    assert_eq!(proxy.metric("ccpgate_log_lines_dropped_total"), 0.0);
    leaves.store(true, Ordering::Release);
    let lost = || {
        proxy.ask("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n");
        (proxy.metric("ccpgate_log_lines_dropped_total") >= 3.0).then_some(())
    };
    eventually("lines to be lost", lost);
    tunnel.expect_echo(b"it goes on");
    let metrics = proxy.metrics();
    let denied = metrics.get("ccpgate_denied_total{reason=\"no_rule\"}").unwrap();
    assert!(metrics.get("ccpgate_log_lines_dropped_total").unwrap() < denied, "the first one had its reader");
}
