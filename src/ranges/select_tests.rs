use proptest::prelude::*;

use super::*;
use crate::ranges::{read, testing};

const NEW: &[u8] = include_bytes!("../../tests/data/ip-ranges-2026.json");

fn wanted(regions: &[&str]) -> Wanted {
    let regions = regions.iter().map(|region| (*region).to_owned()).collect();
    Wanted::new(&Choice { regions, ..Choice::default() }, false)
}

/// `region service prefix` on each line.
fn file(lines: &str) -> Ranges {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    testing::ranges("1", "2026-08-22-15-17-05", lines)
}

fn prefixes(selection: &Selection, set: Set) -> Vec<String> {
    let table = &selection.of(set).unwrap().table;
    let four = table.ipv4().into_iter().map(|net| net.to_string());
    four.chain(table.ipv6().into_iter().map(|net| net.to_string())).collect()
}

const FILE: &str = "
    GLOBAL AMAZON_CONNECT 15.193.0.0/19
    us-west-2 AMAZON_CONNECT 15.193.7.0/24
    us-west-2 AMAZON_CONNECT 54.190.198.32/28
    eu-west-2 AMAZON_CONNECT 35.0.0.0/28
    GLOBAL AMAZON_CONNECT 2600:f0f2:7100::/40
    us-west-2 EC2 44.0.0.0/17
    us-west-2 EC2 44.0.128.0/17
    us-gov-west-1 EC2 52.0.0.0/24
    us-gov-west-1 EC2 2600:1::/40
    eu-west-2 EC2 3.8.0.0/24
    GLOBAL EC2 99.0.0.0/24
    GLOBAL EC2 99.0.1.0/24
    GLOBAL EC2 2600:2::/40
    GLOBAL CLOUDFRONT 13.0.0.0/24
    ap-south-1 CLOUDFRONT 13.0.9.0/24
    GLOBAL CLOUDFRONT_ORIGIN_FACING 13.1.0.0/24
    us-east-1 S3 16.0.0.0/24
    us-west-2 S3 16.0.1.0/24
    eu-west-2 S3 16.0.8.0/24
    ap-south-1 S3 16.0.9.0/24
    GLOBAL S3 16.9.0.0/24
";

#[test]
fn every_set_has_its_row() {
    let mut rows: Vec<&str> = Set::VARIANTS.iter().map(|set| set.row().id.as_str()).collect();
    rows.push("connect-return");
    rows.sort_unstable();
    let mut all: Vec<&str> = catalogue().addresses.iter().map(|row| row.id.as_str()).collect();
    all.sort_unstable();
    assert_eq!(rows, all);
    for set in Set::VARIANTS {
        let row = set.row();
        let protocol = <&str>::from(row.protocol);
        assert!(set.name().ends_with(&format!("_{protocol}_{}", row.ports[0])), "{}", set.name());
    }
}

#[test]
fn the_sets_are_those_of_the_contract() {
    let selection = Selection::new(&file(FILE), &wanted(&["us-west-2"]));
    assert_eq!(
        prefixes(&selection, Set::Media),
        ["15.193.0.0/19", "54.190.198.32/28", "2600:f0f2:7100::/40"]
    );
    // EC2 has an IPv4 entry for the region and no IPv6 one: GLOBAL for IPv6 alone.
    assert_eq!(prefixes(&selection, Set::Ec2), ["44.0.0.0/16", "2600:2::/40"]);
    assert_eq!(prefixes(&selection, Set::Cloudfront), ["13.0.0.0/24", "13.0.9.0/24"]);
    assert_eq!(prefixes(&selection, Set::S3), ["16.0.0.0/23"]);
    assert!(selection.of(Set::Video).is_none());
    let only: Vec<_> = selection.global_only.iter().map(|g| (g.service.as_str(), g.family)).collect();
    assert_eq!(only, [("AMAZON_CONNECT", Family::Ipv6), ("EC2", Family::Ipv6)]);
    let [left] = &selection.left_out[..] else { panic!("{:?}", selection.left_out) };
    // Two neighbours that are one after aggregation.
    assert_eq!((left.service.as_str(), left.ipv4, left.ipv6), ("EC2", 1, 0));
}

#[test]
fn a_region_without_entries_of_a_family_falls_back_though_others_have_some() {
    let selection = Selection::new(&file(FILE), &wanted(&["us-gov-west-1", "us-west-2"]));
    let only: Vec<_> =
        selection.global_only.iter().map(|g| (g.service.as_str(), g.family, g.region.as_str())).collect();
    assert_eq!(
        only,
        [
            ("AMAZON_CONNECT", Family::Ipv4, "us-gov-west-1"),
            ("AMAZON_CONNECT", Family::Ipv6, "us-gov-west-1"),
            ("AMAZON_CONNECT", Family::Ipv6, "us-west-2"),
            ("EC2", Family::Ipv6, "us-west-2"),
        ]
    );
    assert_eq!(prefixes(&selection, Set::Ec2), ["44.0.0.0/16", "52.0.0.0/24", "2600:1::/40", "2600:2::/40"]);
}

#[test]
fn ec2_global_takes_the_other_reading() {
    let choice = Choice { regions: vec!["us-west-2".to_owned()], ..Choice::default() };
    let selection = Selection::new(&file(FILE), &Wanted::new(&choice, true));
    assert_eq!(prefixes(&selection, Set::Ec2), ["44.0.0.0/16", "99.0.0.0/23", "2600:2::/40"]);
    assert_eq!(selection.left_out, []);
}

#[test]
fn media_and_video_follow_the_configuration() {
    let choice = Choice { features: vec![Feature::Video], ..Choice::default() };
    let selection = Selection::new(&file(FILE), &Wanted::new(&choice, false));
    assert_eq!(prefixes(&selection, Set::Video), ["99.77.128.0/18"]);
    let selection = Selection::new(&file(FILE), &Wanted::new(&Choice { media: false, ..choice }, false));
    assert_eq!(prefixes(&selection, Set::Media), Vec::<String>::new());
    assert!(selection.of(Set::Video).is_none());
    assert!(selection.global_only.iter().all(|only| only.service == "EC2"), "{:?}", selection.global_only);
}

#[test]
fn unknown_regions_are_named() {
    let selection = Selection::new(&file(FILE), &wanted(&["ap-northeast-1", "us-west-2"]));
    assert_eq!(selection.unknown_regions, ["ap-northeast-1"]);
}

#[test]
fn a_star_means_the_regions_that_are_offered() {
    let ranges = read::read(NEW).unwrap();
    let all = wanted(&["*"]);
    assert!(all.all && all.regions.len() == 12 && !all.regions.iter().any(|region| region == "ap-south-1"));
    let selection = Selection::new(&ranges, &all);
    assert_eq!(selection.unknown_regions, Vec::<String>::new());
    assert_eq!(
        selection.global_only,
        [GlobalOnly {
            service: "AMAZON_CONNECT".to_owned(),
            family: Family::Ipv4,
            region: "us-gov-west-1".to_owned()
        }]
    );
    // Mumbai has ranges, and no instances; its own /24 lies in the global one, which holds everywhere.
    let media = selection.of(Set::Media).unwrap();
    assert!(!media.entries.iter().any(|entry| ranges.region(entry) == "ap-south-1"));
    assert_eq!(media.entries.len(), 34);
}

/// Of a service by region: what the contract says, for each address.
fn naive(ranges: &Ranges, wanted: &Wanted, set: Set, address: std::net::IpAddr) -> bool {
    let is_in = |region: &str, service: &str| {
        ranges.entries.iter().any(|entry| {
            ranges.region(entry) == region && ranges.service(entry) == service && entry.net.contains(&address)
        })
    };
    let has = |region: &str, service: &str| {
        ranges.entries.iter().any(|entry| {
            ranges.region(entry) == region
                && ranges.service(entry) == service
                && entry.net.addr().is_ipv4() == address.is_ipv4()
        })
    };
    let chosen = || wanted.regions.iter().map(String::as_str);
    match set {
        Set::Media => {
            is_in(GLOBAL, "AMAZON_CONNECT") || chosen().any(|region| is_in(region, "AMAZON_CONNECT"))
        }
        Set::Ec2 => {
            chosen().any(|region| is_in(region, "EC2") || !has(region, "EC2") && is_in(GLOBAL, "EC2"))
        }
        Set::Cloudfront => ranges
            .entries
            .iter()
            .any(|entry| ranges.service(entry) == "CLOUDFRONT" && entry.net.contains(&address)),
        Set::S3 => chosen().chain(["us-east-1", "us-west-2"]).any(|region| is_in(region, "S3")),
        Set::Video => unreachable!("off"),
    }
}

fn files() -> impl Strategy<Value = String> {
    let region = prop::sample::select(vec!["GLOBAL", "us-west-2", "eu-west-2", "us-east-1", "ap-south-1"]);
    let service = prop::sample::select(vec!["AMAZON_CONNECT", "EC2", "CLOUDFRONT", "S3", "AMAZON"]);
    let prefix = (0..64u32, 26..=32u8, any::<bool>()).prop_map(|(host, length, four)| match four {
        true => ipnet::Ipv4Net::new_assert((0x0a00_0000 + host).into(), length).trunc().to_string(),
        false => ipnet::Ipv6Net::new_assert(((0x2600 << 112) + u128::from(host)).into(), length + 96)
            .trunc()
            .to_string(),
    });
    let line = (region, service, prefix)
        .prop_map(|(region, service, prefix)| format!("{region} {service} {prefix}\n"));
    prop::collection::vec(line, 1..30).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn exactly_the_addresses_of_the_contract_are_selected(lines in files()) {
        let ranges = file(&lines);
        let wanted = wanted(&["us-west-2", "eu-west-2"]);
        let selection = Selection::new(&ranges, &wanted);
        for set in [Set::Media, Set::Ec2, Set::Cloudfront, Set::S3] {
            let table = &selection.of(set).unwrap().table;
            for host in 0..64u32 {
                let four = std::net::Ipv4Addr::from(0x0a00_0000 + host).into();
                let six = std::net::Ipv6Addr::from((0x2600 << 112) + u128::from(host)).into();
                for address in [four, six] {
                    prop_assert_eq!(table.contains(address), naive(&ranges, &wanted, set, address), "{} {}", set.name(), address);
                }
            }
        }
    }
}
