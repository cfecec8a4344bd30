//! A name server for tests: UDP on loopback, answers made by hand, and a mute mode.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server says about a name; about all others it says NXDOMAIN.
#[derive(Clone)]
pub enum Reply {
    /// These addresses, each for the question of its family.
    Addresses(Vec<IpAddr>),
    /// An alias.
    Alias(String),
    /// NOERROR without an answer.
    Nothing,
    /// SERVFAIL.
    Failure,
    /// REFUSED.
    Refused,
    /// No packet at all.
    Mute,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    replies: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
}

/// A running server; ends when dropped.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !of_thread.stopping.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                if let Some(reply) = of_thread.answer(&packet[..length]) {
                    // A resolver that has given up meanwhile leaves an ICMP error here.
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// From now on, `name` gets this reply.
    pub fn set(&self, name: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(name.to_owned(), reply);
    }

    /// The same, for the common case.
    pub fn addresses(&self, name: &str, addresses: &[&str]) {
        self.set(name, Reply::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect()));
    }

    /// The names it was asked for, in order, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Configuration that makes this the only server, with a short time limit.
    pub fn as_config(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\ntimeout = \"1s\"\n", self.address)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the name server panicked");
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

impl Shared {
    /// RFC 1035 §4.1: header, the question repeated, answers that point back at its name.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = question(query)?;
        let kind = u16::from_be_bytes(query.get(end..end + 2)?.try_into().ok()?);
        self.asked.lock().unwrap().push(name.clone());
        let reply = self.replies.lock().unwrap().get(&name).cloned();
        let mut answers: Vec<(u16, Vec<u8>)> = Vec::new();
        let code = match &reply {
            None => 3,
            Some(Reply::Mute) => return None,
            Some(Reply::Failure) => 2,
            Some(Reply::Refused) => 5,
            Some(Reply::Nothing) => 0,
            Some(Reply::Alias(to)) => {
                answers.push((CNAME, wire_name(to)));
                0
            }
            Some(Reply::Addresses(addresses)) => {
                answers.extend(addresses.iter().filter_map(|address| match (address, kind) {
                    (IpAddr::V4(v4), A) => Some((A, v4.octets().to_vec())),
                    (IpAddr::V6(v6), AAAA) => Some((AAAA, v6.octets().to_vec())),
                    _ => None,
                }));
                0
            }
        };
        let mut packet = query[..2].to_vec();
        // Response, recursion desired and available.
        packet.extend([0x81, 0x80 | code, 0, 1]);
        packet.extend(u16::try_from(answers.len()).unwrap().to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(query.get(12..end + 4)?);
        for (kind, data) in answers {
            packet.extend([0xc0, 12]);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 30]);
            packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            packet.extend(data);
        }
        Some(packet)
    }
}

/// The name asked for and where it ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.bytes());
    }
    wire.push(0);
    wire
}
