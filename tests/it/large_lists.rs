//! Long lists: what is served of ten thousand rules, and that memory does not grow with reloads.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use rustix::process::Signal;

use crate::support::{Answer, Proxy, Raw, Upstream};

const RULES: usize = 10_000;
/// For tests that reload them many times.
const SOME: usize = 5_000;
/// What memory may vary by, in KiB. One list of so many rules takes more than two thousand.
const NOISE: usize = 8 * 1024;

fn rules(count: usize) -> String {
    (0..count)
        .map(|i| format!("[[allow]]\npattern = \"host-{i}.customer{}.example.com\"\n", i % 97))
        .collect()
}

fn scrape(proxy: &Proxy, request: &str) -> Answer {
    let mut client = Raw::connect(proxy.admin());
    client.send(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n"));
    let mut answer = client.read_head();
    answer.body = client.read_to_end().unwrap();
    answer
}

/// The body of an answer that came in chunks (RFC 9112 section 7.1).
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 4 + size..];
    }
}

fn series(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| line.starts_with("ccpgate_"));
    let all: Vec<_> = samples.map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let different: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), different.len(), "a series stands twice");
    different
}

#[test]
fn metrics_of_ten_thousand_rules_come_whole_and_compressed_where_asked() {
    let proxy = Proxy::start(&rules(RULES));
    let plain = scrape(&proxy, "GET /metrics HTTP/1.1");
    assert_eq!(plain.status, 200, "{}", plain.head);
    assert_eq!(plain.field("content-length"), Some(plain.body.len().to_string().as_str()));
    let text = plain.text();
    let all = series(&text);
    let of_one: Vec<_> =
        all.iter().filter(|name| name.contains("domain=\"host-9999.customer8.example.com\"")).collect();
    assert_eq!(of_one.len(), 27, "{of_one:?}");
    assert!(all.len() > RULES * 27);

    let packed = scrape(&proxy, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip");
    assert_eq!(packed.field("content-encoding"), Some("gzip"), "{}", packed.head);
    let mut unpacked = String::new();
    GzDecoder::new(&*joined(&packed.body)).read_to_string(&mut unpacked).unwrap();
    assert_eq!(series(&unpacked), all);
    assert!(packed.body.len() * 10 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());

    let head = scrape(&proxy, "HEAD /metrics HTTP/1.1");
    assert_eq!((head.status, head.body.len()), (200, 0), "{}", head.head);
}

/// Reloads and waits for the log to say so: ten thousand rules make a scrape long.
fn reload(proxy: &Proxy, toml: &str) {
    let reloads = || proxy.log_so_far().iter().filter(|line| line["event"] == "reloaded").count();
    let before = reloads();
    proxy.rewrite_config(toml);
    proxy.signal(Signal::HUP);
    let until = Instant::now() + Duration::from_secs(120);
    while reloads() == before {
        assert!(Instant::now() < until, "no reload");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A tunnel that lives does not hold the list that it was opened under, and what a reload makes anew is what
/// it drops.
#[test]
fn memory_does_not_grow_with_reloads() {
    let upstream = Upstream::echo();
    let targets = upstream.for_targets(&["own.example:443"]);
    let config = format!("{}[[allow]]\npattern = \"own.example\"\n{targets}", rules(SOME));
    let proxy = Proxy::start(&config);
    let mut tunnels = Vec::new();
    let mut reload_under_a_tunnel = || {
        let mut tunnel = proxy.tunnel("own.example:443");
        tunnel.expect_echo(b"held");
        tunnels.push(tunnel);
        reload(&proxy, &config);
        proxy.resident()
    };
    // What a reload needs for a moment may stay with the allocator for a while: the least of some counts.
    let mut least_of_some = || (0..4).map(|_| reload_under_a_tunnel()).min().unwrap();
    let [before, between, after] = [(); 3].map(|()| least_of_some());
    // A thread that reads a list for the first time has a heap of its own, once. Four lists are more than this.
    let grows = |from: usize, to: usize| to >= from + NOISE / 2;
    assert!(!(grows(before, between) && grows(between, after)), "{before} KiB, then {between}, then {after}");
}
