//! Real sockets on loopback, and real time: a browser's eight seconds can't be hurried. All stand-ins
//! are asked at once.

use std::net::Ipv4Addr;

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::*;
use crate::cause::Severity;
use crate::egress::resolver::{self, Resolver};

fn egress(source_address: Vec<IpAddr>) -> Egress {
    Egress {
        resolver: Resolver::new(resolver::Options::default(), Handle::current()),
        connect_timeout: Duration::from_secs(5),
        source_address,
        allow_private: Vec::new(),
        connect_to: std::iter::empty().collect(),
        parent: None,
        ranges: crate::egress::within::Guard::off(),
    }
}

/// Which question a packet is; the rest of it isn't looked at.
fn asked(packet: &[u8]) -> Option<Ask> {
    match packet {
        [0, 1, ..] => Some(Ask::Binding),
        [0, 3, ..] => Some(Ask::Allocate),
        _ => None,
    }
}

/// A success for a Binding, 401 for an Allocate.
fn reply(packet: &[u8]) -> Vec<u8> {
    let mut reply = packet[..20].to_vec();
    match asked(packet) {
        Some(Ask::Binding) => (reply[0], reply[3]) = (1, 0),
        _ => {
            (reply[0], reply[1], reply[3]) = (1, 0x13, 8);
            reply.extend([0, 9, 0, 4, 0, 0, 4, 1]);
        }
    }
    reply
}

/// An endpoint that answers the nth packet with these datagrams.
async fn endpoint(mut answers: impl FnMut(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        for nth in 0.. {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            for answer in answers(nth, &packet[..length]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

fn only(which: Ask) -> impl FnMut(usize, &[u8]) -> Vec<Vec<u8>> {
    move |_, packet| if asked(packet) == Some(which) { vec![reply(packet)] } else { Vec::new() }
}

/// All kinds of bytes that are no answer, before each answer.
fn hostile(_: usize, packet: &[u8]) -> Vec<Vec<u8>> {
    let good = reply(packet);
    let mut foreign = good.clone();
    foreign[19] ^= 1;
    let mut long = good.clone();
    long.resize(9000, 0);
    let junk = b"\x1b]0;owned\x07".to_vec();
    vec![Vec::new(), foreign, good[..19].to_vec(), long, junk, good]
}

#[tokio::test]
async fn endpoints_are_told_apart_by_what_they_answer() {
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let refusing = closed.local_addr().unwrap();
    drop(closed);
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let late = |nth, packet: &[u8]| if nth >= 6 { vec![reply(packet)] } else { Vec::new() };
    let lossy = |nth, packet: &[u8]| if nth % 4 == 3 { Vec::new() } else { vec![reply(packet)] };
    // One packet of the first round is lost, none of the second.
    let unlucky = |nth, packet: &[u8]| if nth == 5 { Vec::new() } else { vec![reply(packet)] };
    let addresses = [
        endpoint(|_, packet| vec![reply(packet)]).await,
        endpoint(only(Ask::Binding)).await,
        endpoint(only(Ask::Allocate)).await,
        endpoint(lossy).await,
        endpoint(unlucky).await,
        endpoint(hostile).await,
        // From the fourth time on.
        endpoint(late).await,
        endpoint(|_, _| vec![b"no".to_vec(); 50]).await,
        silent.local_addr().unwrap(),
        refusing,
    ];
    let egress = egress(vec![Ipv4Addr::LOCALHOST.into()]);
    let begun = Instant::now();
    let all = join_all(addresses.iter().map(|address| probe(&egress, *address))).await;
    let took = begun.elapsed();
    assert!((SILENCE..SILENCE * 2).contains(&took), "{took:?}");
    let all: [Probed; 10] = all.try_into().unwrap();
    let [open, binding, allocate, lossy, unlucky, hostile, late, shouting, silent, refused] = &all;

    let unauthorized = Some(Answer { to: Ask::Allocate, error: Some(401) });
    let bound = Some(Answer { to: Ask::Binding, error: None });
    assert!(open.answer == bound || open.answer == unauthorized, "{open:?}");
    assert_eq!((binding.answer, allocate.answer), (bound, unauthorized));
    for probed in [open, binding, allocate, hostile, late] {
        assert_eq!((probed.sent, probed.lost), (8, 0), "{probed:?}");
        assert!(probed.round_trips.len() >= 9 && probed.refusal.is_none(), "{probed:?}");
        assert!(probed.round_trip().unwrap() < Duration::from_secs(1), "{probed:?}");
    }
    assert_eq!((unlucky.sent, unlucky.lost), (16, 1), "{unlucky:?}");
    assert_eq!((lossy.sent, lossy.lost), (24, 6), "{lossy:?}");
    assert_eq!(
        Cause::TurnLoss.about().threshold.unwrap().judge_loss(lossy.lost, lossy.sent),
        Some(Severity::Degraded)
    );
    // Five before each of ten answers; an empty datagram is one, too.
    assert!(hostile.ignored >= 50 && hostile.ignored % 5 == 0, "{hostile:?}");
    assert!(late.round_trips[0] < Duration::from_secs(1), "an answer to the last packet, not the first");
    for probed in [shouting, silent, refused] {
        assert_eq!((probed.answer, probed.sent, probed.round_trip()), (None, 0, None), "{probed:?}");
    }
    assert_eq!((shouting.ignored, shouting.refusal), (12 * 50, None));
    assert_eq!((silent.ignored, silent.refusal), (0, None));
    let by = Ipv4Addr::LOCALHOST.into();
    assert_eq!(refused.refusal, Some(Refusal::Network { what: What::Errno(libc::ECONNREFUSED), by }));
}

#[tokio::test]
async fn a_way_that_does_not_exist_is_no_silence() {
    // An address that this machine hasn't: nothing can leave from it.
    let egress = egress(vec!["192.0.2.7".parse().unwrap()]);
    let begun = Instant::now();
    let probed = probe(&egress, (Ipv4Addr::LOCALHOST, 3478).into()).await;
    assert_eq!(probed.refusal, Some(Refusal::NoSocket));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_panel_and_the_table_of_causes_wait_as_long() {
    for cause in [Cause::UdpBlocked, Cause::TurnPartial] {
        assert_eq!(cause.about().threshold, Some(Threshold::Silence(SILENCE)), "{cause:?}");
    }
}
