//! What a look at all that fails found, with what the watch and the process itself find beside it.

use super::group::CLIENTS;
use super::watch::Watch;
use super::{Finding, Second, State};

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub at: Second,
    pub findings: Vec<Finding>,
    /// Clients of the last ten minutes.
    pub active: usize,
    /// Of those, clients for which something fails, be it a finding or not.
    pub failing: usize,
    /// Distinct clients that findings hit in sign-in, signalling or telecom.
    pub cut_off: usize,
    /// The last round of the watch failed.
    pub watch_failed: bool,
}

impl Report {
    /// `failed` when over half of the active clients, and at least three, fail in sign-in, signalling
    /// or telecom, or when the last round of the watch failed; degraded while anything else holds.
    #[must_use]
    pub fn state(&self) -> State {
        match () {
            () if self.watch_failed => State::Failed,
            () if self.cut_off >= CLIENTS && self.cut_off * 2 > self.active => State::Failed,
            () if !self.findings.is_empty() => State::Degraded,
            () => State::Ok,
        }
    }

    /// Adds what the watch finds.
    pub fn add(&mut self, watch: &Watch) {
        self.watch_failed = watch.failed();
        self.add_all(watch.findings(self.active));
    }

    /// Adds what others find. What clients tell of already is told once.
    pub fn add_all(&mut self, findings: impl Iterator<Item = Finding>) {
        for finding in findings {
            let same = |known: &Finding| {
                (known.key.cause, known.key.category) == (finding.key.cause, finding.key.category)
            };
            if !self.findings.iter().any(same) {
                self.findings.push(finding);
            }
        }
    }
}
