//! A name server for tests: UDP and TCP on loopback, answers made by hand, and moods of every kind.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::eventually;
use super::upstream::stop_accepting;

/// What the server says about a name; about all others it says NXDOMAIN.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These addresses, each for the question of its family.
    Addresses(Vec<IpAddr>),
    /// An alias, and nothing about what it stands for.
    Alias(String),
    /// An alias and these addresses of what it stands for.
    Through(String, Vec<IpAddr>),
    /// NOERROR without an answer.
    Nothing,
    /// NOERROR without an answer, from a server that doesn't resolve for others.
    Lame,
    /// SERVFAIL.
    Failure,
    /// REFUSED.
    Refused,
    /// Any response code.
    Code(u8),
    /// A code without the question.
    Bare(u8),
    /// No packet at all.
    Mute,
    /// The next reply, so much later.
    Late(Duration, Box<Self>),
    /// The first reply for A, the second for AAAA.
    Split(Box<Self>, Box<Self>),
    /// The first reply to queries with an OPT record, the second to those without.
    Edns(Box<Self>, Box<Self>),
    /// Cut over UDP, the next reply over TCP.
    Truncated(Box<Self>),
    /// The next reply, with its bytes changed.
    Bent(fn(&mut Vec<u8>), Box<Self>),
}

/// How a question came.
#[derive(Clone, Copy)]
struct Query {
    kind: u16,
    tcp: bool,
    edns: bool,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    replies: Mutex<HashMap<String, Reply>>,
    otherwise: Mutex<Option<Reply>>,
    asked: Mutex<Vec<String>>,
    with_edns: Mutex<Vec<bool>>,
}

/// A running server; ends when dropped.
pub(crate) struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Of TCP.
    listener: Option<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    pub(crate) fn start() -> Self {
        loop {
            // The kernel chooses a port for UDP; TCP may have it in use.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = socket.local_addr().unwrap();
            if let Ok(listener) = TcpListener::bind(address) {
                return Self::run(socket, Some(listener));
            }
        }
    }

    /// At this address, which must be free: in a network namespace of the test's own.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        // The port was free for a while, in which a client's socket may have been given it.
        let (socket, listener) = eventually("the port of a server that comes back", || {
            Some((UdpSocket::bind(address).ok()?, TcpListener::bind(address).ok()?))
        });
        Self::run(socket, Some(listener))
    }

    /// One without TCP.
    pub(crate) fn start_without_tcp() -> Self {
        Self::run(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), None)
    }

    fn run(socket: UdpSocket, listener: Option<TcpListener>) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let mut threads = vec![std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !of_thread.stopping.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                let Some((pause, reply)) = of_thread.answer(&packet[..length], false) else { continue };
                // A resolver that has given up meanwhile leaves an ICMP error here.
                if pause.is_zero() {
                    let _ = socket.send_to(&reply, from);
                } else {
                    let socket = socket.try_clone().unwrap();
                    std::thread::spawn(move || {
                        std::thread::sleep(pause);
                        let _ = socket.send_to(&reply, from);
                    });
                }
            }
        })];
        let ours = listener.as_ref().map(|listener| listener.try_clone().unwrap());
        if let Some(listener) = listener {
            let of_thread = shared.clone();
            threads.push(std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if of_thread.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut stream = stream.unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    // Both families may come over one connection.
                    while let Some((pause, reply)) = of_thread.over_tcp(&mut stream) {
                        std::thread::sleep(pause);
                        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                        let _ = stream.write_all(&[&length[..], &reply].concat());
                    }
                }
            }));
        }
        Self { address, shared, listener: ours, threads }
    }

    /// From now on, `name` gets this reply; `*.name` stands for whatever is below it and has none of
    /// its own.
    pub(crate) fn set(&self, name: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(name.to_owned(), reply);
    }

    /// The same, unless it has one already.
    pub(crate) fn set_unless_set(&self, name: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().entry(name.to_owned()).or_insert(reply);
    }

    /// What all other names get.
    pub(crate) fn set_otherwise(&self, reply: Reply) {
        *self.shared.otherwise.lock().unwrap() = Some(reply);
    }

    /// The same, for the common case.
    pub(crate) fn addresses(&self, name: &str, addresses: &[&str]) {
        self.set(name, Reply::addresses(addresses));
    }

    /// The names it was asked for, in order, in lower case.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// For each question whether it came with an OPT record.
    pub(crate) fn with_edns(&self) -> Vec<bool> {
        self.shared.with_edns.lock().unwrap().clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Configuration that makes this the only server, with a short time limit.
    pub(crate) fn as_config(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\ntimeout = \"1s\"\n", self.address)
    }
}

impl Reply {
    pub(crate) fn addresses(addresses: &[&str]) -> Self {
        Self::Addresses(addresses.iter().map(|a| a.parse().unwrap()).collect())
    }

    pub(crate) fn split(four: Self, six: Self) -> Self {
        Self::Split(Box::new(four), Box::new(six))
    }

    pub(crate) fn edns(with: Self, without: Self) -> Self {
        Self::Edns(Box::new(with), Box::new(without))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(listener) = &self.listener {
            stop_accepting(listener);
        }
        let ended = self.threads.drain(..).map(JoinHandle::join).all(|ended| ended.is_ok());
        assert!(ended || std::thread::panicking(), "the name server panicked");
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SECONDS: u32 = 30;

impl Shared {
    fn over_tcp(&self, stream: &mut TcpStream) -> Option<(Duration, Vec<u8>)> {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).ok()?;
        self.answer(&query, true)
    }

    fn reply_for(&self, name: &str) -> Option<Reply> {
        let replies = self.replies.lock().unwrap();
        let own = replies.get(name);
        let above = || {
            let dots = name.match_indices('.');
            dots.filter_map(|(at, _)| replies.get(&format!("*{}", &name[at..]))).next()
        };
        own.or_else(above).cloned()
    }

    fn answer(&self, packet: &[u8], tcp: bool) -> Option<(Duration, Vec<u8>)> {
        let (name, end) = question(packet)?;
        let kind = u16::from_be_bytes(packet.get(end..end + 2)?.try_into().ok()?);
        let query = Query { kind, tcp, edns: packet.get(11) == Some(&1) };
        self.asked.lock().unwrap().push(name.clone());
        self.with_edns.lock().unwrap().push(query.edns);
        let reply = self.reply_for(&name);
        let reply = reply.or_else(|| self.otherwise.lock().unwrap().clone()).unwrap_or(Reply::Code(3));
        reply.bytes(packet, end + 4, query)
    }
}

impl Reply {
    /// When it comes, and as what; `end` is where the question ends.
    fn bytes(&self, packet: &[u8], end: usize, query: Query) -> Option<(Duration, Vec<u8>)> {
        // The owner that a pointer to the question's name stands for.
        const ASKED: &[u8] = &[0xc0, 12];
        let addresses = |of: &[IpAddr], owner: &[u8]| {
            let records = of.iter().filter_map(|address| match (address, query.kind) {
                (IpAddr::V4(v4), A) => Some((owner.to_vec(), A, v4.octets().to_vec())),
                (IpAddr::V6(v6), AAAA) => Some((owner.to_vec(), AAAA, v6.octets().to_vec())),
                _ => None,
            });
            records.collect::<Vec<_>>()
        };
        let now = |packet| Some((Duration::ZERO, packet));
        let message = |flags, code, records: &[_]| now(message(packet, end, flags, code, records));
        // Response, recursion desired.
        const FLAGS: u8 = 0x81;
        const AVAILABLE: u8 = 0x80;
        match self {
            Self::Mute => None,
            Self::Addresses(of) => message(FLAGS, AVAILABLE, &addresses(of, ASKED)),
            Self::Alias(to) => message(FLAGS, AVAILABLE, &[(ASKED.to_vec(), CNAME, wire_name(to))]),
            Self::Through(to, of) => {
                let mut records = vec![(ASKED.to_vec(), CNAME, wire_name(to))];
                records.extend(addresses(of, &wire_name(to)));
                message(FLAGS, AVAILABLE, &records)
            }
            Self::Nothing => message(FLAGS, AVAILABLE, &[]),
            Self::Lame => message(FLAGS, 0, &[]),
            Self::Failure => message(FLAGS, AVAILABLE | 2, &[]),
            Self::Refused => message(FLAGS, AVAILABLE | 5, &[]),
            Self::Code(code) => message(FLAGS, AVAILABLE | code, &[]),
            Self::Bare(code) => now([&packet[..2], &[FLAGS, AVAILABLE | code, 0, 0], &[0; 6]].concat()),
            Self::Late(pause, reply) => {
                let (more, bytes) = reply.bytes(packet, end, query)?;
                Some((*pause + more, bytes))
            }
            Self::Split(four, six) => {
                let of_family = if query.kind == AAAA { six } else { four };
                of_family.bytes(packet, end, query)
            }
            Self::Edns(with, without) => {
                let of_kind = if query.edns { with } else { without };
                of_kind.bytes(packet, end, query)
            }
            Self::Truncated(_) if !query.tcp => message(FLAGS | 2, AVAILABLE, &[]),
            Self::Truncated(whole) => whole.bytes(packet, end, query),
            Self::Bent(bend, reply) => {
                let (pause, mut bytes) = reply.bytes(packet, end, query)?;
                bend(&mut bytes);
                Some((pause, bytes))
            }
        }
    }
}

/// RFC 1035 §4.1: header, the question repeated, answers with their owners as they are.
fn message(query: &[u8], end: usize, flags: u8, code: u8, records: &[(Vec<u8>, u16, Vec<u8>)]) -> Vec<u8> {
    let mut packet = query[..2].to_vec();
    packet.extend([flags, code, 0, 1]);
    packet.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(&query[12..end]);
    for (owner, kind, data) in records {
        packet.extend(owner);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(SECONDS.to_be_bytes());
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
    }
    packet
}

/// The name asked for and where it ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return query.get(at..at + 4).map(|_| (labels.join("."), at));
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
