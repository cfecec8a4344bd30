//! Metrics of several processes as one: what the processes before this one counted is added to what it
//! counts itself, so that no counter steps back at an upgrade.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

/// Gauges that count something of each process. Of all others the newest process's are true.
const SUMMED: [&str; 2] = ["ccpgate_tunnels_active", "ccpgate_client_connections"];

/// A family that is added up over processes, in a form that travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Family {
    name: String,
    help: String,
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Series {
    labels: Vec<(String, String)>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Counter(f64),
    Gauge(f64),
    Histogram { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Family {
    /// What of a family adds up; none where only the newest process's values are true.
    pub(super) fn of(family: &MetricFamily) -> Option<Self> {
        let kind = family.get_field_type();
        let adds_up = match kind {
            MetricType::COUNTER | MetricType::HISTOGRAM => true,
            MetricType::GAUGE => SUMMED.contains(&family.name()),
            MetricType::SUMMARY | MetricType::UNTYPED => false,
        };
        let series = |metric: &Metric| Series {
            labels: metric.get_label().iter().map(|l| (l.name().to_owned(), l.value().to_owned())).collect(),
            value: match kind {
                MetricType::COUNTER => Value::Counter(metric.get_counter().get_value()),
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let bucket = |b: &Bucket| (b.upper_bound(), b.cumulative_count());
                    Value::Histogram {
                        sum: histogram.get_sample_sum(),
                        count: histogram.get_sample_count(),
                        buckets: histogram.get_bucket().iter().map(bucket).collect(),
                    }
                }
                _ => Value::Gauge(metric.get_gauge().get_value()),
            },
        };
        adds_up.then(|| Self {
            name: family.name().to_owned(),
            help: family.help().to_owned(),
            series: family.get_metric().iter().map(series).collect(),
        })
    }

    /// Without what counts only while a process lives.
    pub(crate) fn lasts(&self) -> bool {
        !SUMMED.contains(&self.name.as_str())
    }

    /// Adds this to the family of the same name.
    fn add_to(&self, families: &mut Vec<MetricFamily>) {
        let family = match families.iter_mut().find(|family| family.name() == self.name) {
            Some(family) => family,
            None => {
                let mut family = MetricFamily::default();
                family.set_name(self.name.clone());
                family.set_help(self.help.clone());
                family.set_field_type(self.series.first().map_or(MetricType::COUNTER, |s| s.value.kind()));
                families.push(family);
                families.sort_by(|a, b| a.name().cmp(b.name()));
                return self.add_to(families);
            }
        };
        // By labels: a family may have thousands of series.
        let key = |metric: &Metric| -> Vec<(String, String)> {
            metric.get_label().iter().map(|l| (l.name().to_owned(), l.value().to_owned())).collect()
        };
        let mut places: std::collections::HashMap<_, _> =
            family.get_metric().iter().enumerate().map(|(at, metric)| (key(metric), at)).collect();
        for series in &self.series {
            let metrics = family.mut_metric();
            match places.get(&series.labels) {
                Some(at) => series.value.add_to(&mut metrics[*at]),
                None => {
                    places.insert(series.labels.clone(), metrics.len());
                    metrics.push(series.metric());
                }
            }
        }
    }
}

/// Adds what other processes counted to the families of this one.
pub(super) fn add<'a>(families: &mut Vec<MetricFamily>, others: impl Iterator<Item = &'a Family>) {
    others.filter(|family| !family.series.is_empty()).for_each(|family| family.add_to(families));
}

/// The same for families that travel.
pub(crate) fn fold(families: &mut Vec<Family>, others: impl Iterator<Item = Family>) {
    let others: Vec<Family> = others.collect();
    if others.is_empty() {
        return;
    }
    let mut whole = Vec::new();
    add(&mut whole, families.iter().chain(&others));
    *families = whole.iter().filter_map(Family::of).collect();
}

impl Series {
    fn metric(&self) -> Metric {
        let pair = |(name, value): &(String, String)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.clone());
            pair
        };
        let mut metric = Metric::default();
        metric.set_label(self.labels.iter().map(pair).collect());
        self.value.add_to(&mut metric);
        metric
    }
}

impl Value {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::COUNTER,
            Self::Gauge(_) => MetricType::GAUGE,
            Self::Histogram { .. } => MetricType::HISTOGRAM,
        }
    }

    fn add_to(&self, metric: &mut Metric) {
        match self {
            Self::Counter(value) => {
                let mut counter = Counter::default();
                counter.set_value(metric.get_counter().get_value() + value);
                metric.set_counter(counter);
            }
            Self::Gauge(value) => {
                let mut gauge = Gauge::default();
                gauge.set_value(metric.get_gauge().get_value() + value);
                metric.set_gauge(gauge);
            }
            Self::Histogram { sum, count, buckets } => {
                let own = metric.get_histogram();
                let mut whole = Histogram::default();
                whole.set_sample_sum(own.get_sample_sum() + sum);
                whole.set_sample_count(own.get_sample_count().saturating_add(*count));
                whole.set_bucket(summed(own.get_bucket(), buckets));
                metric.set_histogram(whole);
            }
        }
    }
}

/// Buckets added up. Versions may have other edges: at an edge that one lacks, its count is that of its
/// next lower one.
fn summed(own: &[Bucket], others: &[(f64, u64)]) -> Vec<Bucket> {
    let own: Vec<(f64, u64)> = own.iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
    let mut edges: Vec<f64> = own.iter().chain(others).map(|(edge, _)| *edge).collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    let at = |all: &[(f64, u64)], edge: f64| {
        all.iter().rev().find(|(known, _)| *known <= edge).map_or(0, |(_, count)| *count)
    };
    let bucket = |edge: f64| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(edge);
        bucket.set_cumulative_count(at(&own, edge).saturating_add(at(others, edge)));
        bucket
    };
    edges.into_iter().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

    use super::*;

    /// A process that has counted so much.
    fn process(rule: &str, count: u64, edges: &[f64]) -> Registry {
        let registry = Registry::new();
        let tunnels = IntCounterVec::new(Opts::new("tunnels_total", "h"), &["domain"]).unwrap();
        let active = IntGaugeVec::new(Opts::new("ccpgate_tunnels_active", "h"), &["domain"]).unwrap();
        let draining = IntGaugeVec::new(Opts::new("draining", "h"), &["domain"]).unwrap();
        let took = HistogramVec::new(HistogramOpts::new("seconds", "h").buckets(edges.to_vec()), &["domain"])
            .unwrap();
        registry.register(Box::new(tunnels.clone())).unwrap();
        registry.register(Box::new(active.clone())).unwrap();
        registry.register(Box::new(draining.clone())).unwrap();
        registry.register(Box::new(took.clone())).unwrap();
        tunnels.with_label_values(&[rule]).inc_by(count);
        active.with_label_values(&[rule]).set(count as i64);
        draining.with_label_values(&[rule]).set(count as i64);
        took.with_label_values(&[rule]).observe(1.5);
        registry
    }

    fn travelled(registry: &Registry) -> Vec<Family> {
        let families: Vec<Family> = registry.gather().iter().filter_map(Family::of).collect();
        serde_json::from_str(&serde_json::to_string(&families).unwrap()).unwrap()
    }

    fn shown(families: &[MetricFamily]) -> String {
        prometheus::TextEncoder::new().encode_to_string(families).unwrap()
    }

    #[test]
    fn what_is_counted_adds_up_and_what_is_a_state_does_not() {
        let old = travelled(&process("a", 3, &[1.0, 2.0]));
        let other = travelled(&process("gone", 5, &[1.0, 2.0]));
        let mut families = process("a", 4, &[1.0, 2.0]).gather();
        add(&mut families, old.iter().chain(&other));
        let text = shown(&families);
        for line in [
            "tunnels_total{domain=\"a\"} 7",
            "tunnels_total{domain=\"gone\"} 5",
            "ccpgate_tunnels_active{domain=\"a\"} 7",
            "draining{domain=\"a\"} 4",
            "seconds_bucket{domain=\"a\",le=\"1\"} 0",
            "seconds_bucket{domain=\"a\",le=\"2\"} 2",
            "seconds_bucket{domain=\"a\",le=\"+Inf\"} 2",
            "seconds_sum{domain=\"a\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("draining{domain=\"gone\"}"));
        assert_eq!(text.matches("# TYPE tunnels_total").count(), 1);
    }

    #[test]
    fn folding_is_adding_and_other_edges_lose_nothing() {
        let mut sum = travelled(&process("a", 3, &[1.0, 2.0]));
        fold(&mut sum, travelled(&process("a", 4, &[1.6])).into_iter().filter(Family::lasts));
        let mut families = Vec::new();
        add(&mut families, sum.iter());
        let text = shown(&families);
        for line in [
            "tunnels_total{domain=\"a\"} 7",
            "ccpgate_tunnels_active{domain=\"a\"} 3",
            "seconds_bucket{domain=\"a\",le=\"1.6\"} 1",
            "seconds_bucket{domain=\"a\",le=\"2\"} 2",
            "seconds_count{domain=\"a\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
