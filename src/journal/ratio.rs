//! The live error ratio: the share of the last ended tunnels of a category that the network made fail.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use prometheus::Gauge;

/// How many ended tunnels it looks back on: AWS judges a rehearsal by 200 calls.
const WINDOW: usize = 200;

/// The last outcomes of a category, as hit and miss.
pub(super) struct Ratio {
    window: Mutex<(VecDeque<bool>, usize)>,
    gauge: Gauge,
}

impl Ratio {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { window: Mutex::default(), gauge }
    }

    pub(super) fn record(&self, error: bool) {
        let mut guard = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, errors) = &mut *guard;
        if last.len() == WINDOW && last.pop_front() == Some(true) {
            *errors -= 1;
        }
        last.push_back(error);
        *errors += usize::from(error);
        self.gauge.set(*errors as f64 / last.len() as f64);
    }
}
