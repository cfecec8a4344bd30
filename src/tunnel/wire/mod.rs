//! What the relay asks of an end: bytes in and out, and, where it is a bare socket, splice(2).

pub(crate) mod arrival;
mod buffer;
pub(crate) mod h2;
mod session;
pub(crate) mod tls;
pub(crate) mod turns;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::pipe::Pipe;
use crate::net::sockopt;

/// What can be known of an end without reading from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    /// It has closed its side; bytes from before that may wait.
    Ended,
    /// It was reset, or has vanished: see [`Wire::failure`].
    Failed,
}

/// An end of a tunnel: a TCP socket, or a TLS or HTTP/2 stream over one.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// Whether the kernel can move bytes from and to it through a pipe.
    const SPLICE: bool;
    /// Whether written bytes may stay behind until `poll_flush`.
    const BUFFERS: bool;

    /// Reads once; 0 is the end of the stream.
    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes once. Where there is no room it need not ask to be woken: `poll_write` comes next.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Waits for bytes where that can be done without reading; elsewhere it is ready at once, and the read
    /// waits.
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Whether a task that waits for bytes still has to: none have come, and it will be woken when they do.
    /// False where that is not known.
    fn is_quiet(&self) -> bool {
        false
    }

    /// Reads into an empty pipe; 0 is the end of the stream. Never called without `SPLICE`.
    fn poll_fill(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Writes from a pipe. Never called without `SPLICE`.
    fn poll_drain(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Waits until the client leaves while its target is dialled. An orderly half-close doesn't count: some
    /// clients end their side right behind the request.
    fn gone(&self) -> impl Future<Output = ()> + Send;

    /// Ready when the end has left, where that shows without reading. Asked while nothing is read from it
    /// because the other end takes nothing.
    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Checks whether an end that is not being read is still there.
    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness;

    /// Why it failed. The kernel reports that once, to the first call that asks.
    fn failure(&self) -> io::Error {
        io::ErrorKind::ConnectionReset.into()
    }

    /// Whether what read as the end, after so many bytes, was one and no reset, where that can be
    /// known.
    fn ended_in_order(&self, _read: u64) -> bool {
        true
    }

    /// Whether written bytes are still on their way, where that can be known: a reset would
    /// overtake and drop them.
    fn undelivered(&self) -> bool {
        false
    }

    /// Makes the close that follows a reset, where the protocol has resets.
    fn reset(&mut self);
}

impl Wire for TcpStream {
    const SPLICE: bool = cfg!(target_os = "linux");
    const BUFFERS: bool = false;

    fn poll_recv(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut read = None;
            let tried = self.try_io(Interest::READABLE, || {
                let (n, _) = recv(&*self, &mut *buffer, RecvFlags::empty())?;
                read = Some(n);
                // A read that leaves room in the buffer has emptied the socket, as epoll(7) says. The next
                // bytes will wake the task; asking for them now would cost a system call.
                if n > 0 && n < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(n), _) => return Poll::Ready(Ok(n)),
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => ready!(self.poll_read_ready(cx))?,
            }
        }
    }

    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.try_io(Interest::WRITABLE, || Ok(send(&*self, bytes, SendFlags::NOSIGNAL)?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            sent => Poll::Ready(sent),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(|_| ())
    }

    fn is_quiet(&self) -> bool {
        // The readiness as the driver knows it, without a system call. The driver notes new bytes before it
        // wakes the task.
        self.try_io(Interest::READABLE, || Ok(())).is_err()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_io(Interest::READABLE, || pipe.fill(&*self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || pipe.drain(&*self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    async fn gone(&self) {
        while let Ok(ready) = self.ready(Interest::ERROR).await {
            if ready.is_error() {
                return;
            }
        }
    }

    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness {
        // The readiness as the driver knows it: no system call while all is well.
        let ready = std::pin::pin!(self.ready(Interest::READABLE | Interest::ERROR)).poll(cx);
        match ready {
            Poll::Ready(Ok(ready)) if ready.is_error() => Liveness::Failed,
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => Liveness::Ended,
            Poll::Ready(Err(_)) => Liveness::Failed,
            Poll::Ready(Ok(_)) | Poll::Pending => Liveness::Alive,
        }
    }

    fn failure(&self) -> io::Error {
        match self.take_error() {
            Ok(Some(error)) | Err(error) => error,
            Ok(None) => io::ErrorKind::ConnectionReset.into(),
        }
    }

    fn ended_in_order(&self, read: u64) -> bool {
        // The FIN counts as a byte. A client has sent more than its tunnel's bytes, its CONNECT, so that
        // its end always reads as in order here.
        sockopt::received(self).is_none_or(|received| received > read)
    }

    fn undelivered(&self) -> bool {
        sockopt::undelivered(self)
    }

    fn reset(&mut self) {
        sockopt::reset_on_close(&*self);
    }
}

#[cfg(test)]
mod tests;
