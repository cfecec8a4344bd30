//! Connections from load balancers: a PROXY protocol header comes first, before TLS and before any
//! request, and says whose connection it is. Reads exactly the header; what follows stays in the socket.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::{Ends, Peer};
use super::proxy_protocol::{Fault, Header, Speaker, read};
use super::refusal::Refusal;
use super::shared::Shared;
use super::{answer, session};
use crate::net::entrance::Entrance;

/// How many bytes of a refused balancer are dropped before the close: a ClientHello, and some.
const DROPPED: usize = 16 * 1024;

/// A connection with who is at its other end: by its own address, or by a header that is believed.
pub(super) struct Introduced {
    pub stream: TcpStream,
    pub ends: Ends,
    /// The balancer itself.
    pub check: bool,
}

/// Reads the header that a balancer at `ends` must send. None when there is none to be believed: the
/// balancer has its answer then, or has left without a word, as checks of a port do.
pub(super) async fn introduced(
    mut stream: TcpStream,
    ends: Ends,
    entrance: Entrance,
    shared: &Shared,
) -> Option<Introduced> {
    // Kept over a deadline that passes, so that it can tell silence from a header that is too slow.
    let mut bytes = Vec::new();
    let limit = shared.limits().header_timeout;
    let refusal = match timeout(limit, header(&mut stream, &mut bytes)).await {
        Ok(Ok(Ok(Speaker::Client { source, destination }))) => {
            shared.journal.metrics.proxy_headers.client.inc();
            let ends = Ends { address: source, local: destination };
            return Some(Introduced { stream, ends, check: false });
        }
        Ok(Ok(Ok(Speaker::Balancer))) => {
            shared.journal.metrics.proxy_headers.check.inc();
            return Some(Introduced { stream, ends, check: true });
        }
        Ok(Ok(Err(fault))) => Refusal::ProxyHeader(fault),
        Err(_) => Refusal::HeaderTimeout,
        Ok(Err(_)) => return None,
    };
    if bytes.is_empty() {
        return None;
    }
    shared.journal.metrics.proxy_headers.refused.inc();
    let peer = Peer { address: ends.address, local: ends.local, certificate: None, check: true, over: None };
    let refused = session::refuse(&peer, &shared.journal, &shared.snapshot(), None, &refusal);
    match entrance {
        Entrance::Https => answer::part(&mut stream, DROPPED).await,
        _ => refused.send_last(&mut stream, false).await,
    }
    None
}

/// Reads no byte beyond the header.
async fn header(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Result<Speaker, Fault>> {
    loop {
        let missing = match read(bytes) {
            Ok(Header::Whole(speaker, _)) => return Ok(Ok(speaker)),
            Ok(Header::Wants(missing)) => missing,
            Err(fault) => return Ok(Err(fault)),
        };
        if (&mut *stream).take(missing as u64).read_buf(bytes).await? == 0 {
            return Ok(Err(Fault::Ended));
        }
    }
}
