//! Clients that speak TLS, and speak it to do harm: tickets that aren't theirs, or too many of them, and messages
//! without end. Each harms its own connection alone.

use std::net::SocketAddr;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::TARGET;
use crate::support::{Agent, NAME, Raw, Secured, Upstream, made_hello};

/// With its length in two bytes before it.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

/// A ClientHello of TLS 1.3 that offers so many tickets of so many bytes, none of which anybody gave.
fn with_tickets(count: u8, length: usize) -> Vec<u8> {
    let ticket = |n: u8| [counted(&vec![n; length]), vec![0; 4]].concat();
    let tickets: Vec<u8> = (0..count).flat_map(ticket).collect();
    let binders: Vec<u8> = (0..count).flat_map(|n| [vec![32], vec![n; 32]].concat()).collect();
    let share = [&[0, 29][..], &counted(&[9; 32])].concat();
    made_hello(&[
        (43, vec![2, 3, 4]),
        (10, counted(&[0, 29])),
        (13, counted(&[4, 3, 8, 4, 8, 7])),
        (51, counted(&share)),
        (45, vec![1, 1]),
        (41, [counted(&tickets), counted(&binders)].concat()),
    ])
}

#[test]
fn tickets_of_nobodys_mean_a_full_handshake_however_many_and_long_they_are() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    for (count, length) in [(1, 32), (1, 160), (1, 60_000), (255, 160), (255, 16)] {
        let mut client = Raw::connect(proxy.https());
        client.send(with_tickets(count, length));
        let answer = client.read_exactly(6);
        assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello to {count} of {length}: {answer:?}");
    }
    assert!(agent.resumes(&proxy));
}

/// The first flight of an agent that comes back, as somebody on its network sees it.
fn overheard(agent: &Agent) -> Vec<u8> {
    let mut connection = ClientConnection::new(agent.config(), ServerName::try_from(NAME).unwrap()).unwrap();
    let mut flight = Vec::new();
    connection.write_tls(&mut flight).unwrap();
    flight
}

#[test]
fn a_ticket_without_its_secret_opens_nothing_and_stays_its_owners() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    let flight = overheard(&agent);
    // As it was, any number of times: the handshake begins, and its end needs the secret.
    for _ in 0..3 {
        let mut thief = Raw::connect(proxy.https());
        thief.send(&flight);
        assert_eq!(thief.read_exactly(6)[5], 2, "a ServerHello");
        thief.send([&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
        let _ = thief.read_to_end();
    }
    // In a hello of the thief's own; the proof that it knows the secret stands at the end.
    let mut forged = flight.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut thief = Raw::connect(proxy.https());
    thief.send(&forged);
    assert_eq!(thief.read_to_end().unwrap(), [21, 3, 3, 0, 2, 2, 51], "decrypt_error");
    assert!(agent.resumes(&proxy), "the ticket's owner lost nothing");
}

#[test]
fn key_updates_without_end_end_their_own_connection_alone() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut other = secured.agent().connect(&proxy);
    assert_eq!(other.connect_target(TARGET).status, 200);
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    for _ in 0..3 {
        for _ in 0..20 {
            client.update_keys().unwrap();
        }
        client.expect_echo(b"keys may change as often as anybody needs");
    }
    let refused = (0..1000).any(|_| client.update_keys().is_err());
    let ended = refused || !matches!(client.read_to_end(), Ok(rest) if !rest.is_empty());
    assert!(ended, "they go on for ever");
    other.expect_echo(b"the others don't notice");
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"client_reset".into(), &"client".into()), "{line}");
}

/// Whoever may read lists needs no session of an agent's, and none of theirs opens the proxy.
#[test]
fn the_listener_for_lists_knows_no_session_of_the_proxys() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let edl = format!(
        "[edl]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nkey = {:?}",
        secured.path("proxy.pem"),
        secured.path("proxy.key")
    );
    let proxy = secured.start(&upstream, "", &edl);
    let line = proxy.log_line("edl", |line| line["event"] == "listening" && line["listener"] == "edl");
    let lists: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let agent = secured.agent();
    assert!(!agent.resumes(&proxy));
    assert!(!agent.try_connect(lists).unwrap().resumed());
    assert!(agent.resumes(&proxy));
}
