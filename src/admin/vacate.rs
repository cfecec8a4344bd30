//! `POST /api/vacate`: a process that drains after a signal to stop leaves its admin port to the one that
//! starts in its place. Its other ports are free by then: without this one nobody could serve until the
//! last tunnel has ended, which may be hours.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::Admin;
use super::http::{Answer, not_allowed, text};

pub(super) const PATH: &str = "/api/vacate";
const LEFT: &str = "ccpgate: this process leaves the port\n";
/// For each step of a question to a process of this machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer of this program is no longer.
const LONGEST: u64 = 4096;

pub(super) fn answer(admin: &Admin, request: &Request<Incoming>) -> Answer {
    if *request.method() != Method::POST {
        return not_allowed(
            "POST",
            "ccpgate: only POST; `ccpgate serve` does it where it finds its port taken\n",
        );
    }
    if !admin.is_asked_here(request) {
        return text(StatusCode::FORBIDDEN, "ccpgate: only a process of this machine takes the port over\n");
    }
    if !admin.shared.drain.is_draining() {
        return text(StatusCode::CONFLICT, "ccpgate: this process serves\n");
    }
    admin.vacated.cancel();
    text(StatusCode::OK, LEFT)
}

/// Asks whoever listens on an address to leave it; says whether a process of this program does.
///
/// # Errors
/// When nobody is there, or none that answers in time.
pub(crate) fn ask(address: SocketAddr) -> io::Result<bool> {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let here = SocketAddr::new(here, address.port());
    let mut stream = TcpStream::connect_timeout(&here, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("POST {PATH} HTTP/1.1\r\nHost: {here}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(LEFT.as_bytes()))
}
