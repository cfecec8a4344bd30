//! The end of the process: `limits.lame_duck`, in which it says that it leaves and serves as before;
//! the drain, in which it takes no new work and live tunnels go on; then what still lives is cut.
//!
//! A drain lasts `limits.drain` after a signal to stop, and no longer than `limits.reboot_drain` once the
//! machine goes down. A machine that goes down while nobody is there (unattended upgrades) must come up
//! again. So quiet tunnels are ended halfway, and their browsers connect through the next proxy before the
//! next call; tunnels that move bytes keep the whole time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::control::Asker;
use super::hand_over::Step;
use super::listeners::{Admins, Closed, Leaving};
use super::notify::{self, Manager};
use super::shut::Shut;
use super::{Server, Signals};
use super::{control, farewell, jobs};
use crate::admin::older::{Question, ask};
use crate::config::Limits;
use crate::proxy::shared::Shared;

/// How long after SIGTERM a connection that was just accepted may still begin its request.
const LATECOMERS: Duration = Duration::from_secs(1);
/// How long workers may take to accept what waits in the queues of listeners that close.
const EMPTYING: Duration = Duration::from_secs(10);
/// How long tunnels that are cut at the end of the drain have to write their access lines, and the process to write
/// down what it knows: milliseconds, but for a machine that is busy with its own end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Signal,
    /// The machine goes down.
    GoingDown,
    /// A successor accepts in this process's place; no signal has come yet.
    HandedOver,
}

impl Why {
    /// How long it says that it leaves, and serves as before.
    fn lame_duck(self, limits: &Limits) -> Duration {
        match self {
            Self::Signal => limits.lame_duck,
            // A machine that goes down gives all of this a minute.
            Self::GoingDown => limits.lame_duck.min(limits.reboot_drain / 2),
            Self::HandedOver => Duration::ZERO,
        }
    }
}

/// How fast the process must end, by the signals so far.
#[derive(PartialEq)]
enum Pace {
    /// Within `limits.drain`.
    Orderly,
    /// Within `limits.reboot_drain`: the machine goes down.
    Reboot,
    /// Now: a second signal has come.
    Now,
}

impl Server {
    /// Ends the process. The limits count from now. By the two channels come processes that ask to take over, and
    /// what becomes of the one that does so just now.
    pub(super) async fn drain(
        mut self,
        signals: &mut Signals,
        manager: &Manager,
        why: Why,
        asking: mpsc::Receiver<Asker>,
        stepping: mpsc::Receiver<Step>,
    ) {
        let going_down = why == Why::GoingDown;
        let signalled = Instant::now();
        let (shared, limits) = (self.shared.clone(), self.config.limits.clone());
        let Signals { terminate, interrupt, power, .. } = signals;
        shared.journal.metrics.draining.set(1);
        shared.drain.leave();
        // Not before: a process whose line closes here asks who serves, and were it this one it would end.
        drop(asking);
        let vacated = self.admin.vacated.clone();
        let taken_over = tokio::spawn(succeeded(stepping, vacated.clone()));
        let second = second(terminate, interrupt, why != Why::Signal);
        tokio::pin!(second);
        let mut pace = if going_down { Pace::Reboot } else { Pace::Orderly };
        let lame_duck = why.lame_duck(&limits);
        if !lame_duck.is_zero() {
            manager.stopping(&notify::state(&shared));
            tracing::info!(
                event = "lame_duck",
                limit = %humantime::format_duration(lame_duck),
                "leaving: /readyz says no, and connections are still accepted for limits.lame_duck"
            );
            tokio::select! {
                () = sleep(lame_duck) => {}
                // Another process serves in this one's place: nobody need look for the next proxy.
                () = vacated.cancelled() => {}
                () = &mut second => pace = Pace::Now,
                Some(()) = power.recv() => pace = Pace::Reboot,
            }
        }
        let deadline = Deadline::new(&limits, why, signalled.elapsed());
        shared.drain.ends_at(deadline.drained());
        shared.drain.begin();
        if why != Why::HandedOver {
            // Of a process that handed over the unit stays as it is: its ExecStop= would not run any more.
            manager.stopping(&notify::state(&shared));
        }
        tracing::info!(
            event = "draining",
            tunnels = shared.drain.busy_now(),
            limit = %humantime::format_duration(whole_seconds(deadline.drain)),
            "draining: no new connections; live tunnels go on; a second signal ends them now"
        );
        let (closed, shut) = self.close_listeners();
        let ended = pace != Pace::Now
            && tokio::select! {
                () = idle(&shared, closed, &shut, taken_over) => true,
                () = deadline.passed(&shared, power, pace == Pace::Reboot) => false,
                () = second => false,
            };
        if !ended {
            tracing::warn!(
                event = "cutting",
                tunnels = shared.drain.busy_now(),
                "cutting the tunnels that still live"
            );
            shared.drain.cut_all(&shared.journal.ledger);
            let _ = timeout(LAST_WORDS, shared.drain.idle()).await;
        }
        self.remember_at_last().await;
        self.last_words(shut).await;
        tracing::info!(event = "stopped", "stopped");
    }

    /// Leaves the listeners to a successor, where there is one. Else the proxy listeners close, and the admin
    /// listener stays until another process wants its port. The listeners that closed, and the manager's sockets of
    /// them.
    fn close_listeners(&mut self) -> (Vec<Closed>, Shut) {
        if !self.admin.generations.is_newest() {
            self.listeners.hand_over();
            return (Vec::new(), Shut::default());
        }
        let vacated = self.admin.vacated.clone();
        let Leaving { admins, closed, passed } = self.listeners.close_proxies();
        let folder = self.control.as_ref().and_then(|control| control.path.parent());
        let shut = Shut::new(passed, folder.map(Into::into), self.shared.generation);
        // Dropped with the runtime, when the process ends.
        tokio::spawn(async move {
            vacated.cancelled().await;
            tracing::info!(event = "vacated", "another process starts, and has the admin port from now on");
            admins.into_iter().for_each(Admins::close);
        });
        (closed, shut)
    }

    /// Writes down once more which firewall fetched which list. A folder that hangs, as one on a network may, holds up
    /// no end.
    async fn remember_at_last(&self) {
        let Some(folder) = self.ranges.borrow().state().cloned() else { return };
        let lists = self.edl.lists.clone();
        let kept = timeout(LAST_WORDS, spawn_blocking(move || lists.remember(&folder))).await;
        let why = match kept {
            Ok(Ok(kept)) => kept.err(),
            Ok(Err(_)) => None,
            Err(_) => Some(format!("ranges.state hangs for {} s", LAST_WORDS.as_secs())),
        };
        if let Some(why) = why {
            jobs::consumers::tell(&why);
        }
    }

    /// Tells the newest process what this one counted, and leaves the row: the sockets of the manager, and its own
    /// one. Their folder may hang, too, where the manager gives no runtime directory.
    async fn last_words(&mut self, shut: Shut) {
        let (admin, control, own) = (self.admin.clone(), self.control.take(), self.shared.generation);
        let said = spawn_blocking(move || {
            if let Some(folder) = control.as_ref().and_then(|control| control.path.parent()) {
                let newest = control::living(folder).into_iter().find(|(who, _)| who.id > own);
                if let Some((who, socket)) = newest
                    && let Err(error) = ask(&socket, &Question::Ends(Box::new(admin.last_words())))
                {
                    tracing::warn!(event = "control_failed", %error, "process {} can't be told", who.pid);
                }
            }
            shut.end();
        });
        let _ = timeout(LAST_WORDS, said).await;
    }
}

/// Waits for the process that takes over just now, if one does; whether it is ready. It finds its line closed then, and
/// accepts in this one's place: the admin port is for it alone.
async fn succeeded(mut stepping: mpsc::Receiver<Step>, vacated: CancellationToken) -> bool {
    let ready = matches!(stepping.recv().await, Some(Step::Ready(_)));
    if ready {
        vacated.cancel();
    }
    ready
}

/// Waits for the signal to end now. The first SIGTERM after SIGPWR or a hand-over is none: the service
/// manager sends it in any case.
async fn second(terminate: &mut Signal, interrupt: &mut Signal, one_more: bool) {
    let terminated = async {
        if one_more {
            terminate.recv().await;
        }
        terminate.recv().await;
    };
    tokio::select! {
        () = terminated => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits until no tunnel lives, and no connection that may still begin one. Nobody counts those that wait to be
/// accepted: on a busy machine workers come to their queues later than this thread gets here. Behind them the
/// manager's sockets are shut, unless a successor accepts from them.
async fn idle(shared: &Shared, closed: Vec<Closed>, shut: &Shut, taken_over: JoinHandle<bool>) {
    let left: Vec<_> = closed.iter().map(|closed| closed.address).collect();
    let emptied = async {
        for Closed { mut stopper, .. } in closed {
            stopper.ended().await;
        }
    };
    let _ = timeout(EMPTYING, emptied).await;
    shared.own.leave(&left);
    let refuse = async {
        if !taken_over.await.unwrap_or(false) {
            shut.refuse();
        }
        std::future::pending().await
    };
    let served = async {
        let deadline = Instant::now() + LATECOMERS;
        while shared.admission.occupied() > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        shared.drain.idle().await;
    };
    // A successor that is slow holds up no end.
    tokio::select! {
        biased;
        () = refuse => {}
        () = served => {}
    }
}

/// The nearest whole seconds, to be read: the least that was spent since a signal would show as nanoseconds.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.saturating_add(Duration::from_millis(500)).as_secs())
}

/// How long live tunnels may run on.
struct Deadline {
    /// From the signal to stop.
    drain: Duration,
    /// From SIGPWR, by which the machine goes down.
    reboot: Duration,
}

impl Deadline {
    /// What is left when so much time was spent as a lame duck.
    fn new(limits: &Limits, why: Why, spent: Duration) -> Self {
        let drain = limits.drain.saturating_sub(spent);
        match why {
            Why::GoingDown => Self { drain, reboot: limits.reboot_drain.saturating_sub(spent) },
            Why::Signal | Why::HandedOver => Self { drain, reboot: limits.reboot_drain },
        }
    }

    /// The end of the drain, in seconds since 1970, if the machine stays up.
    fn drained(&self) -> i64 {
        let seconds = i64::try_from(self.drain.as_secs()).unwrap_or(i64::MAX);
        Timestamp::now().as_second().saturating_add(seconds)
    }

    /// Waits until the time is over. `power` receives SIGPWR; `already`: it has come.
    async fn passed(self, shared: &Shared, power: &mut Signal, already: bool) {
        let begun = Instant::now();
        let end = begun.checked_add(self.drain);
        if !already {
            let drained = async {
                let Some(end) = end else { return std::future::pending().await };
                let farewell = end.checked_sub(farewell::length(self.drain)).unwrap_or(begun);
                sleep_until(farewell).await;
                farewell::say(shared, end).await;
            };
            tokio::select! {
                () = drained => return,
                Some(()) = power.recv() => {}
            }
        }
        let now = Instant::now();
        let short = now + self.reboot;
        let end = end.map_or(short, |end| end.min(short));
        tracing::warn!(
            event = "going_down",
            tunnels = shared.drain.busy_now(),
            limit = %humantime::format_duration(Duration::from_secs((end - now).as_secs())),
            "the machine goes down: quiet tunnels are ended halfway, all at the end of limits.reboot_drain"
        );
        shared.drain.watch(&shared.journal.ledger);
        sleep_until(now + (end - now) / 2).await;
        shared.drain.cut_quiet(&shared.journal.ledger);
        sleep_until(end).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_left_of_a_drain_reads_well() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let limits = Limits { drain: s(3600), ..Config::default().limits };
        for (spent, left) in [(ms(0), s(3600)), (ms(1), s(3600)), (ms(60_002), s(3540)), (s(7200), s(0))] {
            let deadline = Deadline::new(&limits, Why::Signal, spent);
            assert_eq!(whole_seconds(deadline.drain), left, "{spent:?} as a lame duck");
        }
        assert_eq!(whole_seconds(Duration::MAX), s(u64::MAX));
    }
}
