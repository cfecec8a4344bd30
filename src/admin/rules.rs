//! `rules` of `/api/status`: each rule for TCP with its tunnels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::as_text;
use crate::findings::Second;
use crate::proxy::shared::Shared;

/// Minutes that a rule's `lately` looks back.
const LATELY: Second = 10;

/// A rule for TCP.
#[derive(Serialize)]
pub(super) struct Rule {
    pub domain: String,
    pub category: &'static str,
    /// Live tunnels.
    pub active: u64,
    /// All tunnels so far, the live ones included.
    pub total: u64,
    /// Those that failed by the network.
    pub failed: u64,
    pub lately: Lately,
    pub sent: u64,
    pub received: u64,
    #[serde(serialize_with = "as_text::some")]
    pub last_used: Option<Timestamp>,
}

/// Of the last ten minutes.
#[derive(Serialize)]
pub(super) struct Lately {
    pub ended: u64,
    pub failed: u64,
}

/// Every domain and category once: rules that share both share their counters.
pub(super) fn of(shared: &Shared) -> Vec<Rule> {
    shared.remember();
    let (snapshot, journal) = (shared.snapshot(), &shared.journal);
    let lately = journal.history.lately(journal.findings.now(), LATELY);
    let mut all = BTreeMap::new();
    for (rule, series) in snapshot.rules() {
        let (ended, failed) = series.totals();
        let (active, [sent, received]) = (series.active(), series.bytes());
        let last_used = if active > 0 { Some(Timestamp::now().as_second()) } else { series.last_used() };
        let of_late = lately.get(&series.labels).copied().unwrap_or_default();
        let shown = Rule {
            domain: rule.pattern.to_string(),
            category: rule.category.as_str(),
            active,
            total: ended + active,
            failed,
            lately: Lately { ended: of_late.all, failed: of_late.of_them },
            sent,
            received,
            last_used: last_used.and_then(|at| Timestamp::from_second(at).ok()),
        };
        all.insert((rule.category, shown.domain.clone()), shown);
    }
    all.into_values().collect()
}
