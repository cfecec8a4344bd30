//! The series of a configuration that may yet be refused. Scrapes show none of the new ones before it takes effect,
//! and if it never does, nothing of them is left.

use std::collections::HashMap;
use std::sync::Arc;

use super::Metrics;
use super::categories::CategorySeries;
use super::rules::{Labels, RuleSeries};
use crate::policy::Rule;
use crate::ranges::select::Set;

/// Finds the series that exist, and makes those that don't. They exist from [`Metrics::put_in_force`] on.
pub struct Draft<'a> {
    metrics: &'a Metrics,
    new: HashMap<Arc<Labels>, Arc<RuleSeries>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, new: HashMap::new() }
    }

    /// The series of a rule.
    pub fn rule(&mut self, rule: &Rule) -> Arc<RuleSeries> {
        let category = self.metrics.categories.of(rule.category);
        self.series(rule.pattern.as_str(), rule.category.as_str(), category)
    }

    /// The series of a service whose addresses `policy.ip_targets` lets through, named as in lists.
    pub fn service(&mut self, set: Set) -> Arc<RuleSeries> {
        let category = set.category();
        self.series(set.name(), category.as_str(), self.metrics.categories.of(category))
    }

    /// Rules with the same labels share one.
    fn series(
        &mut self,
        domain: &str,
        name: &'static str,
        category: &Arc<CategorySeries>,
    ) -> Arc<RuleSeries> {
        let labels = Labels { domain: domain.into(), category: name, traffic: category.traffic };
        if let Some(series) = self.metrics.rules.get(&labels) {
            return series;
        }
        let labels = Arc::new(labels);
        let new = || Arc::new(RuleSeries::new(labels.clone(), category.clone()));
        self.new.entry(labels.clone()).or_insert_with(new).clone()
    }
}
