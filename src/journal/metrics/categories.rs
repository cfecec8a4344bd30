//! The families that count by category alone.

use std::sync::Arc;

use prometheus::Histogram;
use strum::VariantArray;

use super::NO_RULE;
use super::registrar::Registrar;
use crate::journal::ratio::Ratio;
use crate::policy::Category;

/// The label for all categories together.
const ALL: &str = "all";
/// A tunnel lasts from a moment to a shift and more.
const DURATION_EDGES: &[f64] =
    &[0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 28800.0, 36000.0, 43200.0];
/// With edges at the panel's own limits: accept 2 s, invite 5 s, WebSocket open 10 s.
const FIRST_BYTE_EDGES: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What is counted by category alone.
pub struct CategorySeries {
    /// None for what only report mode let through.
    pub(crate) traffic: Option<Category>,
    pub duration: Histogram,
    pub first_byte: Histogram,
    /// Its own and `all`; none for what only report mode let through.
    pub(super) ratios: Vec<Arc<Ratio>>,
}

/// The series of all categories.
pub(super) struct Categories {
    /// In the order of their variants.
    each: Vec<Arc<CategorySeries>>,
    /// Of what only report mode let through.
    pub none: Arc<CategorySeries>,
    all: Arc<Ratio>,
}

impl Categories {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        let duration = families.histograms(
            "ccpgate_tunnel_duration_seconds",
            "How long ended tunnels lived.",
            &["category"],
            DURATION_EDGES,
        );
        let first_byte = families.histograms(
            "ccpgate_first_byte_seconds",
            "From the CONNECT to the first byte from upstream.",
            &["category"],
            FIRST_BYTE_EDGES,
        );
        let ratio = families.fractions(
            "ccpgate_error_ratio",
            "Share of dns, connect, upstream_reset and idle_timeout among the last 200 ended tunnels; above 0.02 doubt the network.",
            &["category"],
        );
        let ratio_of = |name: &str| Arc::new(Ratio::new(ratio.with_label_values(&[name]), name == ALL));
        let all = ratio_of(ALL);
        let series = |traffic: Option<Category>| {
            let name = traffic.map_or(NO_RULE, Category::as_str);
            Arc::new(CategorySeries {
                traffic,
                duration: duration.with_label_values(&[name]),
                first_byte: first_byte.with_label_values(&[name]),
                ratios: traffic.map_or(Vec::new(), |traffic| vec![ratio_of(traffic.as_str()), all.clone()]),
            })
        };
        Self {
            each: Category::VARIANTS.iter().map(|category| series(Some(*category))).collect(),
            none: series(None),
            all,
        }
    }

    pub(super) fn of(&self, category: Category) -> &Arc<CategorySeries> {
        &self.each[category as usize]
    }

    /// The error ratio of each category and of all, as the gauges show it.
    pub(super) fn error_ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let categories = Category::VARIANTS.iter().zip(&self.each);
        let of = categories.map(|(category, series)| (category.as_str(), series.ratios[0].get()));
        std::iter::once((ALL, self.all.get())).chain(of)
    }
}
