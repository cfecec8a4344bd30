//! The family that counts who asks for the lists of firewalls.

use prometheus::IntCounterVec;

use super::registrar::Registrar;
use crate::export::edl;

/// The label of what is no list.
const NO_LIST: &str = "none";

pub(crate) struct EdlMetrics {
    requests: IntCounterVec,
}

impl EdlMetrics {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        let requests = families.counters(
            "ccpgate_edl_requests_total",
            "Requests for lists of firewalls, by list and status of the answer.",
            &["list", "code"],
        );
        for list in &edl::ALL {
            for code in ["200", "304", "503"] {
                requests.with_label_values(&[list.name, code]);
            }
        }
        Self { requests }
    }

    /// Counts a request for a list, or for something that is none.
    pub(crate) fn asked(&self, list: Option<&edl::Fetched>, code: u16) {
        let name = list.map_or(NO_LIST, |list| list.name);
        self.requests.with_label_values(&[name, &code.to_string()]).inc();
    }
}
