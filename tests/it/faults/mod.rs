//! The fault matrix: every network of `tests/faults/*.toml` is built, and `ccpgate check` must name
//! what is wrong with it in its first line.

mod agree;
mod file;
mod healthy;
mod hostile;
mod identity;
mod media;
mod namespace;
mod network;
mod run;
mod site;
mod via;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use ccpgate::cause::Cause;
use strum::VariantArray;

use self::file::Fault;

/// Networks that stand side by side: a round is waiting, mostly.
const AT_ONCE: usize = 10;

/// Causes that only the findings of a running proxy name; `outside_ranges`, which takes a list of ranges,
/// has its tests in `outside_ranges.rs`.
const FINDINGS: [Cause; 10] = [
    Cause::NotConfigured,
    Cause::TunnelReset,
    Cause::TunnelIdle,
    Cause::OneDesk,
    Cause::ForeignProtocol,
    Cause::Limit,
    Cause::OutsideRanges,
    Cause::RangesStale,
    Cause::RangesAside,
    Cause::RangesDue,
];

/// `CCPGATE_TEST_FAULT=NAME` runs that one alone.
#[test]
fn every_fault_is_named_in_the_first_line() {
    let only = std::env::var("CCPGATE_TEST_FAULT").ok();
    let mut faults = file::all();
    faults.retain(|fault| only.as_ref().is_none_or(|only| *only == fault.name));
    assert!(!faults.is_empty(), "no such fault");
    // Those that wait longest begin first.
    faults.sort_by_key(|fault| match fault.arguments.iter().any(|argument| argument == "--ws-url") {
        true => 0,
        false if !fault.media.is_empty() || fault.via.is_some() || fault.largest_packets.is_some() => 1,
        false => 2,
    });
    let (count, begun) = (faults.len(), Instant::now());
    let wrong = side_by_side(faults, |fault| run::judge(fault).unwrap_or_default());
    eprintln!("{count} faults in {:?}", begun.elapsed());
    assert!(wrong.is_empty(), "{} of {count} are wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Judges faults side by side, and says what is wrong with each that isn't as it should be.
fn side_by_side(faults: Vec<Fault>, judge: impl Fn(&Fault) -> Vec<String> + Sync) -> Vec<String> {
    let (queue, wrong) = (Mutex::new(VecDeque::from(faults)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(fault) = queue.lock().unwrap().pop_front() else { return };
                    let begun = Instant::now();
                    let complaints = alone(&fault, &judge);
                    let how = if complaints.is_empty() { "" } else { ", WRONG" };
                    eprintln!("{}: {:.1?}{how}", fault.name, begun.elapsed());
                    if !complaints.is_empty() {
                        let text = complaints.join("\n");
                        wrong.lock().unwrap().push(format!("--- {}: {}\n{text}", fault.name, fault.about));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// Judges a fault on a thread of its own, which keeps the namespace that it enters.
fn alone(fault: &Fault, judge: &(impl Fn(&Fault) -> Vec<String> + Sync)) -> Vec<String> {
    let judge = || catch_unwind(AssertUnwindSafe(|| judge(fault)));
    let judged = std::thread::scope(|scope| scope.spawn(judge).join().unwrap());
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        vec![format!("the test panicked: {}", text.or_else(|| panic.downcast_ref().copied()).unwrap_or("?"))]
    })
}

#[test]
fn every_cause_that_check_can_name_has_a_fault() {
    let all =
        |causes: &[Cause]| causes.iter().map(|cause| cause.as_str().to_owned()).collect::<BTreeSet<_>>();
    let expected = &all(Cause::VARIANTS) - &all(&FINDINGS);
    let named: BTreeSet<String> = file::all().into_iter().filter_map(|fault| fault.expect.cause).collect();
    assert_eq!(named, expected);
}

/// What a file expects fits the table of causes, and its name begins with the cause.
#[test]
fn the_files_are_sound() {
    for fault in file::all() {
        let cause =
            fault.expect.cause.as_ref().map(|word| {
                word.parse::<Cause>().unwrap_or_else(|_| panic!("{}: no cause {word}", fault.name))
            });
        let owner = cause.map(|cause| cause.about().owner.as_str());
        assert_eq!(fault.expect.owner.as_deref(), owner, "{}", fault.name);
        let exit = i32::from(fault.expect.verdict == "failed");
        assert_eq!(fault.expect.exit, exit, "{}", fault.name);
        let word = cause.map_or("healthy", Cause::as_str).replace('_', "-");
        assert!(fault.name.starts_with(&word), "{} begins with {word}", fault.name);
        assert_eq!(fault.about.lines().count(), 1, "{}", fault.name);
    }
}

/// The runner notices what is wrong: in each of these the file says another thing than the network.
#[test]
fn a_wrong_answer_is_noticed() {
    let fault = |name: &str| file::all().into_iter().find(|fault| fault.name == name).unwrap();
    let judge = |fault: &Fault| alone(fault, &|fault: &Fault| run::judge(fault).unwrap_or_default());
    assert_eq!(judge(&fault("tcp-refused")), Vec::<String>::new());

    let mut other_cause = fault("tcp-refused");
    other_cause.expect.cause = Some("tcp_timeout".to_owned());
    let mut other_owner = fault("tcp-refused");
    other_owner.expect.owner = Some("network".to_owned());
    let mut other_words = fault("tcp-refused");
    other_words.expect.summary.push("blue elephant".to_owned());
    let mut no_fault = fault("healthy");
    no_fault.expect = fault("tcp-refused").expect;
    for (wrong, complaint) in [
        (other_cause, "cause is \"tcp_refused\", expected \"tcp_timeout\""),
        (other_owner, "owner is \"firewall\", expected \"network\""),
        (other_words, "the summary lacks \"blue elephant\""),
        (no_fault, "verdict is \"ok\", expected \"failed\""),
    ] {
        let complaints = judge(&wrong);
        assert!(complaints.iter().any(|c| c.contains(complaint)), "{complaint}: {complaints:#?}");
    }
}
