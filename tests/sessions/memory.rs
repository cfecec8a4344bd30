//! What a session costs in memory.

use std::sync::Arc;

use ccpgate::tls::{ManualClock, Offer, Shift, Window};
use rustls::server::ProducesTickets;

use super::support::{Ca, MORNING, Replica, WINDOW};

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// To be run alone, since other tests use memory meanwhile:
/// `cargo test --release --test sessions -- --ignored --exact memory::a_session_takes_less_than_a_kibibyte`
#[test]
#[ignore = "measures the memory of the whole process"]
fn a_session_takes_less_than_a_kibibyte() {
    const SESSIONS: u64 = 100_000;
    let ca = Ca::new();
    let clock = ManualClock::new(MORNING);
    let mut replica = Replica::start(&ca, &clock, &[]);
    replica.shift = Shift::new(Window::from_seconds(WINDOW).unwrap(), SESSIONS, None, clock);
    replica.ask_for(None);
    let before = resident();
    for _ in 0..SESSIONS {
        let (_, tickets) = replica.template.per_connection(Offer::All).unwrap();
        // Two tickets of a session without a client certificate.
        Arc::clone(&tickets).encrypt(&[7; 120]).unwrap();
        tickets.encrypt(&[8; 120]).unwrap();
    }
    assert_eq!(replica.shift.store().len(), SESSIONS);
    let each = (resident() - before) / SESSIONS;
    println!("{each} bytes a session");
    assert!(each < 1024, "{each} bytes a session");
    // As many on top: the store stays at its capacity, and its memory near it.
    for _ in 0..SESSIONS {
        replica.template.per_connection(Offer::All).unwrap().1.encrypt(&[7; 120]).unwrap();
    }
    let (config, tickets) = replica.template.per_connection(Offer::All).unwrap();
    let newest = config.ticketer.encrypt(&[9; 120]).unwrap();
    drop(tickets);
    assert!(replica.shift.store().len() <= SESSIONS);
    let (_, tickets) = replica.template.per_connection(Offer::All).unwrap();
    assert!(tickets.decrypt(&newest).is_some(), "the newest resumes");
    let total = resident() - before;
    println!("{total} bytes with as many junk sessions on top");
    assert!(total < 100 << 20, "{total} bytes");
}
