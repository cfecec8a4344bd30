//! A healthy network says nothing alarming, however often it is asked and however long its line; and
//! an answer comes in time, from a dead network, too.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::file::{self, Fault, Place};
use super::namespace;
use super::network::{Asked, Network};
use super::run::Running;
use super::wire::{self, Line};

/// Rounds that run at once.
const AT_ONCE: usize = 4;
const REGION: Duration = Duration::from_secs(10);
const DEAD: Duration = Duration::from_secs(20);

fn fault(name: &str) -> Fault {
    file::all().into_iter().find(|fault| fault.name == name).unwrap()
}

/// Runs `run` on a thread of its own, which keeps the namespace that it enters.
fn apart(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap());
}

/// What alarmed in so many rounds.
fn alarms(asked: &Asked, rounds: usize) -> Vec<String> {
    let (left, alarms) = (AtomicUsize::new(rounds), Mutex::new(Vec::new()));
    let longest = Mutex::new(Duration::ZERO);
    let one_less = |left: usize| left.checked_sub(1);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    let ran = Running::start(asked, &["--json"]).end().unwrap();
                    let report: Value = serde_json::from_str(&ran.stdout)
                        .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr));
                    if ran.code != 0 || report["verdict"] != "ok" || !report["cause"].is_null() {
                        alarms.lock().unwrap().push(format!("{report:#}"));
                    }
                    let mut longest = longest.lock().unwrap();
                    *longest = ran.took.max(*longest);
                }
            });
        }
    });
    eprintln!("{rounds} rounds, the longest {:?}", longest.into_inner().unwrap());
    alarms.into_inner().unwrap()
}

/// A third on loopback, a third in a network of its own, a third over a long line with losses.
fn rounds(count: usize) {
    let all = Mutex::new(Vec::new());
    let keep = |which: &str, found: Vec<String>| {
        let mut all = all.lock().unwrap();
        all.extend(found.into_iter().map(|report| format!("{which}: {report}")));
    };
    keep("loopback", alarms(&Network::build(&fault("healthy")).asked, count / 3));
    apart(|| match namespace::enter() {
        Ok(()) => {
            let network = Network::build(&fault("healthy-namespace"));
            keep("namespace", alarms(&network.asked, count / 3));
        }
        Err(why) => namespace::skipped("rounds in a namespace", &why),
    });
    apart(|| {
        let line = Line { round_trip: Duration::from_millis(200), loss_percent: 1, seed: 7, largest: None };
        let over = |asked: &Asked| keep("200 ms and 1 % loss", alarms(asked, count - 2 * (count / 3)));
        if let Err(why) = wire::across(line, &fault("healthy-namespace"), over) {
            namespace::skipped("rounds over a long line", &why);
        }
    });
    let all = all.into_inner().unwrap();
    assert!(all.is_empty(), "{} false alarms in {count} rounds\n{}", all.len(), all.join("\n"));
}

#[test]
fn a_healthy_network_raises_no_alarm() {
    rounds(18);
}

#[test]
#[ignore = "a figure: takes minutes"]
fn a_healthy_network_raises_no_alarm_in_300_rounds() {
    rounds(300);
}

/// The line does what it says: else the rounds above would prove nothing.
#[test]
fn the_long_line_is_long() {
    apart(|| {
        let line = Line { round_trip: Duration::from_millis(200), loss_percent: 0, seed: 7, largest: None };
        let over = |asked: &Asked| {
            let ran = Running::start(asked, &["--json"]).end().unwrap();
            let report: Value = serde_json::from_str(&ran.stdout).unwrap();
            let endpoints = report["endpoints"].as_array().unwrap();
            let times: Vec<u64> = endpoints.iter().filter_map(|e| e["rtt_ms"].as_u64()).collect();
            assert!(!times.is_empty() && times.iter().all(|ms| (200..2000).contains(ms)), "{report:#}");
        };
        if let Err(why) = wire::across(line, &fault("healthy-namespace"), over) {
            namespace::skipped("a round over a long line", &why);
        }
    });
}

/// With the time limits that a fresh configuration has.
#[test]
fn an_answer_comes_in_time() {
    let limits = "egress.connect_timeout = \"5s\"\ndns.timeout = \"3s\"";
    let took = |fault: Fault, verdict: &str| {
        let ran = Running::start(&Network::build(&fault).asked, &["--json"]).end().unwrap();
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["verdict"], verdict, "{report:#}");
        eprintln!("{}: {:?}", fault.name, ran.took);
        ran.took
    };
    let of = |name: &str| {
        let mut fault = fault(name);
        super::network::merge(&mut fault.config, limits.parse().unwrap());
        fault
    };
    assert!(took(of("healthy"), "ok") < REGION);
    assert!(took(of("dns-timeout"), "failed") < DEAD);
    apart(|| match namespace::enter() {
        Ok(()) => assert!(took(of("tcp-timeout-all"), "failed") < DEAD),
        Err(why) => namespace::skipped("a round on a dead network", &why),
    });
    let mut silent = of("tls-failed-silent");
    silent.site.iter_mut().for_each(|site| site.hosts.clear());
    assert_eq!(silent.place, Place::Loopback);
    assert!(took(silent, "failed") < DEAD);
}
