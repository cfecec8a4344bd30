//! Shared ticket keys: replicas, restarts, and rolling a key.

use std::path::PathBuf;

use ccpgate::tls::{ManualClock, keys};
use rustls::version::{TLS12, TLS13};

use super::support::{Browser, Ca, MORNING, Replica, WINDOW};

fn make(ca: &Ca, name: &str) -> PathBuf {
    let path = ca.file(name);
    keys::create(&path).unwrap();
    path
}

#[test]
fn any_replica_resumes_before_and_after_a_restart() {
    let ca = Ca::new();
    let keys = [make(&ca, "a")];
    for version in [&TLS13, &TLS12] {
        let clock = ManualClock::new(MORNING);
        let one = Replica::start(&ca, &clock, &keys);
        let browser = Browser::new(&ca, version);
        browser.meet(&one);
        drop(one);
        clock.advance(3600);
        let two = Replica::start(&ca, &clock, &keys);
        let met = browser.meet(&two);
        assert!(met.resumed(), "{version:?}");
        assert_eq!(met.age, Some(3600));
        clock.set(MORNING + WINDOW - 1);
        assert!(browser.meet(&Replica::start(&ca, &clock, &keys)).resumed());
        clock.advance(1);
        assert!(!browser.meet(&two).resumed(), "its key is still there, its time is over");
    }
}

#[test]
fn without_keys_a_restart_means_a_full_handshake() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let browser = Browser::new(&ca, &TLS13);
    browser.meet(&Replica::start(&ca, &clock, &[]));
    assert!(!browser.meet(&Replica::start(&ca, &clock, &[])).resumed());
}

#[test]
fn with_keys_tls13_sessions_take_no_memory() {
    let ca = Ca::new();
    let keys = [make(&ca, "a")];
    let replica = Replica::start(&ca, &ManualClock::new(MORNING), &keys);
    Browser::new(&ca, &TLS13).meet(&replica);
    assert!(replica.shift.store().is_empty());
}

/// The order of the manual: the new key second everywhere, then first, then the old one away.
#[test]
fn a_key_rolls_without_losing_a_session() {
    let ca = Ca::new();
    let (old, new) = (make(&ca, "old"), make(&ca, "new"));
    let clock = ManualClock::new(MORNING);
    let one = Replica::start(&ca, &clock, std::slice::from_ref(&old));
    let two = Replica::start(&ca, &clock, std::slice::from_ref(&old));
    let early = Browser::new(&ca, &TLS13);
    early.meet(&one);

    let steps = [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]];
    for files in &steps {
        // Replicas are never changed at the same instant.
        for (changed, other) in [(&one, &two), (&two, &one)] {
            changed.set_keys(files);
            clock.advance(60);
            for _ in 0..3 {
                assert!(early.meet(changed).resumed());
                assert!(early.meet(other).resumed());
            }
        }
    }
    // A session sealed with the new key survives the end of the old one.
    for replica in [&one, &two] {
        replica.set_keys(std::slice::from_ref(&new));
        assert!(early.meet(replica).resumed());
    }
}

/// What the manual warns of: first at once, before the others know it.
#[test]
fn a_key_that_comes_first_too_early_is_not_opened_elsewhere() {
    let ca = Ca::new();
    let (old, new) = (make(&ca, "old"), make(&ca, "new"));
    let clock = ManualClock::new(MORNING);
    let one = Replica::start(&ca, &clock, &[new.clone(), old.clone()]);
    let two = Replica::start(&ca, &clock, &[old]);
    let browser = Browser::new(&ca, &TLS13);
    browser.meet(&one);
    assert!(!browser.meet(&two).resumed());
}

#[test]
fn a_removed_key_ends_its_sessions() {
    let ca = Ca::new();
    let (old, new) = (make(&ca, "old"), make(&ca, "new"));
    let replica = Replica::start(&ca, &ManualClock::new(MORNING), &[old]);
    let browser = Browser::new(&ca, &TLS13);
    browser.meet(&replica);
    replica.set_keys(&[new]);
    assert!(!browser.meet(&replica).resumed());
}

#[test]
fn sessions_in_memory_go_on_when_keys_are_configured() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let replica = Replica::start(&ca, &clock, &[]);
    let browser = Browser::new(&ca, &TLS13);
    browser.meet(&replica);
    let keys = [make(&ca, "a")];
    replica.set_keys(&keys);
    clock.advance(60);
    assert!(browser.meet(&replica).resumed());
    // What it got then is sealed with the file's key, birthday kept.
    let met = browser.meet(&Replica::start(&ca, &clock, &keys));
    assert!(met.resumed());
    assert_eq!(met.age, Some(60));
}

#[test]
fn clocks_of_replicas_may_differ_by_a_minute() {
    let ca = Ca::new();
    let keys = [make(&ca, "a")];
    for (behind, resumes) in [(60, true), (61, false)] {
        let browser = Browser::new(&ca, &TLS13);
        browser.meet(&Replica::start(&ca, &ManualClock::new(MORNING), &keys));
        browser.wallet.lifetimes();
        let slow = ManualClock::new(MORNING - behind);
        assert_eq!(browser.meet(&Replica::start(&ca, &slow, &keys)).resumed(), resumes);
        assert!(browser.wallet.lifetimes().iter().all(|l| *l == WINDOW), "never more than the window");
    }
}
