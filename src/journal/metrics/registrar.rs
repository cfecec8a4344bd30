//! Makes families and registers them. Names, labels and edges are constants of [`super`], each of them registered
//! once, so that none of this can fail.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub(super) const VALID: &str = "names, labels and edges are constants";

/// Registers every family that it makes.
pub(super) struct Registrar<'a>(pub &'a Registry);

impl Registrar<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help).expect(VALID))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help).expect(VALID))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    /// Gauges of numbers with a fraction.
    pub(super) fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, edges: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
        self.keep(Histogram::with_opts(options).expect(VALID))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str], edges: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
        self.keep(HistogramVec::new(options, labels).expect(VALID))
    }

    pub(super) fn keep<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect(VALID);
        collector
    }
}
