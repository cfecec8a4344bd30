//! The TLS listener: a handshake with sessions that last a shift, then HTTP/1.1 or HTTP/2.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::{Peer, Permit};
use super::handshake::shake_hands;
use super::session::{self, Tunnel};
use super::shared::Shared;
use super::{h1, h2};
use crate::tls::material::Serving;
use crate::tunnel::wire::tls::TlsWire;

/// Serves a connection from its first byte to its end; `permit` counts it until then.
pub(super) fn serve(
    stream: TcpStream,
    serving: Arc<ArcSwap<Serving>>,
    peer: Peer,
    permit: Permit,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send {
    session::carry(agree(stream, serving, peer, shared), permit)
}

/// Shakes hands, and serves what was agreed on: a whole connection over HTTP/2, or requests over HTTP/1.1 until
/// one becomes a tunnel.
async fn agree(
    stream: TcpStream,
    serving: Arc<ArcSwap<Serving>>,
    mut peer: Peer,
    shared: Arc<Shared>,
) -> Option<Box<Tunnel<TlsWire>>> {
    // Boxes: what one step needs is freed before the connection idles for a shift.
    let mut wire = Box::pin(shake_hands(stream, &serving, &mut peer, &shared)).await?;
    drop(serving);
    let mut http2 = wire.state().alpn_protocol() == Some(b"h2");
    if http2 {
        // Programs in Go agree on HTTP/2 with a proxy and then speak HTTP/1.1. Their first bytes show it,
        // and the client speaks first.
        let first = Box::pin(timeout(shared.limits().header_timeout, wire.peek())).await;
        // Else the client left, or sends nothing.
        let Ok(Ok(first @ [_, ..])) = first else { return None };
        http2 = first.iter().zip(PREFACE).all(|(sent, preface)| sent == preface);
    }
    if http2 {
        Box::pin(h2::serve(wire, peer, shared)).await;
        return None;
    }
    Box::pin(h1::negotiate(wire, peer, shared)).await
}

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
