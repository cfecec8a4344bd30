//! One direction of a tunnel. Quiet, it holds no buffer and no pipe. Small messages go through the
//! thread's buffer with one read and one write; bulk goes through a pooled pipe and never enters user
//! space.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::has_budget_remaining;

use crate::net::scratch;
use crate::tunnel::pipe::Pipe;
use crate::tunnel::wire::Wire;

/// A read of at least this much means bulk: the next one goes through a pipe.
const BULK: usize = 32 * 1024;
/// A pipe that moves less than this is not worth its system calls: back to copying.
const TRICKLE: usize = 8 * 1024;
/// What one direction may move before the tunnels beside it have their turn.
const TURN: usize = 4 << 20;

/// Bytes that were read and found no room at the other end.
enum Backlog {
    Copied { bytes: Vec<u8>, at: usize },
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The source has ended; what is left in the backlog still goes out.
    Ending,
    Ended,
    /// The sink is gone; the source is read and dropped.
    Broken,
}

/// The kernel reports a reset once, to the first call that asks. To later calls the connection reads as
/// ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EndDoubt {
    None,
    /// A write got the report.
    Reset,
    /// A write found the connection shut. Either it had ended and then reset, or splice(2) got the report
    /// after it had moved some bytes, and didn't pass it on.
    Ask,
}

/// One direction.
pub(super) struct Flow {
    backlog: Option<Box<Backlog>>,
    pub phase: Phase,
    /// The task waits for the source, which wakes it.
    pub waiting: bool,
    bulk: bool,
    /// The sink may hold back bytes until it is flushed.
    pub unflushed: bool,
    /// A write to the source failed: what reads as its end may be a reset.
    pub doubt: EndDoubt,
    /// The source has ended or was reset behind bytes that can't move on.
    pub closing: bool,
    /// Bytes that reached the sink's socket.
    pub moved: u64,
}

impl Flow {
    pub(super) fn new(first: &[u8]) -> Self {
        let backlog = (!first.is_empty()).then(|| Box::new(Backlog::Copied { bytes: first.to_vec(), at: 0 }));
        Self {
            backlog,
            phase: Phase::Open,
            waiting: false,
            bulk: false,
            unflushed: false,
            doubt: EndDoubt::None,
            closing: false,
            moved: 0,
        }
    }

    pub(super) const fn over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Broken)
    }

    /// The sink takes nothing, and the source is not read.
    pub(super) const fn stuck(&self) -> bool {
        self.backlog.is_some() || self.unflushed
    }

    /// Nothing new comes this way, though what came may still be under way.
    pub(super) fn ends(&self) -> bool {
        self.closing || self.phase != Phase::Open
    }

    /// The sink is gone: what it was still to get is dropped.
    pub(super) fn breaks(&mut self) {
        self.phase = Phase::Broken;
        self.backlog = None;
    }
}

/// Why a direction goes no further.
pub(super) enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// Moves what one direction has; ready when it has ended and the end was passed on.
pub(super) fn pump<R: Wire, W: Wire>(
    cx: &mut Context<'_>,
    source: &mut R,
    sink: &mut W,
    flow: &mut Flow,
) -> Poll<Result<(), Failed>> {
    let mut turn = 0;
    let mut emptied = false;
    loop {
        let before = flow.moved;
        ready!(poll_backlog(cx, sink, flow)).map_err(Failed::Sink)?;
        if flow.phase == Phase::Ending {
            // A sink that is gone already has nothing to be told.
            ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Failed::Sink)?;
            flow.phase = Phase::Ended;
            return Poll::Ready(Ok(()));
        }
        let read = if emptied && source.poll_bytes(cx).is_pending() {
            Poll::Pending
        } else {
            match flow.bulk.then(Pipe::take) {
                Some(Ok(pipe)) => poll_fill(cx, source, flow, pipe),
                // No descriptor for a pipe: copying works as well.
                _ => poll_copy(cx, source, sink, flow),
            }
        };
        // Pending also when the task has used up tokio's budget; then it isn't the source that it waits
        // for.
        flow.waiting = read.is_pending() && has_budget_remaining();
        match ready!(read)? {
            0 if flow.doubt == EndDoubt::Reset
                || flow.doubt == EndDoubt::Ask && !source.ended_in_order(flow.moved) =>
            {
                return Poll::Ready(Err(Failed::Source(io::ErrorKind::ConnectionReset.into())));
            }
            0 => flow.phase = Phase::Ending,
            n => {
                emptied = n < scratch::SIZE;
                flow.bulk = R::SPLICE && W::SPLICE && n >= if flow.bulk { TRICKLE } else { BULK };
            }
        }
        turn += (flow.moved - before) as usize;
        if turn > TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

/// Sends what waits; ready when nothing does any more.
fn poll_backlog<W: Wire>(cx: &mut Context<'_>, sink: &mut W, flow: &mut Flow) -> Poll<io::Result<()>> {
    match flow.backlog.as_deref_mut() {
        None => {}
        Some(Backlog::Copied { bytes, at }) => {
            flow.unflushed = W::BUFFERS;
            while *at < bytes.len() {
                let n = ready!(Pin::new(&mut *sink).poll_write(cx, &bytes[*at..]))?;
                *at += n;
                flow.moved += n as u64;
            }
        }
        Some(Backlog::Piped(pipe)) => {
            while !pipe.is_empty() {
                flow.moved += ready!(sink.poll_drain(cx, pipe))? as u64;
            }
        }
    }
    if let Some(Backlog::Piped(pipe)) = flow.backlog.take().map(|b| *b) {
        pipe.give_back();
    }
    if flow.unflushed {
        // Bytes that a TLS layer holds back go out before the next ones are waited for.
        ready!(Pin::new(sink).poll_flush(cx))?;
        flow.unflushed = false;
    }
    Poll::Ready(Ok(()))
}

fn poll_fill<R: Wire>(
    cx: &mut Context<'_>,
    source: &mut R,
    flow: &mut Flow,
    mut pipe: Pipe,
) -> Poll<Result<usize, Failed>> {
    match source.poll_fill(cx, &mut pipe) {
        Poll::Ready(Ok(n)) if n > 0 => {
            flow.backlog = Some(Box::new(Backlog::Piped(pipe)));
            Poll::Ready(Ok(n))
        }
        other => {
            pipe.give_back();
            other.map_err(Failed::Source)
        }
    }
}

/// One read into the thread's buffer and one write out of it; only what finds no room is kept.
fn poll_copy<R: Wire, W: Wire>(
    cx: &mut Context<'_>,
    source: &mut R,
    sink: &mut W,
    flow: &mut Flow,
) -> Poll<Result<usize, Failed>> {
    scratch::with(|buffer| {
        let read = ready!(source.poll_recv(cx, buffer)).map_err(Failed::Source)?;
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        let sent = match sink.poll_send(cx, &buffer[..read]) {
            Poll::Ready(sent) => sent.map_err(Failed::Sink)?,
            Poll::Pending => 0,
        };
        flow.moved += sent as u64;
        flow.unflushed = W::BUFFERS;
        if sent < read {
            flow.backlog = Some(Box::new(Backlog::Copied { bytes: buffer[sent..read].to_vec(), at: 0 }));
        }
        Poll::Ready(Ok(read))
    })
}
