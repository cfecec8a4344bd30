//! `policy.ranges`: which addresses a target may have. No I/O.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::policy::OutsideRanges;
use crate::ranges::current::{Current, InForce};

/// Which addresses a target may be dialled at.
#[derive(Debug)]
pub(crate) enum Within {
    /// Public ones, and those of `egress.allow_private`.
    Public,
    /// Of those, the ones that AWS publishes.
    Ranges(Arc<Current>),
    /// Any: the administrator names the target itself.
    Anywhere,
}

/// `policy.ranges` in force.
#[derive(Debug)]
pub(crate) struct Guard {
    pub mode: OutsideRanges,
    /// `ranges.max_age`.
    pub max_age: Duration,
    pub in_force: Arc<InForce>,
}

impl Guard {
    /// One that looks at nothing.
    pub(crate) fn off() -> Self {
        Self { mode: OutsideRanges::Off, max_age: Duration::ZERO, in_force: Arc::default() }
    }

    /// Which addresses a target may have; `of_catalogue`: it is allowed as one of AWS's own names.
    pub(crate) fn within(&self, of_catalogue: bool) -> Within {
        if self.mode != OutsideRanges::Enforce || !of_catalogue {
            return Within::Public;
        }
        match self.judged_by() {
            (OutsideRanges::Enforce, Some(current)) => Within::Ranges(current),
            _ => Within::Public,
        }
    }

    /// The version by which addresses outside are counted; none where they aren't, or are refused.
    pub(crate) fn warns(&self) -> Option<Arc<Current>> {
        if self.mode == OutsideRanges::Off {
            return None;
        }
        match self.judged_by() {
            (OutsideRanges::Warn, current) => current,
            _ => None,
        }
    }

    /// What `policy.ranges` amounts to now: stale ranges, and such as have nothing to judge by, refuse
    /// nobody.
    pub(crate) fn mode(&self) -> OutsideRanges {
        self.judged_by().0
    }

    fn judged_by(&self) -> (OutsideRanges, Option<Arc<Current>>) {
        let current = self.in_force.load().filter(|current| !current.amazon.is_empty());
        // Only what is enforced needs the clock.
        let is_good =
            || current.as_ref().is_some_and(|current| current.age(Timestamp::now()) <= self.max_age);
        match self.mode {
            OutsideRanges::Enforce if !is_good() => (OutsideRanges::Warn, current),
            mode => (mode, current),
        }
    }
}
