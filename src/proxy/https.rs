//! The TLS listener: a handshake with sessions that last a shift, then HTTP/1.1 or HTTP/2.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admission::{Peer, Permit};
use super::handshake::shake_hands;
use super::shared::Shared;
use super::{h1, h2};
use crate::tls::material::Serving;

/// Serves a connection from its first byte to its end.
pub(super) async fn serve(
    stream: TcpStream,
    serving: Arc<ArcSwap<Serving>>,
    mut peer: Peer,
    permit: Permit,
    shared: Arc<Shared>,
) {
    // Boxes: what one step needs is freed before the connection idles for a shift.
    let Some(mut wire) = Box::pin(shake_hands(stream, &serving, &mut peer, &shared)).await else { return };
    let mut http2 = wire.alpn() == Some(b"h2");
    if http2 {
        // Programs in Go agree on HTTP/2 with a proxy and then speak HTTP/1.1. Their first bytes show it,
        // and the client speaks first.
        let first = Box::pin(timeout(shared.limits().header_timeout, wire.begins_with(PREFACE))).await;
        // Else the client left, or sends nothing.
        let Ok(Ok(begins)) = first else { return };
        http2 = begins;
    }
    if http2 {
        Box::pin(h2::serve(wire, peer, permit, shared)).await;
    } else {
        h1::serve(wire, peer, permit, shared).await;
    }
}

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
