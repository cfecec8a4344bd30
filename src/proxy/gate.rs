//! What all connections share: the configuration in force, limits, metrics, the log, the drain.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::admission::Admission;
use crate::log::access::AccessLog;
use crate::metrics::Metrics;
use crate::net::dialer::is_unspecified;
use crate::snapshot::{Limits, Snapshot};

/// Denials that get a line of their own in a second; a flood is counted, and said in one line.
const DENIAL_LINES: u32 = 500;

pub struct Gate {
    current: ArcSwap<Snapshot>,
    pub metrics: Arc<Metrics>,
    pub admission: Arc<Admission>,
    pub access: AccessLog,
    pub drain: Drain,
    ids: AtomicU64,
    busy: Arc<Counter>,
    own: ArcSwap<Vec<SocketAddr>>,
    denials: Denials,
}

struct Denials {
    since: Instant,
    second: AtomicU64,
    written: AtomicU32,
    left_out: AtomicU64,
}

impl Gate {
    pub fn new(snapshot: Arc<Snapshot>, metrics: Arc<Metrics>, access: AccessLog) -> Arc<Self> {
        // Ids differ between replicas and restarts, so that one can be found in gathered logs.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Arc::new(Self {
            current: ArcSwap::new(snapshot),
            admission: Admission::new(metrics.client_connections.clone()),
            metrics,
            access,
            drain: Drain::default(),
            ids: AtomicU64::new(seed ^ u64::from(std::process::id()).rotate_left(40)),
            busy: Arc::default(),
            own: ArcSwap::default(),
            denials: Denials {
                since: Instant::now(),
                second: AtomicU64::new(0),
                written: AtomicU32::new(0),
                left_out: AtomicU64::new(0),
            },
        })
    }

    /// The configuration in force; a request sees one whole one.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The limits in force, for a moment.
    pub fn limits(&self) -> Limits {
        self.current.load().limits
    }

    /// Puts a new configuration in force for what comes; live tunnels keep theirs.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }

    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The form of a request id in answers and logs: short enough to read out on the telephone.
    pub fn id_text(&self, id: u64) -> String {
        // An odd multiplier permutes the numbers, so neighbours differ in every digit.
        format!("{:012x}", (id.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 16)
    }

    /// Counts something that must be waited for at a drain.
    pub fn busy(&self) -> Busy {
        self.busy.count.fetch_add(1, Ordering::AcqRel);
        Busy(self.busy.clone())
    }

    /// Waits until nothing is busy.
    pub async fn idle(&self) {
        loop {
            let changed = self.busy.idle.notified();
            if self.busy.count.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }

    pub fn busy_now(&self) -> usize {
        self.busy.count.load(Ordering::Acquire)
    }

    /// Says which addresses the process listens on, so that it never tunnels to itself.
    pub fn set_own(&self, own: Vec<SocketAddr>) {
        self.own.store(Arc::new(own));
    }

    /// Whether `stream`, connected to `address`, has reached this very process.
    pub fn is_own(&self, address: SocketAddr, stream: &TcpStream) -> bool {
        let here = || stream.local_addr().is_ok_and(|l| l.ip() == address.ip());
        let own = self.own.load();
        let mut same_port = own.iter().filter(|o| o.port() == address.port());
        same_port.any(|o| *o == address || is_unspecified(o.ip()) && here())
    }

    /// Whether this denial gets a line of its own.
    pub fn log_denial(&self) -> bool {
        let (d, now) = (&self.denials, self.denials.since.elapsed().as_secs());
        if d.second.swap(now, Ordering::Relaxed) != now {
            d.written.store(0, Ordering::Relaxed);
            let left_out = d.left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                tracing::warn!(event = "denials_left_out", lines = left_out, "left out lines about denials");
            }
        }
        let fits = d.written.fetch_add(1, Ordering::Relaxed) < DENIAL_LINES;
        if !fits {
            d.left_out.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

#[derive(Default)]
struct Counter {
    count: AtomicUsize,
    idle: Notify,
}

/// Something that a drain waits for: a request on its way to a tunnel, or a tunnel.
pub struct Busy(Arc<Counter>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// The way out: first no new work, at the end no tunnels either.
#[derive(Default)]
pub struct Drain {
    begun: CancellationToken,
    cut: CancellationToken,
    /// Said before `cut` rings: a token is behind a lock, which no read of a tunnel's may take.
    cutting: AtomicBool,
}

impl Drain {
    pub fn begin(&self) {
        self.begun.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits for the drain to begin.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Ends what still lives.
    pub fn cut_all(&self) {
        self.cutting.store(true, Ordering::Release);
        self.cut.cancel();
    }

    /// Runs a tunnel to its end, or until all are cut: then none.
    pub fn unless_cut<F: Future + Unpin>(&self, tunnel: F) -> UnlessCut<'_, F> {
        UnlessCut { tunnel, cut: self.cut.cancelled(), cutting: &self.cutting, listening: false }
    }
}

pin_project! {
    /// See [`Drain::unless_cut`]. A tunnel holds it for a shift; an `async fn` would be larger.
    pub struct UnlessCut<'a, F> {
        tunnel: F,
        #[pin]
        cut: WaitForCancellationFuture<'a>,
        cutting: &'a AtomicBool,
        listening: bool,
    }
}

impl<F: Future + Unpin> Future for UnlessCut<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(end) = Pin::new(this.tunnel).poll(cx) {
            return Poll::Ready(Some(end));
        }
        // Asked once, the token wakes the task when it rings.
        if !std::mem::replace(this.listening, true) || this.cutting.load(Ordering::Acquire) {
            return this.cut.poll(cx).map(|()| None);
        }
        Poll::Pending
    }
}
