//! A TLS connection under HTTP/2. The h2 crate flushes after each frame; what it writes while the
//! connection's task has its turn goes out together at the end of the turn.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::tls::TlsWire;

struct Line {
    wire: TlsWire,
    /// Why the end of a turn failed. The kernel reports that once; h2 is told at its next call.
    failed: Option<io::Error>,
}

/// Ends the turns of a connection; held by its task.
pub(crate) struct Turns(Arc<Mutex<Line>>);

/// The connection itself, for h2. Nobody but the connection's task uses it, so its lock never waits.
pub(crate) struct Gathered(Arc<Mutex<Line>>);

impl Turns {
    pub(crate) fn of(wire: TlsWire) -> (Self, Gathered) {
        let line = Arc::new(Mutex::new(Line { wire, failed: None }));
        (Self(line.clone()), Gathered(line))
    }

    /// Takes a turn, and sends what was written in it as far as the socket takes it; the task is woken when
    /// the socket takes more.
    pub(crate) fn take<T>(
        &self,
        cx: &mut Context<'_>,
        turn: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let done = turn(cx);
        let mut line = lock(&self.0);
        if let Poll::Ready(Err(error)) = Pin::new(&mut line.wire).poll_flush(cx) {
            line.failed = Some(error);
            cx.waker().wake_by_ref();
        }
        done
    }

    /// Sends what the last turn has left.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).wire).poll_flush(cx)
    }

    /// How many bytes of buffers its socket holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        lock(&self.0).wire.held()
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gathered {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut TlsWire>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut line = lock(&self.0);
        match line.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => work(Pin::new(&mut line.wire)),
        }
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|wire| wire.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|wire| wire.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The end of the turn does it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|_| Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|wire| wire.poll_shutdown(cx))
    }
}
