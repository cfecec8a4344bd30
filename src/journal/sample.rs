//! Decides which of the lines are written that clients can cause without end: so many a second for one
//! source, so many for all. A flood from one address, or from a thousand, leaves room for lines about other
//! clients. Memory is fixed, however many clients there are.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Lines of one source in a second.
const OF_ONE: u32 = 50;
/// Lines of all sources in a second.
const OF_ALL: u32 = 400;
/// The first lines of a source in a second are written even when other sources have used up `OF_ALL` ...
const FIRST: u32 = 20;
/// ... as long as there are no more such lines than this.
const OF_NEWCOMERS: u32 = 500;
/// Counters in each of two rows. Two sources that share a counter in both rows share their lines. A key
/// drawn at start decides which do, so that nobody can choose whose lines to take.
const COUNTERS: usize = 2048;

/// Counts the lines of this second. Cheap, and without a lock.
pub(crate) struct Sampler {
    since: Instant,
    second: AtomicU64,
    all: AtomicU32,
    newcomers: AtomicU32,
    left_out: AtomicU64,
    rows: [Box<[AtomicU64]>; 2],
    keys: RandomState,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub write: bool,
    /// Lines that were left out since the last report; reported once, at the beginning of a second.
    pub left_out: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        let row = || (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self {
            since: Instant::now(),
            second: AtomicU64::new(0),
            all: AtomicU32::new(0),
            newcomers: AtomicU32::new(0),
            left_out: AtomicU64::new(0),
            rows: [row(), row()],
            keys: RandomState::new(),
        }
    }
}

impl Sampler {
    /// Whether a line that `source` causes is written.
    pub(crate) fn judge(&self, source: IpAddr) -> Verdict {
        self.judge_at(source, self.since.elapsed().as_secs())
    }

    /// Lines that were left out in a second that is over, and were not reported yet.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out_at(self.since.elapsed().as_secs())
    }

    fn left_out_at(&self, now: u64) -> u64 {
        if self.second.load(Ordering::Relaxed) == now { 0 } else { self.left_out.swap(0, Ordering::Relaxed) }
    }

    fn judge_at(&self, source: IpAddr, now: u64) -> Verdict {
        let mut left_out = 0;
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.all.store(0, Ordering::Relaxed);
            self.newcomers.store(0, Ordering::Relaxed);
            left_out = self.left_out.swap(0, Ordering::Relaxed);
        }
        let write = self.fits(self.count(source, now));
        if !write {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Verdict { write, left_out }
    }

    fn fits(&self, own: u32) -> bool {
        own <= OF_ONE
            && (self.all.fetch_add(1, Ordering::Relaxed) < OF_ALL
                || own <= FIRST && self.newcomers.fetch_add(1, Ordering::Relaxed) < OF_NEWCOMERS)
    }

    /// How many lines this source has caused in this second, this one included. Where both its
    /// counters are shared it is more.
    fn count(&self, source: IpAddr, now: u64) -> u32 {
        let place = self.keys.hash_one(one_client(source));
        let [first, second] = [place as usize, (place >> 32) as usize].map(|p| p % COUNTERS);
        bump(&self.rows[0][first], now).min(bump(&self.rows[1][second], now))
    }
}

/// A counter holds the second that it counts for beside its count, so that none has to be emptied.
pub(super) fn bump(counter: &AtomicU64, now: u64) -> u32 {
    let stamp = now.wrapping_add(1) << 32;
    let next = |old: u64| {
        let count = if old >> 32 == stamp >> 32 { old as u32 } else { 0 };
        stamp | u64::from(count.saturating_add(1))
    };
    let old = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(next(old)));
    next(old.unwrap_or_else(|same| same)) as u32
}

/// A client that has one address of an IPv6 /64 has them all, so they count as one source.
pub(super) fn one_client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + last).to_be_bytes())
    }

    fn written(sampler: &Sampler, source: IpAddr, lines: u32, now: u64) -> u32 {
        (0..lines).map(|_| u32::from(sampler.judge_at(source, now).write)).sum()
    }

    #[test]
    fn a_flood_of_one_takes_nothing_from_another() {
        let sampler = Sampler::default();
        for second in 0..3 {
            assert_eq!(written(&sampler, v4(1), 100_000, second), OF_ONE);
            assert_eq!(written(&sampler, v4(2), 20, second), 20);
        }
    }

    #[test]
    fn a_flood_of_many_leaves_room_for_a_newcomer() {
        let sampler = Sampler::default();
        let flood: u32 = (0..20).map(|source| written(&sampler, v4(source), 10_000, 7)).sum();
        assert!((OF_ALL..=OF_ALL + OF_NEWCOMERS).contains(&flood), "{flood}");
        assert_eq!(written(&sampler, v4(9_999), 20, 7), 20);
        let more: u32 = (20..5_000).map(|source| written(&sampler, v4(source), 20, 7)).sum();
        assert!(flood + more < OF_ALL + OF_NEWCOMERS, "{flood} and {more} in one second");
    }

    #[test]
    fn one_network_of_ipv6_is_one_source() {
        let sampler = Sampler::default();
        let of = |network: u128, host: u128| IpAddr::from(Ipv6Addr::from((network << 64) | host));
        let one: u32 = (0..1000).map(|host| written(&sampler, of(0x2001_0db8 << 32, host), 1, 3)).sum();
        assert_eq!(one, OF_ONE);
        assert_eq!(written(&sampler, of(0x2001_0db8 << 32 | 1, 1), 20, 3), 20);
    }

    #[test]
    fn what_was_left_out_is_told_once() {
        let sampler = Sampler::default();
        written(&sampler, v4(1), OF_ONE + 30, 1);
        assert_eq!(sampler.judge_at(v4(1), 1).left_out, 0, "the second isn't over");
        assert_eq!(sampler.judge_at(v4(1), 2), Verdict { write: true, left_out: 31 });
        assert_eq!(sampler.judge_at(v4(1), 2).left_out, 0);
        // Also where no other line follows.
        written(&sampler, v4(1), OF_ONE + 7, 3);
        assert_eq!([3, 4, 4].map(|now| sampler.left_out_at(now)), [0, 7, 0]);
        assert_eq!(sampler.judge_at(v4(1), 5).left_out, 0);
    }
}
