//! Media endpoints that answer as a test says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What an endpoint sends back to the nth packet.
pub(crate) type Answers = Box<dyn FnMut(usize, &[u8]) -> Vec<Vec<u8>> + Send>;

/// A media endpoint on loopback.
pub(crate) struct Turn {
    address: SocketAddr,
    /// Where packets came from, and which method each asked for.
    heard: Arc<Mutex<Vec<(SocketAddr, u8)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Turn {
    pub(crate) fn start(answers: Answers) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), answers)
    }

    pub(crate) fn start_at(address: SocketAddr, mut answers: Answers) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (heard, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (hears, stopped) = (heard.clone(), stop.clone());
        let address = socket.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut packet = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                let nth = {
                    let mut heard = hears.lock().unwrap();
                    heard.push((from, packet[1]));
                    heard.len() - 1
                };
                for answer in answers(nth, &packet[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, heard, stop, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn heard(&self) -> Vec<(SocketAddr, u8)> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address of loopback that no other test has, so that even a fixed port is free there.
pub(crate) fn own_loopback() -> IpAddr {
    let byte = || fastrand::u8(1..255);
    Ipv4Addr::new(127, byte(), byte(), byte()).into()
}

/// As a TURN server answers: a success with an address to a Binding, 401 with realm and nonce to an
/// Allocate.
pub(crate) fn reply(packet: &[u8]) -> Vec<u8> {
    let (kind, attributes): (_, &[u8]) = match packet[1] {
        1 => ([1, 1], &[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]),
        _ => ([1, 0x13], b"\0\x09\0\x10\0\0\x04\x01Unauthorized\0\x14\0\x04corp\0\x15\0\x04once"),
    };
    let mut reply = kind.to_vec();
    reply.extend((attributes.len() as u16).to_be_bytes());
    reply.extend(&packet[4..20]);
    reply.extend(attributes);
    reply
}

/// Answers everything.
pub(crate) fn open() -> Answers {
    Box::new(|_, packet| vec![reply(packet)])
}

/// Answers nothing.
pub(crate) fn silent() -> Answers {
    Box::new(|_, _| Vec::new())
}
