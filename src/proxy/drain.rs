//! How a process ends: it takes no new work, waits for its tunnels, and at last cuts those that still live.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::journal::ledger::{Ledger, Seat};

/// A successor accepts.
const NOW: i64 = i64::MAX;

/// How far the process is with its end.
#[derive(Default)]
pub(crate) struct Drain {
    /// A drain waits for what is counted here: requests on their way to a tunnel, and tunnels.
    busy: TaskTracker,
    /// Set by the signal to end: `/readyz` then says no.
    leaving: AtomicBool,
    /// When a successor last accepted in this process's place, in seconds since 1970: [`NOW`] while it does, 0
    /// where none did.
    handed_over: AtomicI64,
    /// When what still lives is cut, in seconds since 1970; 0 before the drain.
    end: AtomicI64,
    begun: CancellationToken,
    /// Each step wakes every tunnel, which reads this at each wake-up.
    step: AtomicU8,
}

/// How far the cutting of tunnels has come; never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Step {
    None,
    /// A tunnel whose end was chosen is cut.
    Chosen,
    /// Each tunnel notes how much it has moved.
    Watch,
    /// A tunnel that has moved nothing since `Watch` is cut.
    CutQuiet,
    CutAll,
}

impl Drain {
    /// Announces the end of the process; everything is still served.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether the signal to end has come.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// A successor takes all new connections: those that are kept alive here are served on.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(NOW, Ordering::Release);
    }

    /// The successor has gone at this second since 1970; this process accepts again.
    pub(crate) fn take_back(&self, second: i64) {
        self.handed_over.store(second, Ordering::Release);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire) == NOW
    }

    /// Whether this process alone has accepted from this second since 1970 on: it knows what clients opened.
    pub(crate) fn is_alone_since(&self, second: i64) -> bool {
        self.handed_over.load(Ordering::Acquire) < second
    }

    /// What still lives at this second since 1970 is cut.
    pub(crate) fn ends_at(&self, second: i64) {
        self.end.store(second, Ordering::Relaxed);
    }

    /// When what still lives is cut, in seconds since 1970; none before the drain.
    pub(crate) fn end(&self) -> Option<i64> {
        Some(self.end.load(Ordering::Relaxed)).filter(|end| *end > 0)
    }

    /// Takes no new work from now on.
    pub(crate) fn begin(&self) {
        self.begun.cancel();
        self.busy.close();
    }

    /// Counts a request on its way to a tunnel, and then its tunnel, until this is dropped.
    pub(crate) fn busy(&self) -> TaskTrackerToken {
        self.busy.token()
    }

    /// Waits until nothing is counted any more, once the drain has begun.
    pub(crate) async fn idle(&self) {
        self.busy.wait().await;
    }

    /// Tunnels, and requests on their way to one.
    pub(crate) fn busy_now(&self) -> usize {
        self.busy.len()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits for the drain to begin.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Ends the tunnels that were chosen since the last time.
    pub(crate) fn cut_chosen(&self, tunnels: &Ledger) {
        self.step_to(tunnels, Step::Chosen);
    }

    /// Lets each tunnel note how much it has moved.
    pub(crate) fn watch(&self, tunnels: &Ledger) {
        self.step_to(tunnels, Step::Watch);
    }

    /// Ends the tunnels that moved nothing since [`Drain::watch`].
    pub(crate) fn cut_quiet(&self, tunnels: &Ledger) {
        self.step_to(tunnels, Step::CutQuiet);
    }

    /// Ends what still lives.
    pub(crate) fn cut_all(&self, tunnels: &Ledger) {
        self.step_to(tunnels, Step::CutAll);
    }

    fn step_to(&self, tunnels: &Ledger, step: Step) {
        self.step.fetch_max(step as u8, Ordering::AcqRel);
        tunnels.wake();
    }

    /// Runs a tunnel to its end; none when it is cut before. Its seat, which is in the ledger, says whether it was
    /// chosen, and what it moves.
    pub(crate) fn unless_cut<'a, F: Future + Unpin>(&'a self, tunnel: F, seat: &'a Seat) -> UnlessCut<'a, F> {
        UnlessCut { tunnel, seat, drain: self, moved: 0, seen: Step::None as u8, listening: false }
    }
}

/// See [`Drain::unless_cut`]. A tunnel holds this for a shift, and an `async fn` would be larger.
pub(crate) struct UnlessCut<'a, F> {
    tunnel: F,
    seat: &'a Seat,
    drain: &'a Drain,
    /// What had moved at `Watch`, by `moved`.
    moved: u32,
    seen: u8,
    listening: bool,
}

/// The low half of how many bytes a tunnel has moved: enough to tell whether it has moved any since.
fn moved(seat: &Seat) -> u32 {
    seat.bytes().into_iter().fold(0, |sum, bytes| sum.wrapping_add(bytes as u32))
}

impl<F: Future + Unpin> Future for UnlessCut<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(end) = Pin::new(&mut this.tunnel).poll(cx) {
            return Poll::Ready(Some(end));
        }
        let step = || this.drain.step.load(Ordering::Acquire);
        if std::mem::replace(&mut this.listening, true) && step() == Step::None as u8 {
            return Poll::Pending;
        }
        // Each wake-up uses it up.
        this.seat.wakes(cx.waker());
        // Read again, now that the next step wakes this task: none is missed.
        let before = std::mem::replace(&mut this.seen, step());
        if before < Step::Watch as u8 && this.seen >= Step::Watch as u8 {
            this.moved = moved(this.seat);
        }
        let quiet = this.seen == Step::CutQuiet as u8 && moved(this.seat) == this.moved;
        if this.seen == Step::CutAll as u8 || quiet || this.seat.chosen.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    use jiff::Timestamp;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::journal::id::RequestId;
    use crate::journal::metrics::rules::Labels;
    use crate::target::Target;

    /// The seat of a tunnel that has begun.
    fn seat(ledger: &Ledger) -> Arc<Seat> {
        let target = Target::parse_authority(b"good.example:443").unwrap();
        let labels = Arc::new(Labels { domain: "none".into(), category: "none", traffic: None });
        let client = "10.0.0.7:50000".parse().unwrap();
        let mut seat =
            Arc::new(Seat::new(RequestId::for_tests(1), client, target, (labels, false), Instant::now()));
        ledger.begins(&mut seat, None, Timestamp::now());
        seat
    }

    /// What wakes a tunnel: an end that has bytes for it, or a timer of its own.
    #[derive(Default)]
    struct Alarm {
        woken: Notify,
        bytes: AtomicU64,
    }

    impl Alarm {
        fn wakes(&self, bytes: u64) {
            self.bytes.store(bytes, Ordering::Relaxed);
            self.woken.notify_one();
        }
    }

    /// A process with tunnels.
    #[derive(Clone, Default)]
    struct Process {
        drain: Arc<Drain>,
        ledger: Arc<Ledger>,
    }

    impl Process {
        /// A tunnel that lives for ever.
        fn tunnel(&self, alarm: &Arc<Alarm>) -> JoinHandle<Option<()>> {
            let (seat, alarm) = (seat(&self.ledger), alarm.clone());
            let moves = seat.clone();
            self.carries(seat, async move {
                loop {
                    alarm.woken.notified().await;
                    let [sent, received] = moves.bytes();
                    moves.has_moved(sent, received + alarm.bytes.load(Ordering::Relaxed));
                }
            })
        }

        fn carries(
            &self,
            seat: Arc<Seat>,
            run: impl Future<Output = ()> + Send + 'static,
        ) -> JoinHandle<Option<()>> {
            let drain = self.drain.clone();
            tokio::spawn(async move { drain.unless_cut(Box::pin(run), &seat).await })
        }
    }

    #[test]
    fn what_clients_opened_while_a_successor_accepted_is_not_known_here() {
        let drain = Drain::default();
        assert!(drain.is_alone_since(1) && !drain.is_handed_over());
        drain.hand_over();
        assert!(!drain.is_alone_since(i64::MAX) && drain.is_handed_over());
        drain.take_back(100);
        assert!(!drain.is_handed_over() && !drain.is_alone_since(100) && drain.is_alone_since(101));
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn quiet_tunnels_are_cut_before_those_that_talk() {
        let process = Process::default();
        let (talk, silence): (Arc<Alarm>, Arc<Alarm>) = Default::default();
        let talker = process.tunnel(&talk);
        let quiet = process.tunnel(&silence);
        settle().await;
        // What a tunnel moved before the machine went down says nothing.
        silence.wakes(1);
        settle().await;
        process.drain.watch(&process.ledger);
        settle().await;
        assert!(!talker.is_finished() && !quiet.is_finished());
        talk.wakes(1);
        // Nor does a timer of its own that wakes it.
        silence.wakes(0);
        settle().await;
        process.drain.cut_quiet(&process.ledger);
        settle().await;
        assert!(quiet.is_finished() && !talker.is_finished());
        process.drain.cut_all(&process.ledger);
        assert_eq!(talker.await.unwrap(), None);
        assert_eq!(quiet.await.unwrap(), None);
    }

    #[tokio::test]
    async fn chosen_tunnels_are_cut_one_step_after_the_other() {
        let process = Process::default();
        let seats: Vec<_> = (0..3).map(|_| seat(&process.ledger)).collect();
        let tunnels: Vec<_> =
            seats.iter().map(|seat| process.carries(seat.clone(), std::future::pending())).collect();
        for (at, seat) in seats.iter().enumerate() {
            settle().await;
            seat.chosen.store(true, Ordering::Relaxed);
            process.drain.cut_chosen(&process.ledger);
            settle().await;
            let ended: Vec<bool> = tunnels.iter().map(|tunnel| tunnel.is_finished()).collect();
            assert_eq!(ended, [0, 1, 2].map(|tunnel| tunnel <= at));
        }
    }

    #[tokio::test]
    async fn a_cut_without_a_warning_ends_all_and_so_does_one_that_came_before() {
        let (process, silence) = (Process::default(), Arc::default());
        let before = process.tunnel(&silence);
        settle().await;
        process.drain.cut_all(&process.ledger);
        assert_eq!(before.await.unwrap(), None);
        assert_eq!(process.tunnel(&silence).await.unwrap(), None);
        process.drain.watch(&process.ledger);
        assert_eq!(process.tunnel(&silence).await.unwrap(), None, "a step never goes back");
    }

    #[tokio::test]
    async fn a_tunnel_that_comes_while_the_machine_goes_down_is_judged_by_what_it_moves() {
        let process = Process::default();
        let (talk, silence): (Arc<Alarm>, Arc<Alarm>) = Default::default();
        process.drain.watch(&process.ledger);
        let (talker, quiet) = (process.tunnel(&talk), process.tunnel(&silence));
        settle().await;
        talk.wakes(1);
        silence.wakes(0);
        settle().await;
        process.drain.cut_quiet(&process.ledger);
        settle().await;
        assert!(quiet.is_finished() && !talker.is_finished());
    }
}
