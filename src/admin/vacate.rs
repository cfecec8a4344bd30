//! `POST /api/vacate`: a process that was told to end leaves its ports to the one that starts in its place.
//! The admin port it would have until its last tunnel has ended, which may be hours, the others for the rest of
//! `limits.lame_duck`: without them nobody could serve so long.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::Admin;
use super::http::{Answer, not_allowed, text};
use super::query::Query;

pub(super) const PATH: &str = "/api/vacate";
/// In the query, which addresses are wanted, with commas between them. A process that has closed one of them, or never had
/// it, leaves none: that is somebody else's, and whoever wants them all couldn't serve.
const WANTED: &str = "wanted";
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
    let drain = &admin.shared.drain;
    if !drain.is_leaving() {
        return text(StatusCode::CONFLICT, "ccpgate: this process serves\n");
    }
    let wanted = Query(request.uri().query().unwrap_or_default()).get(WANTED).unwrap_or_default();
    for wanted in wanted.split(',').filter(|wanted| !wanted.is_empty()) {
        match wanted.parse() {
            Ok(address) if admin.shared.own.is(address) => {}
            Ok(address) => {
                let elsewhere = format!("ccpgate: this process doesn't listen on {address}\n");
                return text(StatusCode::CONFLICT, elsewhere);
            }
            Err(_) => {
                let bad = format!(
                    "ccpgate: {WANTED}: {wanted:?} is no address with a port, as 127.0.0.1:3128 is one\n"
                );
                return text(StatusCode::BAD_REQUEST, bad);
            }
        }
    }
    admin.vacated.cancel();
    text(StatusCode::OK, LEFT)
}

/// Asks whoever listens on an admin address to leave its ports, which must have all that are wanted; says whether a process
/// of this program does.
///
/// # Errors
/// When nobody is there, or none that answers in time.
pub(crate) fn ask(address: SocketAddr, wanted: &[SocketAddr]) -> io::Result<bool> {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let here = SocketAddr::new(here, address.port());
    let mut stream = TcpStream::connect_timeout(&here, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let wanted = wanted.join(",");
    let request = format!(
        "POST {PATH}?{WANTED}={wanted} HTTP/1.1\r\nHost: {here}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(LEFT.as_bytes()))
}
