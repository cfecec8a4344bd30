//! A scrape of /metrics, read by series.

use std::collections::{BTreeMap, BTreeSet};

/// Name and labels, in one spelling: `name{a="x",b="y"}` with the labels in order.
fn canonical(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.trim().to_owned() };
    let labels = labels.trim_end().strip_suffix('}').unwrap_or_else(|| panic!("not a series: {series}"));
    // No label value in these tests holds `",`.
    let labels: BTreeSet<&str> =
        labels.split_inclusive("\",").map(|label| label.trim_end_matches(',').trim()).collect();
    format!("{name}{{{}}}", labels.into_iter().collect::<Vec<_>>().join(","))
}

/// One scrape.
pub(crate) struct Metrics {
    pub text: String,
    values: BTreeMap<String, f64>,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let values = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
                (canonical(series), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
            })
            .collect();
        Self { text: text.to_owned(), values }
    }

    /// The value of a series, if it exists.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.values.get(&canonical(series)).copied()
    }

    /// All series, with their values.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().map(|(series, value)| (series.as_str(), *value))
    }

    /// All series of a metric, with their values.
    pub(crate) fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.values
            .iter()
            .filter(move |(series, _)| {
                series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
            })
            .map(|(series, value)| (series.as_str(), *value))
    }

    /// The sum over all series of a metric.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.family(name).map(|(_, value)| value).sum()
    }

    pub(crate) fn series_count(&self) -> usize {
        self.values.len()
    }
}

/// TLS handshakes so far, full and resumed.
pub(crate) fn handshakes(metrics: &Metrics) -> (f64, f64) {
    let of = |resumed: &str| {
        metrics.get(&format!("ccpgate_tls_handshakes_total{{resumed=\"{resumed}\"}}")).unwrap()
    };
    (of("false"), of("true"))
}
