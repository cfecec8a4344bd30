//! What the process says of itself: metrics, the log, and one line for each tunnel and denial.
//!
//! The data path tells the [`Journal`] once of each beginning, end and denial. Everybody who wants to
//! know of them listens here: metrics, the error ratio, the access line.

pub mod access;
pub(crate) mod journald;
pub mod last;
pub mod log;
pub mod metrics;
mod ratio;
pub mod sample;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use access::{AccessLog, Event};
use metrics::Metrics;
use sample::{Sampler, Verdict};

/// Names a request in answers and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

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

/// Counts and logs what it is told.
pub struct Journal {
    pub metrics: Arc<Metrics>,
    access: AccessLog,
    lines: Sampler,
    ids: AtomicU64,
}

impl Journal {
    pub fn new(metrics: Arc<Metrics>, access: AccessLog) -> Self {
        // Ids differ between replicas and restarts, so that one can be found in gathered logs.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let ids = AtomicU64::new(seed ^ u64::from(std::process::id()).rotate_left(40));
        Self { metrics, access, lines: Sampler::default(), ids }
    }

    pub fn next_id(&self) -> RequestId {
        RequestId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// A tunnel has begun: its 200 is on the way. `active` shows it until its record is dropped.
    pub fn began(&self, event: &Event<'_>) {
        if let Some(series) = event.series {
            series.connect.observe(event.duration_ms.0.as_secs_f64());
            series.active.inc();
        }
    }

    /// A tunnel has ended, or came to nothing although the policy let it through.
    pub fn ended(&self, event: &Event<'_>) {
        if let (Some(series), Some(outcome)) = (event.series, event.outcome) {
            series.ended(outcome);
            if event.live {
                series.category.duration.observe(event.duration_ms.0.as_secs_f64());
            }
        }
        if event.logged {
            self.access.write(event);
        }
    }

    /// A request was refused before anything was dialled for it.
    pub fn denied(&self, event: &Event<'_>) {
        if let Some(denial) = event.reason {
            self.metrics.denied(denial);
        }
        if event.logged && self.takes_line_about(event.client.ip()) {
            self.access.write(event);
        }
    }

    /// Whether a denial, or another failure that a client can cause without end, gets a line of its
    /// own. A flood is counted, and said in one line.
    pub fn takes_line_about(&self, client: IpAddr) -> bool {
        let Verdict { write, left_out } = self.lines.judge(client);
        if left_out > 0 {
            tracing::warn!(event = "denials_left_out", lines = left_out, "left out lines about denials");
        }
        write
    }
}
