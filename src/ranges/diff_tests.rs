use super::*;
use crate::catalogue::Choice;
use crate::ranges::select::Wanted;
use crate::ranges::testing;

/// A version of that day with lines `region service prefix`.
fn version(day: &str, lines: &[&str]) -> Version {
    let token = day.replace('-', "");
    let ranges = testing::ranges(&token, &format!("{day}-12-00-00"), lines.iter().copied());
    let choice = Choice { regions: vec!["us-west-2".to_owned()], ..Choice::default() };
    let selection = Selection::new(&ranges, &Wanted::new(&choice, false));
    Version { ranges, selection }
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn diff(old: &Version, new: &Version, between: &[Version]) -> Diff {
    Diff::new(old, new, between, date("2026-01-20")).unwrap()
}

fn added(diff: &Diff) -> Vec<String> {
    diff.added.iter().map(|a| format!("{} {} {}", a.region, a.service, a.prefix)).collect()
}

const BASE: &[&str] = &["us-west-2 AMAZON_CONNECT 15.193.7.0/24", "us-west-2 EC2 44.0.0.0/16"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    BASE.iter().chain(more).copied().collect()
}

#[test]
fn deadlines_are_promised_for_connect_alone() {
    let old = version("2026-01-01", BASE);
    let new = version(
        "2026-01-11",
        &with(&["us-west-2 AMAZON_CONNECT 54.190.198.32/28", "us-west-2 EC2 44.1.0.0/16"]),
    );
    let diff = diff(&old, &new, &[]);
    let [connect, ec2] = &diff.added[..] else { panic!("{diff:?}") };
    assert_eq!((connect.promised, connect.deadline), (true, date("2026-02-10")));
    assert_eq!(connect.safe_deadline, Some(date("2026-01-31")));
    assert_eq!(connect.first_seen, [date("2026-01-01"), date("2026-01-11")]);
    assert!(!connect.may_be_in_use);
    assert_eq!((ec2.promised, ec2.deadline, ec2.safe_deadline), (false, date("2026-02-10"), None));
    assert!(ec2.may_be_in_use);
    assert_eq!(diff.due(date("2026-01-20")), Some(date("2026-01-20")));
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["added"][0]["first_seen"], serde_json::json!(["2026-01-01", "2026-01-11"]));
    assert_eq!(json["added"][0]["safe_deadline"], "2026-01-31");
    assert_eq!(json["added"][0]["prefix"], "54.190.198.32/28");
    assert!(json["added"][1]["safe_deadline"].is_null());
    assert_eq!(json["schema_version"], 1);
}

#[test]
fn past_deadlines_are_told_as_such() {
    let old = version("2021-05-12", BASE);
    let new = version("2026-01-11", &with(&["GLOBAL AMAZON_CONNECT 2600:f0f2:7100::/40"]));
    let diff = diff(&old, &new, &[]);
    assert_eq!(diff.added[0].deadline, date("2026-02-10"));
    assert_eq!(diff.added[0].safe_deadline, Some(date("2021-06-11")));
    assert!(diff.added[0].may_be_in_use);
    let text = crate::ranges::tell::text(&diff, date("2026-01-20"));
    assert!(text.contains("may be in use already, since 2021-06-11"), "{text}");
    assert!(text.contains("let through now: 1"), "{text}");
}

#[test]
fn the_history_tells_when_a_prefix_appeared() {
    const MORE: &str = "us-west-2 AMAZON_CONNECT 54.190.198.32/28";
    let old = version("2025-06-01", BASE);
    let new = version("2026-01-11", &with(&[MORE]));
    let between = [
        version("2025-12-20", &with(&[MORE])),
        version("2025-12-10", BASE),
        // Of no account: before OLD and after NEW.
        version("2025-05-01", &with(&[MORE])),
        version("2026-01-15", BASE),
    ];
    let first = |between: &[Version]| diff(&old, &new, between).added[0].first_seen;
    assert_eq!(first(&between), [date("2025-12-10"), date("2025-12-20")]);
    assert_eq!(first(&between[..1]), [date("2025-06-01"), date("2025-12-20")]);
    assert_eq!(first(&between[1..]), [date("2025-12-10"), date("2026-01-11")]);
    // Came, went, and came again: what was published first may count for AWS.
    let again =
        [version("2025-11-01", &with(&[MORE])), version("2025-11-02", BASE), version("2025-10-01", BASE)];
    assert_eq!(first(&again), [date("2025-10-01"), date("2025-11-01")]);
    // A part of it that appeared earlier is in use earlier.
    let part = [version("2025-09-01", &with(&["us-west-2 AMAZON_CONNECT 54.190.198.40/29"]))];
    assert_eq!(first(&part), [date("2025-06-01"), date("2025-09-01")]);
}

#[test]
fn only_what_opens_an_address_is_added() {
    let old = version("2026-01-01", BASE);
    for same in [
        // Another tag, a part, a half and a half, a bigger one's part under another service of that port.
        vec!["GLOBAL AMAZON_CONNECT 15.193.7.0/24", "us-west-2 EC2 44.0.0.0/16"],
        with(&["us-west-2 AMAZON_CONNECT 15.193.7.128/25"]),
        vec![
            "us-west-2 AMAZON_CONNECT 15.193.7.0/25",
            "us-west-2 AMAZON_CONNECT 15.193.7.128/25",
            "us-west-2 EC2 44.0.0.0/16",
        ],
        with(&["us-west-2 S3 44.0.7.0/24"]),
        // What this configuration doesn't use.
        with(&[
            "eu-west-2 AMAZON_CONNECT 15.193.5.0/24",
            "eu-west-2 EC2 3.0.0.0/8",
            "us-west-2 AMAZON 9.0.0.0/8",
        ]),
    ] {
        let diff = diff(&old, &version("2026-01-11", &same), &[]);
        assert_eq!((added(&diff), diff.removed.len()), (Vec::new(), 0), "{same:?}");
    }
    // The same addresses on another port are news; so is a prefix that is wider than what was there.
    let new = version(
        "2026-01-11",
        &with(&["us-west-2 AMAZON_CONNECT 44.0.7.0/24", "us-west-2 AMAZON_CONNECT 15.193.6.0/23"]),
    );
    assert_eq!(
        added(&diff(&old, &new, &[])),
        ["us-west-2 AMAZON_CONNECT 15.193.6.0/23", "us-west-2 AMAZON_CONNECT 44.0.7.0/24"]
    );
}

#[test]
fn removed_is_what_leaves_an_address_closed() {
    let old = version("2026-01-01", &with(&["us-west-2 AMAZON_CONNECT 54.190.198.32/28"]));
    let diff = diff(&old, &version("2026-01-11", BASE), &[]);
    assert_eq!(diff.added, []);
    let gone: Vec<_> = diff.removed.iter().map(|r| r.prefix.to_string()).collect();
    assert_eq!(gone, ["54.190.198.32/28"]);
    assert_eq!(diff.due(date("2026-01-20")), None);
}

#[test]
fn swapped_versions_are_refused() {
    let (old, new) = (version("2026-01-01", BASE), version("2026-01-11", BASE));
    let why = Diff::new(&new, &old, &[], date("2026-01-20")).unwrap_err();
    assert!(why.contains("OLD, of 2026-01-11-12-00-00, is newer than NEW"), "{why}");
    let same = diff(&old, &old, &[]);
    assert!(same.added.is_empty() && same.removed.is_empty());
}

#[test]
fn every_entry_is_told_once() {
    let old = version("2026-01-01", BASE);
    let twice = "us-west-2 AMAZON_CONNECT 54.190.198.32/28";
    let new = version("2026-01-11", &with(&[twice, twice]));
    assert_eq!(added(&diff(&old, &new, &[])), [twice]);
}
