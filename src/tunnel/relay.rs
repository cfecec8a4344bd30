//! Relays the two ends of a tunnel until both directions have ended: every byte, every close, nothing
//! else. Here stand both directions together, the timers, and what an end is; how one direction moves its
//! bytes is in `flow`.

mod flow;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::wire::{Liveness, Wire};
use crate::net::scratch;
use flow::{EndDoubt, Failed, Flow, Phase};

/// How long a client may go on uploading to an upstream that has closed, so that the answer
/// which came before the close is not lost to a reset.
const LINGER: Duration = Duration::from_secs(5);
/// How often we ask the kernel whether what was sent before a reset has arrived.
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
    /// Both directions ended in order, or the client's with a reset behind the upstream's end; this side
    /// ended first.
    Closed(Side),
    /// This side reset the connection.
    Reset(Side),
    /// This side no longer answers: keepalive or retransmission gave up.
    Vanished(Side),
    /// Nothing moved for `limits.idle_timeout`, or for `limits.half_closed` with one side closed.
    Idle,
}

/// Looks at a silent tunnel within the silence that it may have: it ends a quarter of that late at most.
const LOOKS: u8 = 4;

/// Limits in time; zero is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub idle: Duration,
    pub half_closed: Duration,
}

/// Bytes of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// From the client.
    pub sent: u64,
    /// From upstream.
    pub received: u64,
}

/// Whose tunnel it is: says how long it may be silent, and counts what moves.
pub(crate) trait Meter: Sync {
    /// The same for as long as the tunnel lives.
    fn patience(&self) -> Patience;

    /// Bytes by now, which may be what they were at the last call: there is at most one for each wake-up of the tunnel.
    fn moved(&self, by_now: Moved);
}

/// The two ends and what is under way between them.
pub(crate) struct Relay<C, U = TcpStream> {
    client: C,
    upstream: U,
    /// From the client, and from upstream.
    flows: [Flow; 2],
    /// Wakes the task in which both directions wait.
    waker: Waker,
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
        Self { client, upstream, flows, waker: Waker::noop().clone(), first_end: None, broken: None }
    }

    /// Bytes delivered so far.
    pub(crate) fn moved(&self) -> Moved {
        Moved { sent: self.flows[0].moved, received: self.flows[1].moved }
    }

    /// Relays until the end; what the end needs is done by [`Relay::finish`].
    pub(crate) fn run(&mut self, meter: &impl Meter) -> impl Future<Output = End> + Send + Unpin {
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        let mut glance: Option<Box<Glance>> = None;
        // Apart, they take 16 bytes of an idle tunnel; as pairs they would take 24.
        let (mut last_moved, mut was_half, mut quiet) = (0, false, 0);
        debug_assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread, "see is_quiet");
        poll_fn(move |cx| {
            if !self.waker.will_wake(cx.waker()) {
                self.waker.clone_from(cx.waker());
                self.flows.iter_mut().for_each(|flow| flow.waiting = false);
            }
            let end = self.poll_flows(cx);
            meter.moved(self.moved());
            if let Poll::Ready(end) = end {
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = self.poll_stuck(cx, &mut glance) {
                return Poll::Ready(end);
            }
            let half = self.flows.iter().any(Flow::ends);
            let patience = meter.patience();
            let limit = match (half, patience.idle.is_zero()) {
                (true, _) if !patience.half_closed.is_zero() => patience.half_closed,
                (_, false) => patience.idle,
                _ => return Poll::Pending,
            };
            // The alarm is set again only when it has fired: no timer is touched for each message.
            let now_moved = self.flows[0].moved + self.flows[1].moved;
            let next_look = || Instant::now() + limit / u32::from(LOOKS);
            let timer = alarm.get_or_insert_with(|| {
                (last_moved, was_half) = (now_moved, half);
                Box::pin(sleep_until(next_look()))
            });
            if half && !was_half {
                (last_moved, was_half, quiet) = (now_moved, true, 0);
                timer.as_mut().reset(next_look());
            }
            while timer.as_mut().poll(cx).is_ready() {
                quiet = if last_moved == now_moved { quiet + 1 } else { 0 };
                if quiet == LOOKS {
                    return Poll::Ready(self.silence(cx));
                }
                last_moved = now_moved;
                timer.as_mut().reset(next_look());
            }
            Poll::Pending
        })
    }

    fn poll_flows(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for from in [Side::Client, Side::Upstream] {
            // Most wake-ups come from one side only.
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
                    // The other side had ended, and this side had its end: nothing is lost.
                    self.flows[from as usize].phase = Phase::Ended;
                    self.first_end.get_or_insert(from.other());
                }
                Poll::Ready(Err(Failed::Source(error)))
                    if from == Side::Client && self.broken.is_none() && self.is_late_reset(&error) =>
                {
                    return Poll::Ready(End::Closed(Side::Upstream));
                }
                Poll::Ready(Err(Failed::Source(error)))
                    if from == Side::Client && is_hang_up(&error) && self.is_unused() =>
                {
                    return Poll::Ready(End::Closed(Side::Client));
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
                        // The sink's side had closed in order and has taken every byte. That it is gone
                        // before our close is no reset.
                        flow.phase = Phase::Ended;
                        self.first_end.get_or_insert(from);
                        continue;
                    }
                    flow.breaks();
                    // The other direction has ended already: that side has sent all that it had.
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
                // The upstream closed in order and took no more: what it had sent was delivered.
                (Some(Side::Upstream), Some(Side::Upstream)) => End::Closed(Side::Upstream),
                (Some(side), _) => End::Reset(side),
                (None, first) => End::Closed(first.unwrap_or(Side::Client)),
            });
        }
        Poll::Pending
    }

    /// Whether a client's reset came behind the upstream's end, which it had, and behind all that it had said
    /// itself. A client that closes without reading an upstream's last close_notify makes its kernel reset:
    /// to the agent nothing went wrong. A stream of HTTP/2 is reset for a reason, which its kind tells.
    fn is_late_reset(&self, error: &io::Error) -> bool {
        let [sent, received] = &self.flows;
        let by_kernel = Errno::from_io_error(error) == Some(Errno::CONNRESET);
        by_kernel && received.phase == Phase::Ended && !sent.stuck()
    }

    /// Whether no byte has come from either side: a browser opens a tunnel in advance, and drops it where it
    /// doesn't need it.
    fn is_unused(&self) -> bool {
        self.broken.is_none() && self.flows.iter().all(|flow| flow.moved == 0 && !flow.stuck())
    }

    /// Checks the sources of stuck directions, which nobody reads. A client that has gone ends the tunnel
    /// unless its last bytes are still moving. A client may still take what an upstream sent before it
    /// went, for as long as `limits.half_closed` allows.
    fn poll_stuck(&mut self, cx: &mut Context<'_>, glance: &mut Option<Box<Glance>>) -> Poll<End> {
        let stuck = [0, 1].map(|i| self.flows[i].stuck());
        if glance.is_none() && stuck == [false; 2] {
            return Poll::Pending;
        }
        let Glance { timer, moved } = &mut **glance.get_or_insert_with(|| {
            Box::new(Glance { timer: Box::pin(sleep_until(Instant::now() + GLANCE)), moved: None })
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

    /// What it is that nothing has moved for too long. Behind bytes that the client doesn't take, an upstream's
    /// reset shows only here.
    fn silence(&mut self, cx: &mut Context<'_>) -> End {
        if self.flows[Side::Upstream as usize].stuck() && self.upstream.liveness(cx) == Liveness::Failed {
            return ending(Side::Upstream, &self.upstream.failure());
        }
        End::Idle
    }

    /// Whether nothing has come from a side since its direction began to wait for it.
    ///
    /// Holds where the task runs on its driver's own thread, as on every worker. With a driver on another
    /// thread, the driver notes new bytes and wakes the task in two steps. In between the task could take
    /// the bytes and wait again; the wake-up would then use up the new wait, and the next bytes would wake
    /// nobody.
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
            Side::Client => flow::pump(cx, client, upstream, &mut flows[0]),
            Side::Upstream => flow::pump(cx, upstream, client, &mut flows[1]),
        }
    }

    /// Passes a reset on as a reset; lets a client whose upload was cut short read the answer. What few ends have to
    /// wait for is boxed: every tunnel would keep room for it.
    pub(crate) async fn finish(&mut self, end: End) {
        match end {
            End::Reset(Side::Upstream) if self.flows[1].phase == Phase::Ended => {
                Box::pin(self.linger()).await
            }
            End::Closed(_) if self.broken.is_some() => Box::pin(self.linger()).await,
            // What the client had sent is on its way; a reset would overtake it.
            End::Reset(Side::Client) if self.broken.is_some() && self.flows[0].phase == Phase::Ended => {}
            // The upstream still reads, maybe: that is no end in order to it.
            End::Closed(_) if !self.flows[0].over() => {
                Box::pin(self.delivered(Side::Upstream)).await;
                self.abort();
            }
            End::Closed(_) => {}
            End::Reset(side) => {
                Box::pin(self.delivered(side.other())).await;
                self.abort();
            }
            End::Vanished(_) | End::Idle => self.abort(),
        }
    }

    /// Waits until this side has received what was sent to it: a reset would drop what is still queued.
    async fn delivered(&self, to: Side) {
        let deadline = Instant::now() + LINGER;
        let on_its_way = || match to {
            Side::Client => self.client.undelivered(),
            Side::Upstream => self.upstream.undelivered(),
        };
        // Polled, for the kernel has no event for it. It takes a round trip at most unless the side is
        // slow.
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

/// The next check of stuck directions, and what had moved at the last one.
struct Glance {
    timer: Pin<Box<Sleep>>,
    moved: Option<Moved>,
}

/// ETIMEDOUT, EHOSTUNREACH or ENETUNREACH. Compared by kind, since HTTP/2 keeps no more of an error.
fn is_vanished(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

/// The client has cancelled the tunnel's stream, or has closed the stream's connection. While the other
/// side goes on, that is a reset of a tunnel that was used.
pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

fn ending(side: Side, error: &io::Error) -> End {
    if is_vanished(error) { End::Vanished(side) } else { End::Reset(side) }
}

#[cfg(test)]
mod tests;
