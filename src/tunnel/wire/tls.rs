//! TLS as an end of a tunnel: with a client, or with a parent proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::{Liveness, Wire};
use crate::net::sockopt;

/// A TLS connection, of either side. Boxed: its state is over a kilobyte, and every step up to the tunnel
/// passes it on.
pub(crate) struct TlsWire(Box<TlsStream<TcpStream>>);

impl TlsWire {
    pub(crate) fn new(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self(Box::new(stream.into()))
    }

    /// The protocol that the handshake agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// Whether the first bytes are these, as far as they came together; they stay where they are.
    ///
    /// # Errors
    /// When the other side leaves before its first byte.
    pub(crate) async fn begins_with(&mut self, these: &[u8]) -> io::Result<bool> {
        let first = self.0.fill_buf().await?;
        if first.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let seen = first.len().min(these.len());
        Ok(first[..seen] == these[..seen])
    }
}

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.0).poll_read(cx, buffer) {
            // Answers of TLS itself, such as the refusal of a renegotiation, are sent now: a quiet tunnel
            // may write nothing for hours.
            Poll::Pending if self.0.get_ref().1.wants_write() => {
                let _ = Pin::new(&mut *self.0).poll_flush(cx)?;
                Poll::Pending
            }
            // Browsers often close without close_notify. It is an end like any other: the tunnel's own TLS,
            // inside, detects a truncation.
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

    async fn gone(&self) {
        self.0.get_ref().0.gone().await;
    }

    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness {
        self.0.get_mut().0.liveness(cx)
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
