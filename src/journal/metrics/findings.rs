//! The families that show what fails now.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus::{IntGauge, IntGaugeVec};
use strum::VariantArray;

use super::NO_RULE;
use super::registrar::Registrar;
use crate::cause::Cause;
use crate::findings::report::Report;
use crate::lock::lock;
use crate::policy::Category;

/// What the running proxy can find by itself; their series exist from the start. Those of the watch's
/// other causes come with the first such finding, and stay.
const BY_ITSELF: [Cause; 24] = [
    Cause::ProxyUnreachable,
    Cause::ProxyAuth,
    Cause::ProxyDenied,
    Cause::ProxyLimit,
    Cause::DnsNxdomain,
    Cause::DnsServfail,
    Cause::DnsTimeout,
    Cause::DnsPrivate,
    Cause::OutsideRanges,
    Cause::InstanceUnknown,
    Cause::TcpRefused,
    Cause::TcpTimeout,
    Cause::TcpReset,
    Cause::TcpUnreachable,
    Cause::SourceAddress,
    Cause::NotConfigured,
    Cause::TunnelReset,
    Cause::TunnelIdle,
    Cause::OneDesk,
    Cause::ForeignProtocol,
    Cause::Limit,
    Cause::RangesStale,
    Cause::RangesAside,
    Cause::RangesDue,
];

pub(crate) struct FindingMetrics {
    active: IntGauge,
    failing: IntGauge,
    finding: IntGaugeVec,
    /// The findings that are shown.
    shown: Mutex<BTreeSet<(Cause, Option<Category>)>>,
}

impl FindingMetrics {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        let made = Self {
            active: families.gauge("ccpgate_clients_active", "Distinct clients of the last ten minutes."),
            failing: families.gauge(
                "ccpgate_clients_failing",
                "Distinct clients of the last ten minutes for which something fails.",
            ),
            finding: families.gauges(
                "ccpgate_finding",
                "1 while something fails for this cause; docs/causes.md has the words.",
                &["cause", "category", "owner"],
            ),
            shown: Mutex::default(),
        };
        for cause in BY_ITSELF {
            made.series(cause, None);
            for category in Category::VARIANTS {
                made.series(cause, Some(*category));
            }
        }
        made
    }

    fn series(&self, cause: Cause, category: Option<Category>) -> IntGauge {
        let category = category.map_or(NO_RULE, Category::as_str);
        self.finding.with_label_values(&[cause.as_str(), category, cause.about().owner.as_str()])
    }

    /// Shows what a look found. What no longer holds goes to 0, and stays.
    pub(in crate::journal) fn show(&self, report: &Report) {
        self.active.set(report.active as i64);
        self.failing.set(report.failing as i64);
        let now: BTreeSet<_> = report.findings.iter().map(|f| (f.key.cause, f.key.category)).collect();
        let mut shown = lock(&self.shown);
        for (cause, category) in shown.difference(&now) {
            self.series(*cause, *category).set(0);
        }
        for (cause, category) in &now {
            self.series(*cause, *category).set(1);
        }
        *shown = now;
    }
}
