//! What a decision costs: the list of one region, and ten thousand rules.
//!
//! `cargo bench --bench policy`. The goals are 150 ns on 60 patterns and 1 µs on 10,000.

use std::hint::black_box;

use ccpgate::policy::{Category, Pattern, Policy, Rule};
use ccpgate::target::Target;
use criterion::{Criterion, criterion_group, criterion_main};

fn policy(patterns: impl IntoIterator<Item = String>, deny: &[&str]) -> Policy {
    let rules = patterns
        .into_iter()
        .map(|pattern| Rule::added(Pattern::parse(&pattern).expect("a pattern"), vec![443], Category::Api))
        .collect();
    let deny = deny.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
    Policy::new(rules, deny)
}

/// The shapes that the list of a region has: tenant names, service names, stars of both kinds.
fn region_policy() -> Policy {
    let mut patterns = vec![
        "acme.my.connect.aws".to_owned(),
        "*.my.connect.aws".to_owned(),
        "acme.awsapps.com".to_owned(),
        "*.static.connect.aws".to_owned(),
        "*.cloudfront.net".to_owned(),
        "rtc*.connect-telecom.us-west-2.amazonaws.com".to_owned(),
        "a*b*.globbed.us-west-2.amazonaws.com".to_owned(),
        "*.execute-api.us-west-2.amazonaws.com".to_owned(),
        "*.transport.connect.us-west-2.amazonaws.com".to_owned(),
        "acme-files.s3.us-west-2.amazonaws.com".to_owned(),
        "participant.connect.us-west-2.amazonaws.com".to_owned(),
    ];
    patterns.extend((0..50).map(|n| format!("service-{n}.us-west-2.amazonaws.com")));
    policy(patterns, &["*.bad.cloudfront.net"])
}

fn large_policy() -> Policy {
    policy(
        (0..10_000).map(|n| match n % 4 {
            0 => format!("host-{n}.service-{}.example.com", n % 97),
            1 => format!("*.domain-{n}.example.com"),
            2 => format!("part{n}-*.service-{}.example.com", n % 97),
            _ => format!("*.tail-{n}.example{}.net", n % 13),
        }),
        &["*.bad.example.com"],
    )
}

fn decide(c: &mut Criterion) {
    let (region, large) = (region_policy(), large_policy());
    let cases = [
        ("region/exact", &region, "acme.my.connect.aws:443"),
        ("region/below", &region, "other.my.connect.aws:443"),
        ("region/star", &region, "rtc1-a.connect-telecom.us-west-2.amazonaws.com:443"),
        ("region/port", &region, "participant.connect.us-west-2.amazonaws.com:80"),
        ("region/deny", &region, "d1.bad.cloudfront.net:443"),
        ("region/glob", &region, "axbx.globbed.us-west-2.amazonaws.com:443"),
        ("region/miss", &region, "www.example.org:443"),
        ("region/near-miss", &region, "xrtc.connect-telecom.us-west-2.amazonaws.com:443"),
        ("region/ip", &region, "192.0.2.1:443"),
        ("large/exact", &large, "host-4000.service-23.example.com:443"),
        ("large/below", &large, "a.b.domain-5001.example.com:443"),
        ("large/star", &large, "part5002-x.service-55.example.com:443"),
        ("large/miss", &large, "a.b.c.d.e.example.com:443"),
        ("large/near-miss", &large, "part5002.service-55.example.com:443"),
    ];
    for (name, policy, target) in cases {
        let target = Target::parse_authority(target.as_bytes()).expect("a target");
        c.bench_function(name, |b| b.iter(|| policy.decide(black_box(&target))));
    }
    c.bench_function("parse", |b| {
        b.iter(|| Target::parse_authority(black_box(b"rtc1-a.connect-telecom.us-west-2.amazonaws.com:443")));
    });
    let mut slow = c.benchmark_group("build");
    slow.sample_size(10);
    slow.bench_function("large", |b| b.iter(large_policy));
}

criterion_group!(benches, decide);
criterion_main!(benches);
