//! What is said of what was seen.

use std::time::Duration;

use super::*;
use crate::agent::hops::LastHop;
use crate::agent::stun::{Answer, Ask};
use crate::agent::turn::{Probed, Refusal};
use crate::catalogue::Choice;
use crate::cause::{Cause, Owner};
use crate::diagnose::finding;
use crate::diagnose::verify::{Asked, place};
use crate::policy::Protocol;
use crate::ranges::select::Wanted;
use crate::ranges::testing;

const TODAY: Date = jiff::civil::date(2026, 11, 27);

/// A version with so many media prefixes.
fn current(count: usize) -> Current {
    let entries: Vec<String> =
        (0..count).map(|at| format!("us-west-2 AMAZON_CONNECT 15.193.{at}.0/24")).collect();
    let ranges = testing::ranges("1", "2026-11-20-00-00-00", entries.iter().map(String::as_str));
    let choice = Choice { regions: vec!["us-west-2".into()], ..Choice::default() };
    Current::new(ranges, Vec::new(), &Wanted::new(&choice, false))
}

fn probed(address: &str, answers: bool, refusal: Option<Refusal>) -> Probed {
    let answer = Answer { to: Ask::Allocate, error: Some(401) };
    Probed {
        address: address.parse().unwrap(),
        answer: answers.then_some(answer),
        round_trips: vec![Duration::from_millis(20)],
        sent: 0,
        lost: 0,
        ignored: 0,
        refusal,
    }
}

fn asked(probes: Vec<Probed>, hop: Option<u8>) -> Asked {
    let router = "10.0.0.1".parse().unwrap();
    Asked::Probes { probes, last_hop: hop.map(|hop| LastHop { hop, router }) }
}

/// Every prefix that a name resolves into is what `how` says.
fn report(current: &Current, pending: &[Added], how: impl Fn(usize, &str) -> Option<Asked>) -> Report {
    let addresses = |at| format!("15.193.{at}.7:3478");
    let all = current.version.ranges.entries.len();
    let found: Vec<_> =
        (0..all).map(|at| (format!("turn{at}"), vec![addresses(at).parse().unwrap()])).collect();
    let places = place::sort(&current.version, &found, &[]);
    let places = places.into_iter().enumerate().map(|(at, mut place)| match how(at, &addresses(at)) {
        Some(asked) => (place, asked),
        None => {
            place.addresses.clear();
            place.names.clear();
            (place, Asked::Nobody)
        }
    });
    let seen = Seen { places: places.collect(), unresolved: Vec::new(), hosts: Hosts::Left };
    Report::new(seen, current, true, Deadlines { pending, since: None, today: TODAY })
}

fn pending(prefix: &str, due: Date) -> Added {
    Added {
        prefix: prefix.parse().unwrap(),
        service: "AMAZON_CONNECT".into(),
        region: "us-west-2".into(),
        protocol: Protocol::Udp,
        port: "3478",
        deadline: due,
        promised: true,
        first_seen: [due, due],
        safe_deadline: Some(due),
        may_be_in_use: false,
    }
}

fn open(address: &str) -> Option<Asked> {
    Some(asked(vec![probed(address, true, None)], None))
}

#[test]
fn the_first_line_says_what_is_closed_where_and_by_when_it_is_due() {
    let current = current(13);
    let due = pending("15.193.6.0/24", jiff::civil::date(2026, 12, 12));
    let said = report(&current, &[due], |at, address| match at {
        6 => Some(asked(vec![probed(address, false, None)], Some(3))),
        _ => open(address),
    });
    let first = "12 of 13 open; 15.193.6.0/24 closed after hop 3; due 12 December";
    assert!(said.summary.starts_with(first), "{}", said.summary);
    assert_eq!((said.verdict, said.open, said.tried), (Verdict::Closed, 12, 13));
    let row = said.closed().next().unwrap();
    assert_eq!((row.after_hop, row.owner), (Some(3), Some(Owner::Firewall)));
    assert!(row.detail.ends_with("dropped after hop 3, 10.0.0.1"), "{}", row.detail);
    assert!(row.remedy.as_deref().unwrap().contains("15.193.6.0/24"));
    // A hop that nobody told of is not made up.
    let said = report(&current, &[], |at, address| match at {
        0..5 => Some(asked(vec![probed(address, false, None)], None)),
        _ => open(address),
    });
    let first = "8 of 13 open; 15.193.0.0/24 closed (after which hop is not known); 15.193.1.0/24 closed";
    assert!(said.summary.starts_with(first) && said.summary.contains("2 more closed"), "{}", said.summary);
}

#[test]
fn silence_of_all_has_two_readings_unless_somebody_says_what_it_is() {
    let silent =
        |refusal| move |_, address: &str| Some(asked(vec![probed(address, false, refusal)], Some(2)));
    let current = current(3);
    assert!(report(&current, &[], silent(None)).is_silent());
    assert!(!report(&current, &[], silent(Some(Refusal::Here { errno: libc::EPERM }))).is_silent());
}

#[test]
fn what_was_not_tried_is_never_open() {
    let current = current(3);
    let said = report(&current, &[], |at, address| if at == 1 { open(address) } else { None });
    assert_eq!((said.verdict, said.open, said.tried), (Verdict::Open, 1, 1));
    assert_eq!(said.prefixes.iter().filter(|row| row.status == Status::NotTried).count(), 2);
    let said = report(&current, &[], |_, _| None);
    assert_eq!((said.verdict, said.tried), (Verdict::Unproven, 0));
    assert!(said.summary.starts_with("no media prefix could be tried"), "{}", said.summary);
}

#[test]
fn an_open_address_elsewhere_proves_nothing_of_the_prefixes() {
    let current = current(1);
    let found = [("turn".to_owned(), vec!["192.0.2.7:3478".parse().unwrap()])];
    let places = place::sort(&current.version, &found, &[]);
    let asked = |place: place::Place| match place.names.is_empty() {
        true => (place, Asked::Nobody),
        false => (place, open("192.0.2.7:3478").unwrap()),
    };
    let places = places.into_iter().map(asked).collect();
    let seen = Seen { places, unresolved: Vec::new(), hosts: Hosts::Left };
    let report = Report::new(seen, &current, true, Deadlines { pending: &[], since: None, today: TODAY });
    assert_eq!((report.verdict, report.outside.len(), report.tried), (Verdict::Unproven, 1, 0));
}

#[test]
fn a_family_without_a_way_is_not_tried_and_one_lost_way_is_closed() {
    let current = current(2);
    let no_way = |address: &str| Some(asked(vec![probed(address, false, Some(Refusal::NoWay))], None));
    let said = report(&current, &[], |at, address| if at == 0 { open(address) } else { no_way(address) });
    assert_eq!((said.verdict, said.tried), (Verdict::Closed, 2));
    assert!(said.closed().next().unwrap().detail.ends_with("this machine has no route there"));
    let said = report(&current, &[], |_, address| no_way(address));
    assert_eq!((said.verdict, said.tried), (Verdict::Unproven, 0));
}

#[test]
fn what_this_machine_had_no_socket_for_is_not_proven() {
    let current = current(2);
    let no_socket = |address: &str| probed(address, false, Some(Refusal::NoSocket));
    let said = report(&current, &[], |_, address| Some(asked(vec![no_socket(address)], None)));
    assert_eq!((said.verdict, said.tried), (Verdict::Unproven, 0));
    // The other prefix is open, and names lead into this one all the same.
    let said = report(&current, &[], |at, address| match at {
        0 => open(address),
        _ => Some(asked(vec![no_socket(address)], None)),
    });
    assert_eq!((said.verdict, said.open, said.tried), (Verdict::Unproven, 1, 1));
    // An address that was asked in vain says that the prefix is closed, whatever the others lacked.
    let said = report(&current, &[], |at, address| match at {
        0 => open(address),
        _ => Some(asked(vec![probed(address, false, None), no_socket("15.193.1.8:3478")], None)),
    });
    assert_eq!((said.verdict, said.open, said.tried), (Verdict::Closed, 1, 2));
}

#[test]
fn where_nothing_is_to_be_tried_nothing_is_proven() {
    let said = |hosts| {
        let seen = Seen { places: Vec::new(), unresolved: Vec::new(), hosts };
        let deadlines = Deadlines { pending: &[], since: None, today: TODAY };
        Report::new(seen, &current(1), false, deadlines).verdict
    };
    // Agents have no media, and TLS is left out or somebody else's.
    assert_eq!([said(Hosts::Left), said(Hosts::ByProxy)], [Verdict::Unproven; 2]);
}

#[test]
fn one_dead_server_does_not_close_a_prefix() {
    let said = report(&current(1), &[], |_, address| {
        Some(asked(vec![probed(address, false, None), probed("15.193.0.8:3478", true, None)], None))
    });
    let row = &said.prefixes[0];
    assert_eq!((said.verdict, row.status), (Verdict::Open, Status::Open));
    assert_eq!(row.address, "15.193.0.8".parse().ok());
    assert!(row.detail.ends_with("no answer in 8 s from 15.193.0.7:3478"), "{}", row.detail);
}

#[test]
fn names_that_do_not_resolve_leave_it_unproven() {
    let current = current(1);
    let found = finding::failed(Cause::DnsNxdomain, "NXDOMAIN");
    let place =
        place::sort(&current.version, &[("a".to_owned(), vec!["15.193.0.7:3478".parse().unwrap()])], &[]);
    let places = place.into_iter().map(|place| (place, open("15.193.0.7:3478").unwrap())).collect();
    let seen =
        Seen { places, unresolved: vec![("turn".to_owned(), found)], hosts: Hosts::Sampled(Vec::new()) };
    let report = Report::new(seen, &current, true, Deadlines { pending: &[], since: None, today: TODAY });
    assert_eq!(report.verdict, Verdict::Unproven);
    assert_eq!(
        report.summary,
        "1 of 1 open; 1 TURN name doesn't resolve; TLS: not tried, no host of the allow list resolves"
    );
}

#[test]
fn days_are_said_as_people_say_them() {
    for (day, said) in [
        ((2026, 12, 12), "due 12 December"),
        ((2026, 11, 27), "due since 27 November"),
        ((2027, 1, 3), "due 3 January 2027"),
        ((2025, 1, 3), "due since 3 January 2025"),
    ] {
        assert_eq!(due(jiff::civil::date(day.0, day.1, day.2), TODAY), said);
    }
}
