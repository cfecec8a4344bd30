//! The ids of requests: what joins an answer that somebody reads out with a line of the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// Names a request in answers and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(super) u64);

impl RequestId {
    #[cfg(test)]
    pub(crate) const fn for_tests(number: u64) -> Self {
        Self(number)
    }

    /// Counts up by one with each request.
    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    /// Short enough to read out on the telephone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An odd multiplier permutes the numbers, so neighbours differ in every digit.
        write!(f, "{:012x}", self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Gives them out.
pub(super) struct Ids(AtomicU64);

impl Default for Ids {
    /// Ids differ between replicas and restarts, so that one can be found in gathered logs.
    fn default() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        Self(AtomicU64::new(seed ^ u64::from(std::process::id()).rotate_left(40)))
    }
}

impl Ids {
    pub(super) fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
