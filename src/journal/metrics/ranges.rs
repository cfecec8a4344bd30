//! The families that show the version of ip-ranges.json in force.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use prometheus::IntGauge;

use super::registrar::Registrar;
use crate::ranges::current::{InForce, next_deadline};

pub(crate) struct RangesMetrics {
    age: IntGauge,
    token: IntGauge,
    pending: IntGauge,
    deadline: IntGauge,
}

impl RangesMetrics {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        Self {
            age: families.gauge(
                "ccpgate_ranges_age_seconds",
                "How long ago AWS made the ip-ranges.json in force; 0 without one.",
            ),
            token: families.gauge(
                "ccpgate_ranges_sync_token",
                "The syncToken of the ip-ranges.json in force; 0 without one.",
            ),
            pending: families.gauge(
                "ccpgate_ranges_pending_prefixes",
                "Prefixes in use that AWS announced lately, so that a firewall may still lack them.",
            ),
            deadline: families.gauge(
                "ccpgate_ranges_next_deadline_timestamp_seconds",
                "From when on AWS may use the first of the pending prefixes, in seconds since 1970; 0 without any.",
            ),
        }
    }

    /// Shows what is in force.
    pub(crate) fn show(&self, in_force: &InForce) {
        let current = in_force.load();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.age.set(current.as_ref().map_or(0, |current| whole(current.age(Timestamp::now()).as_secs())));
        self.token.set(current.as_ref().map_or(0, |current| whole(current.sync_token())));
        let keeping = in_force.keeping().unwrap_or_default();
        self.pending.set(keeping.pending.len() as i64);
        let midnight = |day: Date| TimeZone::UTC.to_timestamp(day.to_datetime(Time::midnight())).ok();
        let deadline = next_deadline(&keeping.pending).and_then(midnight);
        self.deadline.set(deadline.map_or(0, Timestamp::as_second));
    }
}
