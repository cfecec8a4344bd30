//! The ledger: every live tunnel, and the last ones that ended.
//!
//! A tunnel has a seat, and its own task alone writes there how much it moved and when; whoever wants to know
//! reads it meanwhile. A lock is taken where a tunnel begins and where it ends, never between.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use futures_util::task::AtomicWaker;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use super::id::RequestId;
use super::metrics::rules::Labels;
use crate::lock::lock;
use crate::outcome::{EndedBy, Outcome};
use crate::policy::replay::Use;
use crate::target::{Host, Target};

/// Tunnels are spread over so many locks, by their ids, so that beginnings don't wait for one another.
const SHARDS: usize = 16;
/// No place in a shard.
const NOWHERE: u32 = u32::MAX;

/// What `[ledger]` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How many ended tunnels are remembered.
    pub ended: usize,
    /// For how long.
    pub keep: Duration,
    /// Whether client addresses are cut to their networks wherever they are shown.
    pub anonymise: bool,
}

/// What is known of a tunnel: facts that don't change while it lives, and counters.
pub(crate) struct Seat {
    pub id: RequestId,
    /// Smaller than a `SocketAddr`, as is the upstream's.
    client: (IpAddr, u16),
    pub target: Target,
    /// The address that took the connection.
    upstream: Option<(IpAddr, u16)>,
    /// Of the rule that it is under.
    pub labels: Arc<Labels>,
    /// Anybody with an AWS account can get a name that the rule matches.
    pub shared: bool,
    /// When the CONNECT was read.
    pub started: Instant,
    /// When the 200 was written, in milliseconds since 1970; 0 before.
    began: i64,
    sent: AtomicU64,
    received: AtomicU64,
    /// When bytes moved last, by [`seconds`].
    moved: AtomicU32,
    /// Where it is in its shard, whose lock protects this.
    place: AtomicU32,
    /// The end of a drain has chosen it to end.
    pub chosen: AtomicBool,
    /// Wakes its task.
    task: AtomicWaker,
}

impl Seat {
    pub(crate) fn new(
        id: RequestId,
        client: SocketAddr,
        target: Target,
        (labels, shared): (Arc<Labels>, bool),
        started: Instant,
    ) -> Self {
        Self {
            id,
            client: (client.ip(), client.port()),
            target,
            upstream: None,
            labels,
            shared,
            started,
            began: 0,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            moved: AtomicU32::new(seconds()),
            place: AtomicU32::new(NOWHERE),
            chosen: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    /// The same tunnel under another rule. What was counted stays with the old one.
    pub(crate) fn under(&self, rule: (Arc<Labels>, bool)) -> Self {
        let Self { id, started, upstream, began, .. } = *self;
        Self { upstream, began, ..Self::new(id, self.client(), self.target.clone(), rule, started) }
    }

    /// Bytes from the client and from upstream.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed)]
    }

    /// Takes down how many bytes it has moved by now. For the tunnel's own task, which alone writes: no
    /// exchange that other threads would have to see at once.
    pub(crate) fn has_moved(&self, sent: u64, received: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        self.received.store(received, Ordering::Relaxed);
        self.moved.store(seconds(), Ordering::Relaxed);
    }

    /// This wakes its task from now on, once.
    pub(crate) fn wakes(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(crate) fn client(&self) -> SocketAddr {
        self.client.into()
    }

    pub(crate) fn upstream(&self) -> Option<SocketAddr> {
        self.upstream.map(SocketAddr::from)
    }

    /// When its 200 was written. None for what never was a tunnel.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.began).ok().filter(|_| self.began != 0)
    }

    /// What its agent used, last at this time.
    pub(crate) fn used(&self, at: Timestamp) -> Use<'_> {
        Use { target: &self.target, client: self.client.0.to_canonical().into(), at }
    }

    /// How many seconds nothing has moved.
    pub(crate) fn idle(&self) -> u32 {
        seconds().saturating_sub(self.moved.load(Ordering::Relaxed))
    }
}

/// Seconds of a clock that only goes on. Each time a tunnel is woken it is read, so it is the one that the
/// kernel keeps in memory and moves on with its ticks.
fn seconds() -> u32 {
    u32::try_from(clock_gettime(ClockId::MonotonicCoarse).tv_sec).unwrap_or(0)
}

/// A tunnel that ended, or that came to nothing although the policy let it through.
#[derive(Clone)]
pub(crate) struct Ended {
    pub seat: Arc<Seat>,
    pub at: Timestamp,
    pub outcome: Outcome,
    pub by: EndedBy,
    /// From the CONNECT to the end.
    pub lived: Duration,
    /// How many seconds nothing had moved.
    pub idle: u32,
}

impl Ended {
    /// When its 200 was written, or when its CONNECT was read where it never was.
    pub(crate) fn began(&self) -> Timestamp {
        let read = || self.at.checked_sub(self.lived).unwrap_or(self.at);
        self.seat.began().unwrap_or_else(read)
    }
}

/// The first so many of what was asked for, the newest first, and how many more there are.
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    pub left_out: usize,
}

#[derive(Default)]
struct Shard {
    live: Vec<Arc<Seat>>,
    /// The hosts of its tunnels, live and ended: each name is held once.
    hosts: HashSet<Arc<str>, RandomState>,
    /// From how many on those are dropped that no tunnel has any more.
    crowded: usize,
}

impl Shard {
    /// The one copy of a name.
    fn intern(&mut self, name: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.hosts.get(name) {
            return known.clone();
        }
        if self.hosts.len() >= self.crowded {
            self.hosts.retain(|name| Arc::strong_count(name) > 1);
            self.crowded = (self.hosts.len() * 2).max(16);
        }
        self.hosts.insert(name.clone());
        name.clone()
    }

    fn enter(&mut self, seat: &Arc<Seat>) {
        if self.live.len() == self.live.capacity() {
            // Where a tunnel's task panicked its seat stayed behind, and nobody else holds it.
            self.live.retain(|seat| Arc::strong_count(seat) > 1);
            for (at, seat) in self.live.iter().enumerate() {
                seat.place.store(at as u32, Ordering::Relaxed);
            }
        }
        seat.place.store(self.live.len() as u32, Ordering::Relaxed);
        self.live.push(seat.clone());
    }

    fn leave(&mut self, seat: &Seat) {
        let at = seat.place.swap(NOWHERE, Ordering::Relaxed) as usize;
        if at >= self.live.len() {
            return;
        }
        self.live.swap_remove(at);
        if let Some(moved) = self.live.get(at) {
            moved.place.store(at as u32, Ordering::Relaxed);
        }
        if self.live.len() * 4 < self.live.capacity() {
            self.live.shrink_to(self.live.len() * 2);
        }
    }
}

/// The last ended tunnels, in the order of their ends.
struct Past {
    ended: VecDeque<Ended>,
    /// Every tunnel that ended after this is in `ended`.
    complete_since: Timestamp,
}

/// All live tunnels, and the last ended ones.
pub(crate) struct Ledger {
    shards: [Mutex<Shard>; SHARDS],
    past: Mutex<Past>,
    /// There was no tunnel before.
    begun: Timestamp,
    most: AtomicUsize,
    /// In seconds.
    keep: AtomicU64,
}

impl Default for Ledger {
    /// Remembers nothing that ended until it is told how much.
    fn default() -> Self {
        let begun = Timestamp::now();
        Self {
            shards: Default::default(),
            past: Mutex::new(Past { ended: VecDeque::new(), complete_since: begun }),
            begun,
            most: AtomicUsize::new(0),
            keep: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    /// Changes how much is remembered; what is too much is forgotten at once.
    pub(super) fn configure(&self, settings: &Settings) {
        self.most.store(settings.ended, Ordering::Relaxed);
        self.keep.store(settings.keep.as_secs(), Ordering::Relaxed);
        let mut past = lock(&self.past);
        self.forget(&mut past, Timestamp::now());
        past.ended.shrink_to_fit();
    }

    /// A tunnel begins at this time: its 200 is on the way.
    pub(crate) fn begins(&self, seat: &mut Arc<Seat>, upstream: Option<SocketAddr>, at: Timestamp) {
        let mut shard = self.shard(seat.id);
        // It is nobody else's until it is entered.
        if let Some(seat) = Arc::get_mut(seat) {
            seat.upstream = upstream.map(|address| (address.ip(), address.port()));
            seat.began = at.as_millisecond();
            if let Host::Name(name) = &mut seat.target.host {
                *name = shard.intern(name);
            }
        }
        shard.enter(seat);
    }

    /// A live tunnel has come under another rule.
    pub(crate) fn replaced(&self, old: &Seat, new: &Arc<Seat>) {
        let mut shard = self.shard(old.id);
        shard.leave(old);
        shard.enter(new);
    }

    /// A tunnel has ended, or came to nothing.
    pub(super) fn ends(&self, end: Ended) {
        self.shard(end.seat.id).leave(&end.seat);
        // It would keep the memory of the task for as long as the seat is remembered.
        drop(end.seat.task.take());
        let (mut past, now) = (lock(&self.past), end.at);
        past.ended.push_back(end);
        self.forget(&mut past, now);
    }

    /// Wakes every live tunnel.
    pub(crate) fn wake(&self) {
        for shard in &self.shards {
            // Not under the lock, for which a tunnel that is woken and ends would wait.
            let live = lock(shard).live.clone();
            live.iter().for_each(|seat| seat.task.wake());
        }
    }

    /// The live tunnels among those that are wanted, the newest first.
    pub(crate) fn live(&self, wanted: impl Fn(&Seat) -> bool, most: usize) -> Page<Arc<Seat>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let known = shard.live.iter().filter(|seat| Arc::strong_count(seat) > 1 && wanted(seat));
            found.extend(known.cloned());
        }
        found.sort_by_key(|seat| std::cmp::Reverse((seat.began, seat.id)));
        let left_out = found.len().saturating_sub(most);
        found.truncate(most);
        Page { items: found, left_out }
    }

    /// The ended tunnels among those that are wanted, the last one first; and since when none is missing.
    pub(crate) fn ended(&self, wanted: impl Fn(&Seat) -> bool, most: usize) -> (Page<Ended>, Timestamp) {
        let mut past = lock(&self.past);
        self.forget(&mut past, Timestamp::now());
        let mut found = past.ended.iter().rev().filter(|end| wanted(&end.seat));
        let items = found.by_ref().take(most).cloned().collect();
        (Page { items, left_out: found.count() }, past.complete_since)
    }

    /// Since when this process has tunnels.
    pub(crate) fn begun(&self) -> Timestamp {
        self.begun
    }

    /// Whether no tunnel of this process that ended since then was forgotten.
    pub(crate) fn is_whole(&self, since: Timestamp) -> bool {
        let complete = lock(&self.past).complete_since;
        complete <= since || complete == self.begun
    }

    /// What ended before this is remembered no more.
    pub(crate) fn forgotten(&self, now: Timestamp) -> Timestamp {
        let keep = i64::try_from(self.keep.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        now.checked_sub(SignedDuration::from_secs(keep)).unwrap_or(Timestamp::MIN)
    }

    fn forget(&self, past: &mut Past, now: Timestamp) {
        let (most, forgotten) = (self.most.load(Ordering::Relaxed), self.forgotten(now));
        let too_old = |end: &Ended| end.at < forgotten;
        while past.ended.len() > most || past.ended.front().is_some_and(too_old) {
            if let Some(gone) = past.ended.pop_front() {
                past.complete_since = past.complete_since.max(gone.at);
            }
        }
    }

    fn shard(&self, id: RequestId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[id.number() as usize % SHARDS])
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
