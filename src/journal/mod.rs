//! What the process says of itself: metrics, the log, and one line for each tunnel and denial.
//!
//! The data path tells the journal once of each beginning, end and denial. Everybody who wants to know of
//! them listens here: metrics, the error ratio, the access line.

pub(crate) mod access;
pub(crate) mod id;
pub(crate) mod journald;
pub(crate) mod last;
pub mod log;
pub mod metrics;
pub(crate) mod rate;
mod ratio;
pub(crate) mod sample;

use std::net::IpAddr;
use std::sync::Arc;

use access::{AccessLog, Event};
use id::{Ids, RequestId};
use metrics::Metrics;
use sample::{Sampler, Verdict};

/// Counts and logs what it is told.
pub(crate) struct Journal {
    pub metrics: Arc<Metrics>,
    access: AccessLog,
    lines: Sampler,
    ids: Ids,
}

impl Journal {
    pub(crate) fn new(metrics: Arc<Metrics>, access: AccessLog) -> Self {
        Self { metrics, access, lines: Sampler::default(), ids: Ids::default() }
    }

    pub(crate) fn next_id(&self) -> RequestId {
        self.ids.next()
    }

    /// A tunnel has begun: its 200 is on the way. `active` shows it until its record is dropped.
    pub(crate) fn began(&self, event: &Event<'_>) {
        if let Some(series) = event.series {
            series.connect.observe(event.duration_ms.0.as_secs_f64());
            series.active.inc();
        }
    }

    /// A tunnel has ended, or came to nothing although the policy let it through.
    pub(crate) fn ended(&self, event: &Event<'_>) {
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
    pub(crate) fn denied(&self, event: &Event<'_>) {
        if let Some(denial) = event.reason {
            self.metrics.denied(denial);
        }
        if event.logged && self.takes_line_about(event.client.ip()) {
            self.access.write(event);
        }
    }

    /// Whether a denial, or another failure that a client can cause without end, gets a line of its
    /// own. A flood is counted, and said in one line.
    pub(crate) fn takes_line_about(&self, client: IpAddr) -> bool {
        let Verdict { write, left_out } = self.lines.judge(client);
        if left_out > 0 {
            tracing::warn!(event = "denials_left_out", lines = left_out, "left out lines about denials");
        }
        write
    }
}
