//! A stream of HTTP/2 as an end of a tunnel.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Liveness, Wire};
use crate::net::h2::poll_room;

/// So much of a frame fills a TLS record together with its header of nine bytes (RFC 9113 section 4.1, RFC
/// 8446 section 5.1); a larger one would need a second record.
const FRAME: usize = 16 * 1024 - 9;

/// A stream as an end of a tunnel.
pub(crate) struct H2Wire {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// Received and not yet taken.
    rest: Bytes,
    ended: bool,
    /// One reference here, and one with all bytes of a write that h2 has not yet passed on.
    queue: Arc<()>,
}

/// Bytes of one write, until h2 has passed all of them on.
struct Queued {
    bytes: Box<[u8]>,
    _queue: Arc<()>,
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// `ConnectionAborted` stands for a client that hangs up: browsers close a tunnel's stream with CANCEL, and
/// a whole connection without a frame for its streams.
fn failed(error: ::h2::Error) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.reason() {
        Some(Reason::CANCEL | Reason::NO_ERROR) => ConnectionAborted.into(),
        Some(_) => ConnectionReset.into(),
        None => match error.into_io() {
            Some(error) if matches!(error.kind(), BrokenPipe | UnexpectedEof) => ConnectionAborted.into(),
            Some(error) => error,
            None => ConnectionReset.into(),
        },
    }
}

impl H2Wire {
    pub(crate) fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self { receive, send, rest: Bytes::new(), ended: false, queue: Arc::new(()) }
    }
}

impl AsyncRead for H2Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            if self.rest.is_empty() {
                match self.receive.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => self.rest = data,
                    // What came before is returned first; h2 says the same again next time.
                    _ if buffer.filled().len() > before => break,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failed(error))),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let n = self.rest.len().min(buffer.remaining());
            buffer.put_slice(&self.rest.split_to(n));
        }
        // The window grows by what was taken only: a stalled tunnel holds its window and no more.
        let taken = buffer.filled().len() - before;
        if taken > 0 {
            self.receive.flow_control().release_capacity(taken).map_err(failed)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(poll_room(&mut self.send, cx, bytes.len())).ok_or(io::ErrorKind::BrokenPipe)?;
        let n = room.map_err(failed)?;
        let mut rest = Bytes::from_owner(Queued { bytes: bytes[..n].into(), _queue: self.queue.clone() });
        while !rest.is_empty() {
            let frame = rest.split_to(rest.len().min(FRAME));
            self.send.send_data(frame, false).map_err(failed)?;
        }
        Poll::Ready(Ok(n))
    }

    /// Nothing to do: the connection's task writes what streams hand over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(failed)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire for H2Wire {
    const SPLICE: bool = false;
    const BUFFERS: bool = false;

    /// Never ready: before the tunnel the waiting response shows that the client leaves, and in the tunnel
    /// a read does.
    async fn gone(&self) {
        std::future::pending().await
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.send.poll_reset(cx).map(|_| ())
    }

    /// Alive: `poll_left` reports a reset at once.
    fn liveness(&mut self, _: &mut Context<'_>) -> Liveness {
        Liveness::Alive
    }

    /// What h2 has passed on goes out before a reset; what it still holds, a reset would drop.
    fn undelivered(&self) -> bool {
        Arc::strong_count(&self.queue) > 1
    }

    fn reset(&mut self) {
        self.send.send_reset(Reason::CONNECT_ERROR);
    }
}
