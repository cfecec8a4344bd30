//! One question to one server: over UDP, without EDNS where the server asks for that or says
//! nothing, and over TCP where the answer was cut. Which server is asked is decided in [`super::stub`].
//!
//! Each question has a socket of its own, connected, so that the kernel chooses a new port, drops
//! what comes from elsewhere, and tells at once when nobody listens there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::Failure;
use super::answer::{self, Question, Reply, Said};
use super::server::Server;
use crate::net::resources::are_used_up;
use crate::net::scratch;

/// The longest first pause before a query is sent again; each further pause is twice as long.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What `server` says to `question` before `until`.
///
/// # Errors
/// Where another server may do better.
pub(crate) async fn ask(
    server: &Server,
    question: &Question,
    edns: bool,
    until: Instant,
) -> Result<Said, Failure> {
    let mut asked = Asked::new(question, edns && server.takes_edns());
    let reply = over_udp(server, &mut asked, until).await?;
    if reply.id == asked.plain && asked.edns && !reply.edns && !reply.may_be_for_edns() {
        server.refuses_edns();
    }
    let said = if reply.truncated {
        let whole = timeout_at(until, over_tcp(server, question, reply.edns)).await;
        match (whole.unwrap_or(Err(Failure::Cut)), reply.said) {
            (Ok(said), _) => said,
            // A firewall may drop DNS over TCP; the cut answer has at least these addresses.
            (Err(_), cut @ Said::Addresses(..)) => cut,
            (Err(failure), _) => return Err(failure),
        }
    } else {
        reply.said
    };
    match said {
        Said::Failed(failure) => Err(failure),
        said => Ok(said),
    }
}

/// The queries for one question: first with EDNS, where that is wanted, then without. Each kind has an id
/// of its own, so that a late answer to one isn't taken for an answer to the other.
struct Asked<'a> {
    question: &'a Question,
    /// Begun with EDNS.
    edns: bool,
    /// The id of the query with EDNS, while an answer to it counts.
    with_edns: Option<u16>,
    plain: u16,
}

impl<'a> Asked<'a> {
    fn new(question: &'a Question, edns: bool) -> Self {
        let plain = random_id();
        let with_edns = edns.then(|| {
            loop {
                let id = random_id();
                if id != plain {
                    break id;
                }
            }
        });
        Self { question, edns, with_edns, plain }
    }

    fn read(&self, packet: &[u8]) -> Option<Reply> {
        let ids = [self.plain, self.with_edns.unwrap_or(self.plain)];
        answer::read(packet, self.question, &ids)
    }

    fn plain_packet(&self) -> Vec<u8> {
        self.question.packet(self.plain, false)
    }
}

async fn over_udp(server: &Server, asked: &mut Asked<'_>, until: Instant) -> Result<Reply, Failure> {
    let socket = connected(server.address).await.map_err(|e| unreachable(server.address, &e))?;
    let first = match asked.with_edns {
        Some(id) => asked.question.packet(id, true),
        None => asked.plain_packet(),
    };
    let mut pause = (until.saturating_duration_since(Instant::now()) / 6).min(LONGEST_FIRST_PAUSE);
    let mut again = Instant::now() + pause;
    // The server's answer to the query with EDNS stands unless it answers the one without.
    let mut refused = None;
    send(&socket, server, &first).await?;
    loop {
        match timeout_at(again.min(until), receive(&socket, asked)).await {
            Ok(Ok(reply)) => {
                server.answered();
                if asked.with_edns != Some(reply.id) || !reply.may_be_for_edns() {
                    return Ok(reply);
                }
                asked.with_edns = None;
                refused = Some(reply);
            }
            Ok(Err(error)) => return Err(unreachable(server.address, &error)),
            Err(_) if Instant::now() >= until => return refused.ok_or(Failure::Timeout),
            // A packet was lost, or the server drops what has an OPT record.
            Err(_) => {}
        }
        send(&socket, server, &asked.plain_packet()).await?;
        pause *= 2;
        again = Instant::now() + pause;
    }
}

async fn send(socket: &UdpSocket, server: &Server, packet: &[u8]) -> Result<(), Failure> {
    socket.send(packet).await.map(drop).map_err(|e| unreachable(server.address, &e))
}

/// The next packet that answers; what else arrives is dropped.
async fn receive(socket: &UdpSocket, asked: &Asked<'_>) -> io::Result<Reply> {
    loop {
        socket.readable().await?;
        let read: io::Result<_> = scratch::with(|buffer| {
            let length = socket.try_recv(buffer)?;
            Ok(asked.read(&buffer[..length]))
        });
        match read {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn over_tcp(server: &Server, question: &Question, edns: bool) -> Result<Said, Failure> {
    let id = random_id();
    let query = question.packet(id, edns);
    let exchanged = async {
        let mut stream = TcpStream::connect(server.address).await?;
        // RFC 1035 §4.2.2: two bytes of length, then the message; 64 KiB at most.
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &query[..]].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = exchanged.await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Unreadable,
        _ => unreachable(server.address, &error),
    })?;
    answer::read(&answer, question, &[id]).map(|reply| reply.said).ok_or(Failure::Unreadable)
}

fn unreachable(server: SocketAddr, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(number) if are_used_up(number) => Failure::Exhausted(number),
        // So says the kernel when a rule for what leaves this machine drops a packet, or its table of
        // connections is full.
        Some(libc::EPERM) => Failure::Unreachable(format!(
            "{server}: this machine's own packet filter lets nothing out: {error}"
        )),
        _ => Failure::Unreachable(format!("{server}: {error}")),
    }
}

/// Random: somebody who sees other queries can't guess it.
fn random_id() -> u16 {
    let mut id = [0; 2];
    // It fails only where the process has no source of randomness at all, and there TLS doesn't start
    // either.
    let _ = aws_lc_rs::rand::fill(&mut id);
    u16::from_be_bytes(id)
}
