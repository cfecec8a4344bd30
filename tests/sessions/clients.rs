//! Client certificates: resumption keeps the check.

use ccpgate::tls::{ManualClock, client, keys};
use rustls::client::Tls12Resumption;
use rustls::version::{TLS12, TLS13};

use super::support::{Browser, Ca, MORNING, Replica, WINDOW};

fn agent(ca: &Ca, version: &'static rustls::SupportedProtocolVersion, ends: u64) -> Browser {
    Browser::build(ca, version, Tls12Resumption::SessionIdOrTickets, Some(ca.agent(ends)))
}

#[test]
fn without_a_certificate_the_handshake_fails() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let replica = Replica::with(&ca, &ManualClock::new(MORNING), &[], 100, Some(ca.client_authority()));
    for version in [&TLS13, &TLS12] {
        assert!(Browser::new(&ca, version).try_meet(&replica, "proxy.example").is_err());
        let stranger = foreign.agent(MORNING + WINDOW);
        let stranger = Browser::build(&ca, version, Tls12Resumption::Disabled, Some(stranger));
        assert!(stranger.try_meet(&replica, "proxy.example").is_err());
        assert!(agent(&ca, version, MORNING).try_meet(&replica, "proxy.example").is_err());
    }
}

#[test]
fn a_resumed_session_shows_the_certificate_of_the_first() {
    let ca = Ca::new();
    let replica = Replica::with(&ca, &ManualClock::new(MORNING), &[], 100, Some(ca.client_authority()));
    for version in [&TLS13, &TLS12] {
        let browser = agent(&ca, version, MORNING + 2 * WINDOW);
        browser.meet(&replica);
        let met = browser.meet(&replica);
        assert!(met.resumed());
        replica.template.verify_resumed(&met.server).unwrap();
        let subject = client::subject(met.server.peer_certificates().unwrap()).unwrap();
        assert!(!subject.contains('\n'), "escaped for the log: {subject}");
        assert!(subject.contains("agent"), "{subject}");
    }
}

#[test]
fn no_session_outlives_the_certificate_it_rests_on() {
    let ca = Ca::new();
    keys::create(&ca.file("key")).unwrap();
    for files in [vec![], vec![ca.file("key")]] {
        for version in [&TLS13, &TLS12] {
            let clock = ManualClock::new(MORNING);
            let replica = Replica::with(&ca, &clock, &files, 100, Some(ca.client_authority()));
            let browser = agent(&ca, version, MORNING + 3600);
            browser.meet(&replica);
            assert!(browser.wallet.lifetimes().iter().all(|l| *l == 3600));
            clock.advance(3599);
            assert!(browser.meet(&replica).resumed());
            clock.advance(1);
            // A full handshake, in which the expired certificate is refused with its alert.
            assert!(browser.try_meet(&replica, "proxy.example").is_err(), "{version:?}");
        }
    }
}

#[test]
fn a_changed_client_ca_ends_all_sessions_and_the_same_one_keeps_them() {
    let (ca, other) = (Ca::new(), Ca::new());
    let clock = ManualClock::new(MORNING);
    keys::create(&ca.file("key")).unwrap();
    for files in [vec![], vec![ca.file("key")]] {
        for version in [&TLS13, &TLS12] {
            let mut replica = Replica::with(&ca, &clock, &files, 100, Some(ca.client_authority()));
            let browser = agent(&ca, version, MORNING + WINDOW);
            browser.meet(&replica);
            replica.ask_for(Some(ca.client_authority()));
            assert!(browser.meet(&replica).resumed());
            replica.ask_for(Some(other.client_authority()));
            assert!(browser.try_meet(&replica, "proxy.example").is_err());
        }
    }
}

#[test]
fn a_session_from_before_client_ca_does_not_get_around_it() {
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    for browser in [Browser::new(&ca, &TLS13), Browser::new(&ca, &TLS12), Browser::by_session_id(&ca)] {
        let mut replica = Replica::start(&ca, &clock, &[]);
        browser.meet(&replica);
        replica.ask_for(Some(ca.client_authority()));
        assert!(browser.try_meet(&replica, "proxy.example").is_err());
    }
}

#[test]
fn the_second_lock_refuses_what_the_first_should_have() {
    use ccpgate::tls::ClientCertificateError as E;
    let ca = Ca::new();
    let (chain, _) = ca.agent(MORNING);
    assert_eq!(client::judge_resumed(None, MORNING), Err(E::Missing));
    assert_eq!(client::judge_resumed(Some(&[]), MORNING), Err(E::Missing));
    assert_eq!(client::judge_resumed(Some(&chain), MORNING), Err(E::Expired));
    assert_eq!(client::judge_resumed(Some(&chain), MORNING - 1), Ok(()));
    assert_eq!(client::judge_resumed(Some(&[vec![1].into()]), MORNING), Err(E::Unreadable));
}
