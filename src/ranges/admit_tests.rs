use super::*;
use crate::catalogue::Choice;
use crate::ranges::testing;

fn ranges(token: u64, date: &str, lines: &[&str]) -> Ranges {
    testing::ranges(&token.to_string(), &format!("{date}-12-00-00"), lines.iter().copied())
}

fn wanted() -> Wanted {
    Wanted::new(&Choice { regions: vec!["us-west-2".to_owned()], ..Choice::default() }, false)
}

fn now() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

const MEDIA: [&str; 4] = [
    "GLOBAL AMAZON_CONNECT 15.193.0.0/19",
    "us-west-2 AMAZON_CONNECT 18.236.61.0/25",
    "us-west-2 AMAZON_CONNECT 54.190.198.32/28",
    "GLOBAL AMAZON_CONNECT 2600:f0f2:7100::/40",
];

fn after(before: &[&str], token: u64, date: &str, lines: &[&str]) -> Verdict {
    let before = Current::new(ranges(10, "2026-01-10", before), Vec::new(), &wanted());
    judge(Some(&before), ranges(token, date, lines), &wanted(), now())
}

#[test]
fn a_process_remembers_no_more_versions_than_the_folder_keeps() {
    const HOUR: u64 = 3600;
    let mut current = None;
    // One every six hours, for a year.
    for n in 0..1460 {
        let version = ranges(1_795_770_000 + n * 6 * HOUR, "2026-01-10", &MEDIA[..1]);
        current = Some(Current::after(current.as_ref(), version, &wanted()));
    }
    let history = current.unwrap().history;
    assert!(history.len() < 60, "{}", history.len());
    let span = history.last().unwrap().ranges.sync_token - history[0].ranges.sync_token;
    assert!(span >= 45 * 24 * HOUR, "{span}");
}

#[test]
fn the_file_only_ever_moves_on() {
    let first = judge(None, ranges(10, "2026-01-10", &MEDIA), &wanted(), now());
    assert!(matches!(first, Verdict::Take(_)), "{first:?}");
    let Verdict::Take(next) = after(&MEDIA, 11, "2026-01-11", &MEDIA) else { panic!() };
    let tokens: Vec<u64> = next.history.iter().map(|version| version.ranges.sync_token).collect();
    assert_eq!((next.sync_token(), tokens), (11, vec![10]));
    assert!(
        next.selection_of(10).is_some() && next.selection_of(11).is_some() && next.selection_of(9).is_none()
    );
    assert!(matches!(after(&MEDIA, 10, "2026-01-10", &MEDIA), Verdict::Unchanged));
    for (token, date, lines, why) in [
        (10, "2026-01-10", &MEDIA[..3], "another content"),
        (9, "2026-01-09", &MEDIA[..], "it is older"),
        (9, "2026-01-11", &MEDIA[..], "it is older"),
        (11, "2026-01-09", &MEDIA[..], "two versions were mixed up"),
        (11, "2026-03-02", &MEDIA[..], "lies ahead of this machine's clock"),
    ] {
        match after(&MEDIA, token, date, lines) {
            Verdict::Refused(text) | Verdict::Older(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{token} {date}: {other:?}"),
        }
    }
}

#[test]
fn no_set_loses_half_of_what_it_has_unseen() {
    let aside = |lines: &[&str]| match after(&MEDIA, 11, "2026-01-11", lines) {
        Verdict::Aside(why) => Some(why),
        Verdict::Take(_) => None,
        other => panic!("{other:?}"),
    };
    // Two small ones of three prefixes go: most prefixes, hardly an address.
    let why = aside(&[MEDIA[0], MEDIA[3]]).unwrap();
    assert!(why.starts_with("media_udp_3478 loses 2 of its 3 IPv4 prefixes"), "{why}");
    // The large one goes: most addresses.
    assert_eq!(aside(&MEDIA[1..]).unwrap(), "media_udp_3478 loses 98 % of its IPv4 addresses");
    assert_eq!(aside(&MEDIA[..3]).unwrap(), "media_udp_3478 loses all its IPv6 prefixes, 1");
    assert!(aside(&["us-west-2 EC2 44.0.0.0/16"]).unwrap().contains("loses all its IPv4 prefixes, 3"));
    // One of three may go, a hole may come, and so may anything new.
    assert_eq!(aside(&[MEDIA[0], MEDIA[1], MEDIA[3]]), None);
    let holed = ["GLOBAL AMAZON_CONNECT 15.193.0.0/20", MEDIA[1], MEDIA[2], MEDIA[3]];
    assert_eq!(aside(&holed), None);
    assert_eq!(aside(&[&MEDIA[..], &["us-west-2 EC2 44.0.0.0/16"]].concat()), None);
    // What this configuration doesn't use may go.
    let more = [&MEDIA[..], &["eu-central-1 EC2 45.0.0.0/16"]].concat();
    assert!(matches!(after(&more, 11, "2026-01-11", &MEDIA), Verdict::Take(_)));
    // A region that is gone altogether; service AMAZON, which dials are judged by.
    let why = aside(&["GLOBAL AMAZON_CONNECT 15.193.0.0/19", MEDIA[3]]).unwrap();
    assert!(why.contains("nothing of us-west-2 any more"), "{why}");
    let amazon = [&MEDIA[..], &["us-west-2 AMAZON 44.0.0.0/16"]].concat();
    let Verdict::Aside(why) = after(&amazon, 11, "2026-01-11", &MEDIA) else { panic!() };
    assert_eq!(why, "AMAZON loses all its IPv4 prefixes, 1");
}
