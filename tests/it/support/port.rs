//! Ports on loopback that are nobody else's: one that is kept for a process that has yet to start,
//! one that refuses, one that swallows.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

/// A port of both families, kept for whoever is told of it. A socket that is bound and never listens
/// holds it: with SO_REUSEADDR on both sides another process may bind the port and listen, and the
/// kernel gives it to nobody who asks for any.
pub(crate) struct Port {
    _held: OwnedFd,
    number: u16,
}

impl Port {
    pub(crate) fn keep() -> Self {
        let held = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        set_ipv6_v6only(&held, false).unwrap();
        set_socket_reuseaddr(&held, true).unwrap();
        bind(&held, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let number = address_of(&held).port();
        Self { _held: held, number }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// A loopback port that refuses connections, for as long as this lives: it is bound, and nobody
/// listens.
pub(crate) struct Refusing(OwnedFd);

impl Refusing {
    pub(crate) fn new() -> Self {
        Self(bound())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address_of(&self.0)
    }
}

/// A loopback port that drops every SYN: its accept queue is full and nobody empties it.
pub(crate) struct Blackhole {
    listener: OwnedFd,
    _queue: Vec<TcpStream>,
}

impl Blackhole {
    pub(crate) fn new() -> Self {
        let listener = bound();
        listen(&listener, 0).unwrap();
        let address = address_of(&listener);
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
        }
        Self { listener, _queue: queue }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address_of(&self.listener)
    }

    /// Whether somebody waits for the answer to its SYN.
    pub(crate) fn is_dialled(&self) -> bool {
        let SocketAddr::V4(address) = self.address() else { unreachable!("it is bound to 127.0.0.1") };
        // Of proc(5): the address in the order of its bytes, the port as a number, and SYN_SENT.
        let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let waits = |socket: &str| {
            let mut words = socket.split_whitespace().skip(2);
            words.next() == Some(&*remote) && words.next() == Some("02")
        };
        sockets.lines().any(waits)
    }
}

fn bound() -> OwnedFd {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    fd
}

fn address_of(fd: &OwnedFd) -> SocketAddr {
    getsockname(fd).unwrap().try_into().unwrap()
}
