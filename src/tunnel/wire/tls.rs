//! TLS as an end of a tunnel: with a client, or with a parent proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::socket::Socket;
use super::{Liveness, Wire};
use crate::net::sockopt;

/// A TLS connection, of either side. Boxed: its state is over a kilobyte, and every step up to the tunnel
/// passes it on.
pub(crate) struct TlsWire(Box<Secured>);

struct Secured {
    stream: TlsStream<Socket>,
    /// Why a read failed behind bytes that it had given. The kernel reports that once.
    failed: Option<io::Error>,
}

impl TlsWire {
    pub(crate) fn new(stream: impl Into<TlsStream<Socket>>) -> Self {
        Self(Box::new(Secured { stream: stream.into(), failed: None }))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.0.stream.get_ref().0.tcp()
    }

    /// How many bytes of buffers its socket holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.stream.get_ref().0.held()
    }

    /// From now on what is written waits until it is flushed, or is enough for a system call.
    pub(super) fn gather(&mut self) {
        self.0.stream.get_mut().0.gather();
    }

    fn poll_record(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.0.stream;
        match Pin::new(&mut *stream).poll_read(cx, buffer) {
            // Answers of TLS itself, such as the refusal of a renegotiation, are sent now: a quiet tunnel
            // may write nothing for hours.
            Poll::Pending if stream.get_ref().1.wants_write() => {
                let _ = Pin::new(stream).poll_flush(cx)?;
                Poll::Pending
            }
            // Browsers often close without close_notify. It is an end like any other: the tunnel's own TLS,
            // inside, detects a truncation.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }

    /// The protocol that the handshake agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.0.stream.get_ref().1.alpn_protocol()
    }

    /// Whether the first bytes are these, as far as they came together; they stay where they are.
    ///
    /// # Errors
    /// When the other side leaves before its first byte.
    pub(crate) async fn begins_with(&mut self, these: &[u8]) -> io::Result<bool> {
        let first = self.0.stream.fill_buf().await?;
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
        if let Some(error) = self.0.failed.take() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        loop {
            let had = buffer.filled().len();
            let read = self.poll_record(cx, buffer);
            let has = buffer.filled().len();
            match read {
                // What was given first is returned first.
                Poll::Ready(Err(error)) if had > before => self.0.failed = Some(error),
                Poll::Pending if had > before => {}
                // More records have been read from the socket already.
                Poll::Ready(Ok(()))
                    if has > had && buffer.remaining() > 0 && self.0.stream.get_ref().0.is_ahead() =>
                {
                    continue;
                }
                done => return done,
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for TlsWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.stream).poll_shutdown(cx)
    }
}

impl Wire for TlsWire {
    const SPLICE: bool = false;
    const BUFFERS: bool = true;

    async fn gone(&self) {
        self.tcp().gone().await;
    }

    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness {
        self.0.stream.get_mut().0.tcp_mut().liveness(cx)
    }

    fn failure(&self) -> io::Error {
        self.tcp().failure()
    }

    fn undelivered(&self) -> bool {
        self.tcp().undelivered()
    }

    fn reset(&mut self) {
        sockopt::reset_on_close(self.tcp());
    }
}
