//! A media server on UDP: STUN Binding (RFC 8489) and the 401 of TURN Allocate (RFC 8656), bytes made
//! by hand, so that the codec under test isn't its own judge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::file::Udp;
use super::hostile;

const BINDING: [u8; 2] = [0, 1];
const ALLOCATE: [u8; 2] = [0, 3];
pub(super) const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A running server; ends when dropped.
pub(super) struct MediaServer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MediaServer {
    pub(super) fn start(address: SocketAddr, udp: Udp) -> Self {
        let mut count = 0_u32;
        Self::start_by(address, move |packet, from| {
            count += 1;
            match udp {
                Udp::Silent => None,
                Udp::Lossy if count.is_multiple_of(4) => None,
                Udp::Turn if packet.starts_with(&BINDING) => None,
                Udp::Hostile => hostile::datagram(count, packet),
                Udp::Open | Udp::Turn | Udp::Lossy | Udp::Refused => answer(packet, from),
            }
        })
    }

    /// One that gives these answers.
    pub(super) fn start_by(
        address: SocketAddr,
        mut answer: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let address = socket.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let of_thread = stopping.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !of_thread.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                if let Some(reply) = answer(&packet[..length], from) {
                    // Whoever has gone meanwhile leaves an ICMP error here.
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self { address, stopping, thread: Some(thread) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        assert!(ended.is_ok() || std::thread::panicking(), "a media server panicked");
    }
}

/// A loopback port for UDP that nobody else gets, and that refuses by ICMP.
pub(super) fn refusing() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    // A connected socket takes packets of its peer alone; for others the port is closed.
    socket.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    (socket, address)
}

/// What a TURN server says to somebody without credentials.
pub(super) fn answer(packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let (kind, transaction) = (packet.get(..2)?, packet.get(8..20)?);
    if packet.get(4..8)? != COOKIE {
        return None;
    }
    let (response, attributes) = if kind == BINDING {
        let IpAddr::V4(ip) = from.ip() else { return None };
        let port = from.port().to_be_bytes().iter().zip(COOKIE).map(|(a, b)| a ^ b).collect::<Vec<_>>();
        let ip: Vec<u8> = ip.octets().iter().zip(COOKIE).map(|(a, b)| a ^ b).collect();
        ([1, 1], attribute(0x20, &[&[0, 1], &*port, &ip].concat()))
    } else if kind == ALLOCATE {
        let error = attribute(0x09, &[&[0, 0, 4, 1], &b"Unauthorized"[..]].concat());
        let realm = attribute(0x14, b"turn.example");
        ([1, 0x13], [error, realm, attribute(0x15, b"0123456789abcdef")].concat())
    } else {
        return None;
    };
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    Some([&response, &length[..], &COOKIE, transaction, &attributes].concat())
}

/// RFC 8489 section 14: type, length, value, padded to four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    let mut bytes = [&kind.to_be_bytes(), &length.to_be_bytes()[..], value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
