//! What a look-up among AWS's prefixes costs, and what a new version of ip-ranges.json does.
//!
//! `cargo bench --bench ranges` works with a file that is made up, of the size of that of August 2026;
//! `IP_RANGES=FILE cargo bench --bench ranges` with a real one. The goals are 100 ns for a look-up and
//! 100 ms for parsing, selecting and aggregating.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;

use ccpgate::catalogue::Choice;
use ccpgate::ranges::select::{Selection, Wanted};
use ccpgate::ranges::{AMAZON, Ranges, read};
use criterion::{Criterion, criterion_group, criterion_main};

/// As many entries of each service as the file of August 2026 has, none beside another.
fn made_up() -> String {
    const REGIONS: [&str; 4] = ["GLOBAL", "us-east-1", "us-west-2", "eu-central-1"];
    let services = [
        ("AMAZON", 6084, 2901),
        ("EC2", 1924, 2230),
        ("CLOUDFRONT", 211, 32),
        ("S3", 441, 513),
        ("OTHER", 2008, 484),
    ];
    let (mut four, mut six) = (String::new(), String::new());
    for (service, ipv4, ipv6) in services {
        for n in 0..ipv4 {
            let region = REGIONS[n % REGIONS.len()];
            let _ = writeln!(
                four,
                "{}{{\"ip_prefix\": \"{}.{}.{}.0/24\", \"region\": \"{region}\", \"service\": \"{service}\", \
                 \"network_border_group\": \"{region}\"}}",
                if four.is_empty() { "" } else { "," },
                3 + n / 8192,
                n / 32 % 256,
                n % 32 * 8
            );
        }
        for n in 0..ipv6 {
            let region = REGIONS[n % REGIONS.len()];
            let _ = writeln!(
                six,
                "{}{{\"ipv6_prefix\": \"2600:{:x}::/40\", \"region\": \"{region}\", \"service\": \"{service}\", \
                 \"network_border_group\": \"{region}\"}}",
                if six.is_empty() { "" } else { "," },
                n * 2 + 1
            );
        }
    }
    format!(
        "{{\"syncToken\": \"1\", \"createDate\": \"2026-08-22-15-17-05\", \"prefixes\": [{four}], \"ipv6_prefixes\": [{six}]}}"
    )
}

fn ranges(c: &mut Criterion) {
    let text = match std::env::var_os("IP_RANGES") {
        Some(file) => std::fs::read_to_string(file).expect("IP_RANGES names a file that can be read"),
        None => made_up(),
    };
    let file: Ranges = read::read(text.as_bytes()).expect("ip-ranges.json");
    let table = file.of_service(AMAZON);
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (name, address) in [
        ("look-up/ipv4", parse("3.100.8.1")),
        ("look-up/ipv4-outside", parse("198.51.100.7")),
        ("look-up/ipv6", parse("2600:1f00::1")),
        ("look-up/ipv6-outside", parse("2001:db8::1")),
    ] {
        c.bench_function(name, |b| b.iter(|| table.contains(black_box(address))));
    }
    let choice = Choice { regions: vec!["us-east-1".to_owned()], ..Choice::default() };
    let wanted = Wanted::new(&choice, false);
    let mut slow = c.benchmark_group("version");
    slow.sample_size(10);
    slow.bench_function("parse, select, aggregate", |b| {
        b.iter(|| {
            let ranges = read::read(black_box(text.as_bytes())).expect("ip-ranges.json");
            let selection = Selection::new(&ranges, &wanted);
            let prefixes = selection.sets.iter().map(|set| set.table.ipv4().len() + set.table.ipv6().len());
            (prefixes.sum::<usize>(), ranges.of_service(AMAZON))
        });
    });
}

criterion_group!(benches, ranges);
criterion_main!(benches);
