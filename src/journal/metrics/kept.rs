//! Metrics of the process while nothing can be read of it.

use std::sync::Mutex;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::lock::lock;

/// A collector that reads files. Without a descriptor left it reads none, and its series would be gone when they are
/// wanted most, and a sum over processes would step back: what it read last stands.
pub(super) struct Kept<C> {
    collector: C,
    last: Mutex<Vec<MetricFamily>>,
}

impl<C: Collector> Kept<C> {
    pub(super) fn new(collector: C) -> Self {
        let last = Mutex::new(collector.collect());
        Self { collector, last }
    }
}

impl<C: Collector> Collector for Kept<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.collector.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.collector.collect();
        let mut last = lock(&self.last);
        if now.len() >= last.len() {
            *last = now;
        }
        last.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus::IntCounter;

    use super::*;

    /// Reads nothing at every second time.
    struct Hindered(AtomicU64, IntCounter);

    impl Collector for Hindered {
        fn desc(&self) -> Vec<&Desc> {
            self.1.desc()
        }

        fn collect(&self) -> Vec<MetricFamily> {
            if self.0.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                return Vec::new();
            }
            self.1.inc();
            self.1.collect()
        }
    }

    #[test]
    fn what_was_read_last_stands() {
        let kept = Kept::new(Hindered(AtomicU64::new(0), IntCounter::new("seconds", "help").unwrap()));
        let values: Vec<f64> =
            (0..4).map(|_| kept.collect()[0].get_metric()[0].get_counter().get_value()).collect();
        assert_eq!(values, [1.0, 2.0, 2.0, 3.0]);
    }
}
