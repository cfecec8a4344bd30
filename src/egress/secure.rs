//! The far end of a tunnel that leads over TLS to a parent proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::net::sockopt;
use crate::tunnel::pipe::Pipe;
use crate::tunnel::wire::{Pulse, Wire};

/// A TLS connection to a parent proxy. In a box: its state is over a kilobyte, and every step up to
/// the tunnel hands it on.
pub struct SecureWire(pub(super) Box<TlsStream<TcpStream>>);

impl AsyncRead for SecureWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.0).poll_read(cx, buffer) {
            // Without close_notify: what is inside has TLS of its own and knows a truncation.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for SecureWire {
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

impl Wire for SecureWire {
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
