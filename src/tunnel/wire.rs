//! What the relay asks of an end: bytes in and out, and, where it is a bare socket, splice(2).

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

use super::pipe::Pipe;
use crate::net::sockopt;

/// An end of a tunnel: a TCP socket, or a TLS or HTTP/2 stream over one.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync {
    /// Whether the kernel can move bytes from and to it through a pipe.
    const SPLICE: bool;
    /// Whether written bytes may stay behind until `poll_flush`.
    const BUFFERS: bool;

    /// Reads into an empty pipe; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>>;

    /// Writes from a pipe.
    fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>>;

    /// Waits for the client to leave while its target is dialled. An orderly half-close is no
    /// leave: some clients end their side right behind the request.
    fn gone(&self) -> impl Future<Output = ()> + Send;

    /// Ready when the end has left in a way that shows without reading, for the time in which
    /// nothing is read from it because the other end takes nothing.
    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Makes the close that follows a reset, as far as the protocol has one.
    fn reset(&mut self);
}

impl Wire for TcpStream {
    const SPLICE: bool = cfg!(target_os = "linux");
    const BUFFERS: bool = false;

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

    fn reset(&mut self) {
        sockopt::reset_on_close(&*self);
    }
}
