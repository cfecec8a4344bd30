//! Moves bytes between the two ends of a tunnel until both directions have ended: every byte,
//! every close, nothing else. A quiet tunnel holds no buffer and no pipe; small messages go
//! through the thread's buffer with one read and one write; bulk goes through a pooled pipe and
//! never enters user space.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::pipe::Pipe;
use super::wire::{Liveness, Wire};
use crate::net::scratch;

/// A read of at least this much means bulk: the next one goes through a pipe.
const BULK: usize = 32 * 1024;
/// A pipe that moves less than this is not worth its system calls: back to copying.
const TRICKLE: usize = 8 * 1024;
/// What one direction may move before the tunnels beside it have their turn.
const TURN: usize = 4 << 20;
/// How long a client may go on uploading to an upstream that has closed, so that the answer
/// which came before the close is not lost to a reset.
const LINGER: Duration = Duration::from_secs(5);
/// How often it is asked whether what was sent before a reset has arrived.
const DELIVERY: Duration = Duration::from_millis(10);
/// A stuck direction does not read its source. This is how often we check whether the source has
/// closed or reset.
const GLANCE: Duration = Duration::from_secs(2);

/// An end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Upstream = 1,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both directions ended in order; this side ended first.
    Closed(Side),
    /// This side reset the connection.
    Reset(Side),
    /// This side no longer answers: keepalive or retransmission gave up.
    Vanished(Side),
    /// Nothing moved for `limits.idle_timeout`, or for `limits.half_closed` with one side closed.
    Idle,
}

/// Limits in time; zero is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub idle: Duration,
    pub half_closed: Duration,
}

/// Bytes that were read and found no room at the other end.
enum Backlog {
    Copied { bytes: Vec<u8>, at: usize },
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The source has ended; what is left in the backlog still goes out.
    Ending,
    Ended,
    /// The sink is gone; the source is read and dropped.
    Broken,
}

/// The kernel tells of a reset once, to whoever asks first; then the connection reads as ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndDoubt {
    None,
    /// A write learned of it.
    Reset,
    /// A write found the connection shut: by an end and a reset, or by a reset of which splice(2)
    /// was told after it had moved some bytes, and kept it to itself.
    Ask,
}

/// One direction.
struct Flow {
    backlog: Option<Box<Backlog>>,
    phase: Phase,
    /// The task waits for the source, which wakes it.
    waiting: bool,
    bulk: bool,
    /// The sink may hold back bytes until it is flushed.
    unflushed: bool,
    /// A write to the source failed: what reads as its end may be a reset.
    doubt: EndDoubt,
    /// The source has ended or was reset behind bytes that can't move on.
    closing: bool,
    /// Bytes that reached the sink's socket.
    moved: u64,
}

impl Flow {
    fn new(first: &[u8]) -> Self {
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

    const fn over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Broken)
    }

    /// The sink takes nothing, and the source is not read.
    const fn stuck(&self) -> bool {
        self.backlog.is_some() || self.unflushed
    }

    /// Nothing new comes this way, though what came may still be under way.
    fn ends(&self) -> bool {
        self.closing || self.phase != Phase::Open
    }
}

/// Bytes of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// From the client.
    pub sent: u64,
    /// From upstream.
    pub received: u64,
}

/// Told of what moved, once for each time the tunnel is woken.
pub(crate) trait Meter: Sync {
    /// Bytes since the last call.
    fn moved(&self, since: Moved);
}

/// The two ends and what is under way between them.
pub(crate) struct Relay<C, U = TcpStream> {
    client: C,
    upstream: U,
    /// From the client, and from upstream.
    flows: [Flow; 2],
    /// Of the task that the directions wait in.
    waker: Waker,
    reported: Moved,
    first_end: Option<Side>,
    /// The side that failed to take bytes; the rest of what it had sent is still delivered.
    broken: Option<Side>,
}

impl<C: Wire, U: Wire> Relay<C, U> {
    /// `early` are bytes of the client's that were read already, behind `sent` that have gone on.
    pub(crate) fn new(client: C, upstream: U, early: &[u8], sent: u64) -> Self {
        let mut flows = [Flow::new(early), Flow::new(&[])];
        flows[0].moved = sent;
        flows[0].unflushed = U::BUFFERS && sent > 0;
        Self {
            client,
            upstream,
            flows,
            waker: Waker::noop().clone(),
            reported: Moved::default(),
            first_end: None,
            broken: None,
        }
    }

    /// Bytes delivered so far.
    pub(crate) fn moved(&self) -> Moved {
        Moved { sent: self.flows[0].moved, received: self.flows[1].moved }
    }

    /// Relays until the end; what the end needs is done by [`Relay::finish`].
    pub(crate) fn run(
        &mut self,
        patience: Patience,
        meter: &impl Meter,
    ) -> impl Future<Output = End> + Send + Unpin {
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        let mut glance = None;
        let mut last_moved = (0, 0);
        debug_assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread, "see is_quiet");
        poll_fn(move |cx| {
            if !self.waker.will_wake(cx.waker()) {
                self.waker.clone_from(cx.waker());
                self.flows.iter_mut().for_each(|flow| flow.waiting = false);
            }
            let end = self.poll_flows(cx);
            self.report(meter);
            if let Poll::Ready(end) = end {
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = self.poll_stuck(cx, &mut glance) {
                return Poll::Ready(end);
            }
            let half = self.flows.iter().any(Flow::ends);
            let limit = match (half, patience.idle.is_zero()) {
                (true, _) if !patience.half_closed.is_zero() => patience.half_closed,
                (_, false) => patience.idle,
                _ => return Poll::Pending,
            };
            // The alarm is moved on only when it rings: no timer is touched for each message.
            let now_moved = (self.flows[0].moved + self.flows[1].moved, u8::from(half));
            let timer = alarm.get_or_insert_with(|| {
                last_moved = now_moved;
                Box::pin(sleep_until(Instant::now() + limit))
            });
            if half && last_moved.1 == 0 {
                last_moved = now_moved;
                timer.as_mut().reset(Instant::now() + limit);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if last_moved == now_moved {
                    return Poll::Ready(End::Idle);
                }
                last_moved = now_moved;
                timer.as_mut().reset(Instant::now() + limit);
            }
            Poll::Pending
        })
    }

    fn report(&mut self, meter: &impl Meter) {
        let now = self.moved();
        if now != self.reported {
            let before = self.reported;
            meter.moved(Moved { sent: now.sent - before.sent, received: now.received - before.received });
            self.reported = now;
        }
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for from in [Side::Client, Side::Upstream] {
            // Mostly it is the other side that has something.
            if self.flows[from as usize].over() || self.is_quiet(from) {
                continue;
            }
            match self.poll_flow(cx, from) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.first_end.get_or_insert(from);
                }
                Poll::Ready(Err(Failed::Source(error)))
                    if self.broken.is_none()
                        && is_hang_up(&error)
                        && self.flows[from.other() as usize].phase == Phase::Ended =>
                {
                    // The other side was done and this one knew it: nobody waits for anything.
                    self.flows[from as usize].phase = Phase::Ended;
                    self.first_end.get_or_insert(from.other());
                }
                Poll::Ready(Err(Failed::Source(error))) => {
                    return Poll::Ready(match self.broken {
                        Some(side) => End::Reset(side),
                        None => ending(from, &error),
                    });
                }
                Poll::Ready(Err(Failed::Sink(error))) => {
                    let side = from.other();
                    let done = self.flows[side as usize].phase == Phase::Ended;
                    let flow = &mut self.flows[from as usize];
                    let only_its_end_was_left = flow.phase == Phase::Ending && !flow.stuck();
                    if done && only_its_end_was_left && !is_vanished(&error) {
                        // It had closed in order and has taken every byte; that it doesn't wait for a
                        // farewell is no reset.
                        flow.phase = Phase::Ended;
                        self.first_end.get_or_insert(from);
                        continue;
                    }
                    flow.phase = Phase::Broken;
                    flow.backlog = None;
                    // The other direction has ended already: nothing of that side is outstanding.
                    if self.flows[side as usize].over() || is_vanished(&error) {
                        return Poll::Ready(ending(side, &error));
                    }
                    self.broken = Some(side);
                    let told = is_hang_up(&error) || error.kind() == io::ErrorKind::ConnectionReset;
                    self.flows[side as usize].doubt = if told { EndDoubt::Reset } else { EndDoubt::Ask };
                    // What that side had sent before is read and delivered first.
                    cx.waker().wake_by_ref();
                }
            }
        }
        if self.flows[Side::Client as usize].stuck() && self.client.poll_left(cx).is_ready() {
            return Poll::Ready(End::Reset(Side::Client));
        }
        if self.flows.iter().all(Flow::over) {
            return Poll::Ready(match (self.broken, self.first_end) {
                // It closed in order and would take no more: what it had said was delivered.
                (Some(Side::Upstream), Some(Side::Upstream)) => End::Closed(Side::Upstream),
                (Some(side), _) => End::Reset(side),
                (None, first) => End::Closed(first.unwrap_or(Side::Client)),
            });
        }
        Poll::Pending
    }

    /// Looks after the sources of stuck directions, which nobody reads. A client that has gone ends
    /// the tunnel unless its last bytes are still moving. What an upstream sent before it went is
    /// its client's to take, for as long as `limits.half_closed` allows.
    fn poll_stuck(&mut self, cx: &mut Context<'_>, glance: &mut Option<Glance>) -> Poll<End> {
        let stuck = [0, 1].map(|i| self.flows[i].stuck());
        if glance.is_none() && stuck == [false; 2] {
            return Poll::Pending;
        }
        let Glance { timer, moved } = glance.get_or_insert_with(|| Glance {
            timer: Box::pin(sleep_until(Instant::now() + GLANCE)),
            moved: None,
        });
        while timer.as_mut().poll(cx).is_ready() {
            if stuck == [false; 2] {
                *glance = None;
                return Poll::Pending;
            }
            timer.as_mut().reset(Instant::now() + GLANCE);
            let before = moved.replace(self.moved());
            if stuck[0] {
                let client = self.client.liveness(cx);
                if client == Liveness::Failed && before == *moved {
                    return Poll::Ready(ending(Side::Client, &self.client.failure()));
                }
                self.flows[0].closing |= client != Liveness::Alive;
            }
            if stuck[1] {
                self.flows[1].closing |= self.upstream.liveness(cx) != Liveness::Alive;
            }
        }
        Poll::Pending
    }

    /// Whether nothing has come from a side since its direction began to wait for it.
    ///
    /// Holds where the task runs on its driver's own thread, as on every worker. With a driver on another
    /// thread the task could take the bytes and wait anew between the driver's note of them and its call:
    /// the call would then use up the new wait, and the next bytes would wake nobody.
    fn is_quiet(&self, from: Side) -> bool {
        self.flows[from as usize].waiting
            && match from {
                Side::Client => self.client.is_quiet(),
                Side::Upstream => self.upstream.is_quiet(),
            }
    }

    /// Moves what one direction has; ready when it has ended and the end was passed on.
    fn poll_flow(&mut self, cx: &mut Context<'_>, from: Side) -> Poll<Result<(), Failed>> {
        let Self { client, upstream, flows, .. } = self;
        match from {
            Side::Client => pump(cx, client, upstream, &mut flows[0]),
            Side::Upstream => pump(cx, upstream, client, &mut flows[1]),
        }
    }

    /// Passes a reset on as a reset; lets a client whose upload was cut short read the answer.
    pub(crate) async fn finish(&mut self, end: End) {
        match end {
            End::Reset(Side::Upstream) if self.flows[1].phase == Phase::Ended => self.linger().await,
            End::Closed(_) if self.broken.is_some() => self.linger().await,
            // What the client had said is on its way; a reset would overtake it.
            End::Reset(Side::Client) if self.broken.is_some() && self.flows[0].phase == Phase::Ended => {}
            End::Closed(_) => {}
            End::Reset(side) => {
                self.delivered(side.other()).await;
                self.abort();
            }
            End::Vanished(_) | End::Idle => self.abort(),
        }
    }

    /// Waits until this side has what was sent to it; its reset would drop what is still queued.
    async fn delivered(&self, to: Side) {
        let deadline = Instant::now() + LINGER;
        let on_its_way = || match to {
            Side::Client => self.client.undelivered(),
            Side::Upstream => self.upstream.undelivered(),
        };
        // The kernel has no event for it, and it takes a round trip at most unless the side is slow.
        while on_its_way() && Instant::now() < deadline {
            sleep(DELIVERY).await;
        }
    }

    /// Resets both ends.
    pub(crate) fn abort(&mut self) {
        self.client.reset();
        self.upstream.reset();
    }

    async fn linger(&mut self) {
        let _ = tokio::time::timeout(LINGER, scratch::discard(&mut self.client, usize::MAX)).await;
    }
}

/// When stuck directions are looked after, and what had moved at the last look.
struct Glance {
    timer: Pin<Box<Sleep>>,
    moved: Option<Moved>,
}

enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// ETIMEDOUT, EHOSTUNREACH or ENETUNREACH; asked by kind, since HTTP/2 keeps no more of an error.
fn is_vanished(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

/// The client of a stream has no more use for it, or has closed the connection that it was on. While
/// the other side goes on, that is a reset.
fn is_hang_up(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

fn ending(side: Side, error: &io::Error) -> End {
    if is_vanished(error) { End::Vanished(side) } else { End::Reset(side) }
}

fn pump<R: Wire, W: Wire>(
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
        // A task that has used up its turn is told to wait as well, but not by the source.
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

#[cfg(test)]
mod tests;
