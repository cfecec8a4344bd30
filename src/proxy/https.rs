//! The TLS listener: a handshake with sessions that last a shift, then HTTP/1.1 or HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::admission::{Peer, Permit};
use super::handshake::shake_hands;
use super::listener::Service;
use super::shared::Shared;
use super::{h1, h2};
use crate::net::entrance::Entrance;
use crate::net::sockopt;
use crate::tls::material::Serving;
use crate::tunnel::pipe::Pipe;
use crate::tunnel::wire::{Pulse, Wire};

/// The TLS proxy listener; what it serves with is swapped by a reload.
#[derive(Clone)]
pub struct Https(pub Arc<ArcSwap<Serving>>);

impl Service for Https {
    const ENTRANCE: Entrance = Entrance::Https;

    async fn serve(self, stream: TcpStream, mut peer: Peer, permit: Permit, shared: Arc<Shared>) {
        // Boxes: what one step needs is freed before the connection idles for a shift.
        let Some(stream) = Box::pin(shake_hands(stream, &self.0, &mut peer, &shared)).await else { return };
        let mut wire = TlsWire(stream);
        let mut http2 = wire.0.get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 {
            let first = Box::pin(timeout(shared.limits().header_timeout, wire.begins_http2())).await;
            // Else it left, or has nothing to say.
            let Ok(Ok(begins)) = first else { return };
            http2 = begins;
        }
        if http2 {
            Box::pin(h2::serve(wire, peer, permit, shared)).await;
        } else {
            h1::serve(wire, peer, permit, shared).await;
        }
    }
}

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// A TLS connection as an end of a tunnel. In a box: its state is over a kilobyte, and every step
/// up to the tunnel hands it on.
pub struct TlsWire(Box<TlsStream<TcpStream>>);

impl TlsWire {
    /// Whether the first bytes are those of HTTP/2; they stay where they are. Programs in Go agree on
    /// HTTP/2 with a proxy and then speak HTTP/1.1, which shows before anything is due from us.
    ///
    /// # Errors
    /// When the client leaves before its first byte.
    async fn begins_http2(&mut self) -> io::Result<bool> {
        let first = self.0.fill_buf().await?;
        if first.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let seen = first.len().min(PREFACE.len());
        Ok(first[..seen] == PREFACE[..seen])
    }
}

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.0).poll_read(cx, buffer) {
            // What TLS itself has to answer, such as a request to negotiate anew, goes out now: a quiet
            // tunnel may write nothing for hours.
            Poll::Pending if self.0.get_ref().1.wants_write() => {
                let _ = Pin::new(&mut *self.0).poll_flush(cx)?;
                Poll::Pending
            }
            // Browsers close without close_notify every day: an end like any other, for what is
            // inside has TLS of its own and knows a truncation when it sees one.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for TlsWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

impl Wire for TlsWire {
    const SPLICE: bool = false;
    const BUFFERS: bool = true;

    fn poll_fill(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_drain(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    async fn gone(&self) {
        self.0.get_ref().0.gone().await;
    }

    fn pulse(&mut self, cx: &mut Context<'_>) -> Pulse {
        self.0.get_mut().0.pulse(cx)
    }

    fn failure(&self) -> io::Error {
        self.0.get_ref().0.failure()
    }

    fn undelivered(&self) -> bool {
        self.0.get_ref().0.undelivered()
    }

    fn reset(&mut self) {
        sockopt::reset_on_close(self.0.get_ref().0);
    }
}
