//! What is counted by rule as families of the library, in which form the counts of several processes are added
//! up.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily};
use strum::VariantArray;

use super::exposition::RuleFamily;
use super::rules::{CONNECT_EDGES, Counted, Labels};
use crate::outcome::Outcome;

/// The families that count by rule.
pub(super) fn of(rules: &[Counted]) -> Vec<MetricFamily> {
    let counter = |labels: &Labels, more: &[(&str, &str)], value: u64| {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = labelled(labels, more);
        metric.set_counter(counter);
        metric
    };
    let active = rules.iter().map(|rule| {
        let mut gauge = Gauge::default();
        gauge.set_value(rule.active as f64);
        let mut metric = labelled(&rule.labels, &[]);
        metric.set_gauge(gauge);
        metric
    });
    let connects = rules.iter().map(|rule| {
        let bucket = |((edge, _), count): (&(f64, &str), &u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*edge);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(CONNECT_EDGES.iter().zip(&rule.connects).map(bucket).collect());
        histogram.set_sample_count(rule.connects[CONNECT_EDGES.len()]);
        histogram.set_sample_sum(rule.connect_seconds);
        let mut metric = labelled(&rule.labels, &[]);
        metric.set_histogram(histogram);
        metric
    });
    let bytes = rules.iter().flat_map(|rule| {
        let directions = ["sent", "received"].into_iter().zip(rule.bytes);
        directions.map(|(word, bytes)| counter(&rule.labels, &[("direction", word)], bytes))
    });
    let tunnels = rules.iter().flat_map(|rule| {
        let outcomes = Outcome::VARIANTS.iter().zip(rule.outcomes);
        outcomes.map(|(outcome, count)| counter(&rule.labels, &[("outcome", outcome.into_str())], count))
    });
    let family = |kind: RuleFamily, metrics: Vec<Metric>| {
        let (name, help, of_type) = kind.about();
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(of_type);
        family.set_metric(metrics);
        family
    };
    vec![
        family(RuleFamily::Connect, connects.collect()),
        family(RuleFamily::Bytes, bytes.collect()),
        family(RuleFamily::Active, active.collect()),
        family(RuleFamily::Tunnels, tunnels.collect()),
    ]
}

/// A metric of a rule, without a value, its labels in the order of their names.
fn labelled(labels: &Labels, more: &[(&str, &str)]) -> Metric {
    let own = [("category", labels.category), ("domain", &*labels.domain)];
    let mut all: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    all.sort_unstable();
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(all.into_iter().map(pair).collect());
    metric
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Metrics;
    use super::super::generations::Family;
    use crate::policy::{Category, Pattern, Rule};

    #[test]
    fn counts_of_rules_are_added_up_over_processes() {
        let rule = Rule::added(Pattern::parse("*.a.example").unwrap(), vec![443], Category::Extra);
        let [new, old] = [1, 2].map(|tunnels| {
            let metrics = Metrics::new();
            let series = metrics.rule(&rule);
            for _ in 0..tunnels {
                series.began(1, Duration::from_millis(20));
                series.moved(3, 5);
            }
            // As long as it is in force.
            (metrics, series)
        });
        let families: Vec<Family> = old.0.families();
        let text: Vec<u8> = new.0.exposition(families.iter()).flatten().collect();
        let text = String::from_utf8(text).unwrap();
        let labels = "category=\"extra\",domain=\"*.a.example\"";
        for line in [
            format!("tunnels_active{{{labels}}} 3"),
            "tunnel_bytes_total{category=\"extra\",direction=\"received\",domain=\"*.a.example\"} 15"
                .to_owned(),
            format!("connect_duration_seconds_bucket{{{labels},le=\"0.01\"}} 0"),
            format!("connect_duration_seconds_bucket{{{labels},le=\"0.025\"}} 3"),
            format!("connect_duration_seconds_count{{{labels}}} 3"),
            format!("tunnels_total{{{labels},outcome=\"ok\"}} 0"),
        ] {
            let line = format!("\nccpgate_{line}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}\n{text}");
        }
    }
}
