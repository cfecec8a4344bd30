//! The socket under TLS. rustls asks for four kilobytes at a time and hands out one record after the other;
//! here a read takes what there is, and what is written to an HTTP/2 connection can be gathered, so that many
//! records are one system call. Quiet, a socket holds no buffer: they belong to the thread.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One read takes at most this much. As long as nobody takes the bytes that were read, a connection holds
/// so much more.
const AHEAD: usize = 64 * 1024;
/// From so many gathered bytes on the socket has to take some before more are gathered.
const ENOUGH: usize = 64 * 1024;
/// A connection whose client takes nothing gathers at most this much.
pub(super) const MOST: usize = 2 * ENOUGH;

thread_local! {
    /// The buffer that the next read of this thread fills.
    static READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    /// The buffer in which the next connection of this thread gathers.
    static WRITTEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that were read and not yet asked for.
struct Ahead {
    bytes: Box<[u8]>,
    at: usize,
    end: usize,
}

/// A TCP socket with the bytes on their way between it and TLS.
pub(crate) struct Socket {
    tcp: TcpStream,
    ahead: Option<Ahead>,
    /// Whether what is written waits for a flush.
    gathers: bool,
    gathered: Vec<u8>,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: None, gathers: false, gathered: Vec::new() }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn tcp_mut(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// The bare socket. What was read ahead is dropped.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// From now on what is written waits until it is flushed, or is enough.
    pub(super) fn gather(&mut self) {
        self.gathers = true;
    }

    /// Whether bytes have been read that nobody has asked for yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// How many bytes of buffers it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.gathered.capacity() + self.ahead.as_ref().map_or(0, |ahead| ahead.bytes.len())
    }

    /// Sends what was gathered; ready when all is sent.
    fn poll_send_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let sending = loop {
            if sent == self.gathered.len() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.tcp).poll_write(cx, &self.gathered[sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent == self.gathered.len() {
            self.gathered.clear();
            WRITTEN.set(std::mem::take(&mut self.gathered));
        } else {
            self.gathered.drain(..sent);
        }
        sending
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= ENOUGH {
            let sent = self.poll_send_gathered(cx)?;
            if sent.is_pending() && self.gathered.len() >= ENOUGH {
                return Poll::Pending;
            }
        }
        if self.gathered.capacity() == 0 {
            self.gathered = WRITTEN.take();
            self.gathered.reserve_exact(MOST);
        }
        let before = self.gathered.len();
        for slice in slices {
            let room = MOST - self.gathered.len();
            self.gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(Ahead { bytes, at, end }) = &mut self.ahead {
            let n = buffer.remaining().min(*end - *at);
            buffer.put_slice(&bytes[*at..*at + n]);
            *at += n;
            if at == end {
                READ.set(self.ahead.take().map(|ahead| ahead.bytes));
            }
            return Poll::Ready(Ok(()));
        }
        let mut bytes = READ.take().unwrap_or_else(|| vec![0; AHEAD].into_boxed_slice());
        let mut whole = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut self.tcp).poll_read(cx, &mut whole);
        let end = whole.filled().len();
        let at = buffer.remaining().min(end);
        buffer.put_slice(&bytes[..at]);
        if at < end {
            self.ahead = Some(Ahead { bytes, at, end });
        } else {
            READ.set(Some(bytes));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathers {
            return self.poll_gather(cx, &[IoSlice::new(bytes)]);
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gathers {
            return self.poll_gather(cx, slices);
        }
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_send_gathered(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
