//! The shift window: what clients are told, and when resumption ends.

use ccpgate::tls::ManualClock;
use rustls::client::Tls12Resumption;
use rustls::version::{TLS12, TLS13};

use super::support::{Browser, Ca, MORNING, Replica, WINDOW};

#[test]
fn one_session_lasts_from_nine_to_just_before_the_window_ends() {
    let ca = Ca::new();
    for version in [&TLS13, &TLS12] {
        let clock = ManualClock::new(MORNING);
        let replica = Replica::start(&ca, &clock, &[]);
        let browser = Browser::new(&ca, version);
        let first = browser.meet(&replica);
        assert!(!first.resumed());
        assert_eq!(first.age, None);
        assert_eq!(first.alpn.as_deref(), Some(&b"h2"[..]));
        clock.set(MORNING + WINDOW - 1);
        let last = browser.meet(&replica);
        assert!(last.resumed(), "{version:?}");
        assert_eq!(last.age, Some(WINDOW - 1));
    }
}

#[test]
fn at_the_window_a_full_handshake_begins_a_new_session() {
    let ca = Ca::new();
    for past in [0, 1, 3 * 86_400] {
        for browser in [Browser::new(&ca, &TLS13), Browser::new(&ca, &TLS12), Browser::by_session_id(&ca)] {
            let clock = ManualClock::new(MORNING);
            let replica = Replica::start(&ca, &clock, &[]);
            browser.meet(&replica);
            browser.wallet.lifetimes();
            clock.set(MORNING + WINDOW + past);
            assert!(!browser.meet(&replica).resumed());
            assert!(browser.wallet.lifetimes().iter().all(|l| *l == WINDOW || *l == 0));
            assert!(browser.meet(&replica).resumed());
        }
    }
}

#[test]
fn a_chain_of_resumptions_ends_where_its_first_session_ends() {
    let ca = Ca::new();
    for version in [&TLS13, &TLS12] {
        let clock = ManualClock::new(MORNING);
        let replica = Replica::start(&ca, &clock, &[]);
        let browser = Browser::new(&ca, version);
        browser.meet(&replica);
        for hour in 1..10 {
            clock.set(MORNING + hour * 3600);
            browser.wallet.lifetimes();
            let met = browser.meet(&replica);
            assert!(met.resumed(), "{version:?} at hour {hour}");
            assert_eq!(met.age, Some(hour * 3600));
            let told = browser.wallet.lifetimes();
            assert!(!told.is_empty());
            assert!(told.iter().all(|l| *l == WINDOW - hour * 3600), "{version:?}: {told:?}");
        }
        clock.set(MORNING + WINDOW);
        assert!(!browser.meet(&replica).resumed());
        assert!(replica.shift.store().len() <= 2, "a session is one entry, however often resumed");
    }
}

#[test]
fn session_ids_resume_inside_the_window_too() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let replica = Replica::start(&ca, &clock, &[]);
    let browser = Browser::by_session_id(&ca);
    browser.meet(&replica);
    clock.set(MORNING + WINDOW - 1);
    for _ in 0..3 {
        let met = browser.meet(&replica);
        assert!(met.resumed());
        assert_eq!(met.age, Some(WINDOW - 1));
    }
}

#[test]
fn one_tls12_session_serves_six_connections() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let replica = Replica::start(&ca, &clock, &[]);
    let browser = Browser::new(&ca, &TLS12);
    browser.meet(&replica);
    assert!((0..6).all(|_| browser.meet(&replica).resumed()));
}

#[test]
fn another_server_name_means_a_full_handshake() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let replica = Replica::start(&ca, &clock, &[]);
    let browser = Browser::build(&ca, &TLS13, Tls12Resumption::Disabled, None);
    browser.meet(&replica);
    // The wallet ignores names, so the session is offered; the certificate then doesn't fit, which
    // only a full handshake can find out.
    let error = browser.try_meet(&replica, "other.example").unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn a_renewed_certificate_keeps_all_sessions() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let mut replica = Replica::start(&ca, &clock, &[]);
    let browser = Browser::new(&ca, &TLS13);
    browser.meet(&replica);
    replica.renew(&ca);
    assert!(browser.meet(&replica).resumed());
}

#[test]
fn junk_on_top_of_a_full_store_does_not_stop_newcomers() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let replica = Replica::with(&ca, &clock, &[], 50, None);
    let junk = |count: usize| {
        for _ in 0..count {
            Browser::new(&ca, &TLS13).meet(&replica);
        }
    };
    junk(50);
    junk(100);
    let honest = Browser::new(&ca, &TLS13);
    honest.meet(&replica);
    assert!(honest.meet(&replica).resumed());
    assert!(replica.shift.store().len() <= 50);
}
