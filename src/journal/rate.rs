//! How often a line is written whose cause has no client: so many a second, or one in so many seconds.
//! Lines that a client causes are counted in [`super::sample`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::sample::bump;

/// So many lines a second, whoever causes them.
pub(crate) struct Rate {
    most: u32,
    since: Instant,
    counter: AtomicU64,
}

impl Rate {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, since: Instant::now(), counter: AtomicU64::new(0) }
    }

    /// Counts a line; whether it may be written in this second.
    pub(crate) fn fits(&self) -> bool {
        bump(&self.counter, self.since.elapsed().as_secs()) <= self.most
    }
}

/// Lets one line through in so many seconds: where a policy distributes a wrong address, every browser of
/// an office asks for it.
pub(crate) struct Seldom {
    since: Instant,
    /// The second from which on the next one is due.
    due: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { since: Instant::now(), due: AtomicU64::new(0) }
    }
}

impl Seldom {
    const SECONDS: u64 = 10;

    /// Whether a line is due; then the next one isn't for a while.
    pub(crate) fn is_due(&self) -> bool {
        let (now, due) = (self.since.elapsed().as_secs(), self.due.load(Ordering::Relaxed));
        now >= due
            && self
                .due
                .compare_exchange(due, now + Self::SECONDS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lines_at_once_one_is_due() {
        let seldom = Seldom::default();
        assert_eq!([seldom.is_due(), seldom.is_due()], [true, false]);
    }
}
