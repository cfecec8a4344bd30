//! TLS as an end of a tunnel: with a client, or with a parent proxy. A read takes all records that have come,
//! and what is written goes out with the flush, or once it is enough for a system call.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::{has_budget_remaining, poll_proceed};

use super::buffer::{Buffer, SIZE};
use super::session::{OVERHEAD, RECORD, Session, Step, Want};
use super::{Liveness, Wire};
use crate::net::sockopt;

/// What a record takes at most.
const SEALED: usize = RECORD + OVERHEAD;
/// What a record of TLS 1.3 takes beyond what it carries, its header left out.
const TAG_AND_TYPE: usize = 17;
/// One read takes at most this much: the records of one read of the relay, whatever their overhead.
const READ: usize = 4 * SEALED;
/// A handshake message of a megabyte would be held until it is whole. rustls' own bound with buffers of its own.
const LONGEST_MESSAGE: usize = 64 * 1024;

thread_local! {
    /// Where the parts of a record are put together.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A TLS connection, of either side. Boxed: its state is over a kilobyte, and every step up to the tunnel
/// passes it on.
pub(crate) struct TlsWire(Box<Secured>);

struct Secured {
    tcp: TcpStream,
    session: Session,
    /// Received.
    incoming: Buffer,
    /// So much of it is part of a record, or of a message, that isn't whole yet.
    looked_at: usize,
    /// Sealed and not yet sent.
    outgoing: Buffer,
    /// Opened and not yet taken.
    opened: Buffer,
    /// Why the session goes no further.
    broken: Option<rustls::Error>,
    /// The other side has ended.
    ended: bool,
    /// This side has said that it ends.
    closed: bool,
}

pub(super) fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Reads once, within the task's budget: records may hold nothing that a reader would have to wait for. A connection
/// that has to wait gives back the buffer of its thread.
pub(super) fn poll_receive(
    tcp: &mut TcpStream,
    cx: &mut Context<'_>,
    incoming: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let most = READ.saturating_sub(incoming.len()).max(SEALED);
    let received = budgeted(cx, |cx| tcp.poll_recv(cx, &mut incoming.room(most)[..most]));
    match received {
        Poll::Ready(Ok(n @ 1..)) => incoming.add(n),
        _ => incoming.settle(),
    }
    received
}

/// Reads as far as tokio's budget allows, from which tokio's own reads take by themselves: a client that never pauses
/// would keep a task at work that reads until nothing is there, and the tunnels beside it waiting.
///
/// Only what was read is taken from it, and after that. Had a read that waits taken from it before, the socket
/// below might find nothing left and not wait for bytes, and with the budget given back that would look as if it did.
fn budgeted<T>(
    cx: &mut Context<'_>,
    read: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if !has_budget_remaining() {
        // Wakes the task for its next turn.
        let _ = ready!(poll_proceed(cx));
    }
    let read = ready!(read(cx));
    if let Poll::Ready(budget) = poll_proceed(cx) {
        budget.made_progress();
    }
    Poll::Ready(read)
}

impl TlsWire {
    /// Shakes hands; `incoming` has come already.
    ///
    /// # Errors
    /// With the bare socket; the alert has been sent.
    pub(super) async fn shake_hands(
        tcp: TcpStream,
        incoming: Buffer,
        session: Session,
    ) -> Result<Self, (io::Error, TcpStream)> {
        let mut wire = Self(Box::new(Secured {
            tcp,
            session,
            incoming,
            looked_at: 0,
            outgoing: Buffer::default(),
            opened: Buffer::default(),
            broken: None,
            ended: false,
            closed: false,
        }));
        match poll_fn(|cx| wire.0.poll_handshake(cx)).await {
            Ok(()) => Ok(wire),
            Err(error) => {
                // So that the other side learns why.
                let _ = poll_fn(|cx| wire.0.poll_send(cx)).await;
                Err((error, wire.0.tcp))
            }
        }
    }

    /// What the handshake agreed on.
    pub(crate) fn state(&self) -> &CommonState {
        self.0.session.state()
    }

    /// Waits for bytes and shows them; they stay where they are. None of them is the end.
    ///
    /// # Errors
    /// When the other side has gone.
    pub(crate) async fn peek(&mut self) -> io::Result<&[u8]> {
        if self.0.opened.is_empty() {
            poll_fn(|cx| self.0.poll_open(cx, &mut ReadBuf::new(&mut []))).await?;
        }
        Ok(self.0.opened.filled())
    }

    /// Takes so many of the bytes that [`TlsWire::peek`] has shown.
    pub(crate) fn consume(&mut self, count: usize) {
        self.0.opened.consume(count);
        self.0.opened.release();
    }

    #[cfg(test)]
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.0.tcp
    }

    /// How many bytes of buffers it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.incoming.held() + self.0.outgoing.held() + self.0.opened.held()
    }
}

impl Secured {
    /// One step of the session; what it opens goes into `buffer`, and what finds no room there waits.
    fn step(&mut self, buffer: &mut ReadBuf<'_>, want: Want<'_>) -> io::Result<Step> {
        let Self { session, incoming, outgoing, opened, .. } = self;
        if let Some(error) = &self.broken {
            return Err(broken(error.clone()));
        }
        let taken = |bytes: &[u8]| {
            let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
            buffer.put_slice(now);
            if !later.is_empty() {
                opened.put(later);
            }
        };
        let (done_with, step) = session.step(incoming.filled_mut(), outgoing, taken, want);
        incoming.consume(done_with);
        self.looked_at = match step {
            Ok(Step::Done | Step::Blocked) => incoming.len(),
            _ => 0,
        };
        step.map_err(|error| {
            // What the session has to say about it goes out before the end.
            while session.state().wants_write() {
                let (done_with, _) = session.step(incoming.filled_mut(), outgoing, |_| {}, Want::Nothing);
                incoming.consume(done_with);
            }
            self.broken = Some(error.clone());
            broken(error)
        })
    }

    /// Whether there is something that the session hasn't looked at, or something that it has to say.
    fn has_news(&self) -> bool {
        self.incoming.len() > self.looked_at || self.session.state().wants_write() || self.broken.is_some()
    }

    /// Whether the next record fits into so much room, as far as that is known.
    fn next_fits(&self, room: usize) -> bool {
        match self.incoming.filled() {
            [_, _, _, high, low, ..] => {
                usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(TAG_AND_TYPE) <= room
            }
            _ => true,
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.step(&mut ReadBuf::new(&mut []), Want::Nothing)? {
                Step::Went => continue,
                Step::Done => {}
                Step::Ended | Step::Blocked => self.ended = true,
            }
            // What the last step has to say goes out with a flush, or before the first wait for bytes.
            if !self.session.state().is_handshaking() {
                self.incoming.release();
                // Session tickets wait for a request, and for a tunnel to be opened.
                self.outgoing.settle();
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_send(cx))?;
            if !self.ended {
                ready!(self.poll_more(cx))?;
            }
            if self.ended {
                let why = "the other side closed within the TLS handshake";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
        }
    }

    /// Waits for bytes from the socket.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.incoming.len() > LONGEST_MESSAGE {
            return Poll::Ready(Err(broken(rustls::Error::PeerSentOversizedRecord)));
        }
        // Browsers often close without close_notify. It is an end like any other: the tunnel's own TLS, inside,
        // detects a truncation.
        self.ended = ready!(poll_receive(&mut self.tcp, cx, &mut self.incoming))? == 0;
        Poll::Ready(Ok(()))
    }

    /// Reads all that is there, as far as it fits. An empty `buffer` is filled with nothing, and `opened` with
    /// one record.
    fn poll_open(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if !self.opened.is_empty() {
            let n = self.opened.len().min(buffer.remaining());
            buffer.put_slice(&self.opened.filled()[..n]);
            self.opened.consume(n);
            self.opened.release();
        }
        loop {
            let had =
                |buffer: &ReadBuf<'_>, this: &Self| buffer.filled().len() > before || !this.opened.is_empty();
            while !self.ended && self.has_news() && (!had(buffer, self) || self.next_fits(buffer.remaining()))
            {
                match self.step(buffer, Want::Nothing) {
                    Ok(Step::Ended) => {
                        self.ended = true;
                        // Whatever follows doesn't count (RFC 8446 section 6.1).
                        self.incoming.consume(self.incoming.len());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let _ = self.poll_send(cx);
                        // What came before it is returned first.
                        return Poll::Ready(if had(buffer, self) { Ok(()) } else { Err(error) });
                    }
                }
            }
            if self.ended || had(buffer, self) {
                self.incoming.release();
                if !had(buffer, self) {
                    // Also one who has come for tickets alone, and has said already that it ends, gets them. Of
                    // one who has gone, what came before is returned first.
                    let _ = self.poll_send(cx)?;
                }
                return Poll::Ready(Ok(()));
            }
            if self.poll_more(cx)?.is_pending() {
                // A connection that waits has said what it has to say: TLS itself has answers, and tickets.
                let _ = self.poll_send(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// Seals as much as there is room for.
    fn poll_seal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let records = |outgoing: &Buffer| SIZE.saturating_sub(outgoing.len()) / SEALED;
        if records(&self.outgoing) == 0 {
            let sent = self.poll_send(cx)?;
            if sent.is_pending() && records(&self.outgoing) == 0 {
                return Poll::Pending;
            }
        }
        let n = bytes.len().min(records(&self.outgoing) * RECORD);
        loop {
            // What was received meanwhile is opened first: rustls does one after the other.
            match self.step(&mut ReadBuf::new(&mut []), Want::Seal(&bytes[..n]))? {
                Step::Done => return Poll::Ready(Ok(n)),
                Step::Went => {}
                Step::Ended => self.ended = true,
                Step::Blocked => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Sends what was sealed; ready when all is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, self.outgoing.filled()) {
                Poll::Ready(Ok(n @ 1..)) => self.outgoing.consume(n),
                Poll::Ready(failed) => {
                    self.outgoing = Buffer::default();
                    return Poll::Ready(failed.and(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Pending => {
                    self.outgoing.settle();
                    return Poll::Pending;
                }
            }
        }
        self.outgoing.release();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        budgeted(cx, |cx| self.0.poll_open(cx, buffer))
    }
}

impl AsyncWrite for TlsWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.0.poll_seal(cx, bytes)
    }

    /// Puts small slices into one record.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            for slice in slices {
                joined.extend_from_slice(&slice[..slice.len().min(RECORD - joined.len())]);
            }
            self.as_mut().poll_write(cx, joined)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let secured = &mut *self.0;
        while !secured.closed {
            let step = secured.step(&mut ReadBuf::new(&mut []), Want::Close);
            secured.closed = !matches!(step, Ok(Step::Went | Step::Ended));
        }
        ready!(secured.poll_send(cx))?;
        Pin::new(&mut secured.tcp).poll_shutdown(cx)
    }
}

impl Wire for TlsWire {
    const SPLICE: bool = false;
    const BUFFERS: bool = true;

    fn is_quiet(&self) -> bool {
        let secured = &*self.0;
        let waits = secured.opened.is_empty() && secured.outgoing.is_empty();
        waits && !secured.ended && !secured.has_news() && secured.tcp.is_quiet()
    }

    async fn gone(&self) {
        self.0.tcp.gone().await;
    }

    fn liveness(&mut self, cx: &mut Context<'_>) -> Liveness {
        self.0.tcp.liveness(cx)
    }

    fn failure(&self) -> io::Error {
        self.0.tcp.failure()
    }

    fn undelivered(&self) -> bool {
        self.0.tcp.undelivered()
    }

    fn reset(&mut self) {
        sockopt::reset_on_close(&self.0.tcp);
    }
}
