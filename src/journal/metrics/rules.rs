//! The families that count by rule. A rule has 27 series, which here are 27 numbers beside one another
//! and one name; as vectors of the library, each series with labels and a description of its own, ten
//! thousand rules held 80 MiB and took a third of a second to be written out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strum::VariantArray;

use super::categories::CategorySeries;
use crate::journal::ratio::Crossing;
use crate::lock::lock;
use crate::outcome::Outcome;
use crate::policy::Category;

/// The upper edges of the time that a connect takes, in seconds, and how they are written.
pub(super) const CONNECT_EDGES: [(f64, &str); 12] = [
    (0.001, "0.001"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1"),
    (2.0, "2"),
    (5.0, "5"),
    (10.0, "10"),
];

/// The labels of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Labels {
    /// The pattern of the rule, or [`super::NO_RULE`].
    pub domain: Box<str>,
    pub category: &'static str,
    /// None for what only report mode let through.
    pub traffic: Option<Category>,
}

/// What is counted of one rule, over all reloads that keep it. Rules with the same labels share it.
pub struct RuleSeries {
    pub(crate) labels: Arc<Labels>,
    pub(crate) category: Arc<CategorySeries>,
    active: AtomicI64,
    sent: AtomicU64,
    received: AtomicU64,
    /// When the last tunnel began, in seconds since 1970; 0: never.
    last_used: AtomicI64,
    outcomes: [AtomicU64; Outcome::VARIANTS.len()],
    /// By edge, and those beyond the last one.
    connects: [AtomicU64; CONNECT_EDGES.len() + 1],
    connect_nanoseconds: AtomicU64,
}

impl RuleSeries {
    pub(super) fn new(labels: Arc<Labels>, category: Arc<CategorySeries>) -> Self {
        Self {
            labels,
            category,
            active: AtomicI64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_used: AtomicI64::new(0),
            outcomes: Default::default(),
            connects: Default::default(),
            connect_nanoseconds: AtomicU64::new(0),
        }
    }

    /// A tunnel began, at this second since 1970, so long after its CONNECT was read.
    pub(in crate::journal) fn began(&self, at: i64, took: Duration) {
        let seconds = took.as_secs_f64();
        let edge = CONNECT_EDGES.iter().position(|(edge, _)| seconds <= *edge);
        self.connects[edge.unwrap_or(CONNECT_EDGES.len())].fetch_add(1, Relaxed);
        self.connect_nanoseconds.fetch_add(took.as_nanos() as u64, Relaxed);
        self.last_used.store(at, Relaxed);
        self.joins();
    }

    /// A live tunnel comes under this rule.
    pub(crate) fn joins(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    /// A live tunnel leaves.
    pub(crate) fn leaves(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// Counts bytes of a tunnel, from the client and from upstream.
    pub(crate) fn moved(&self, sent: u64, received: u64) {
        if sent > 0 {
            self.sent.fetch_add(sent, Relaxed);
        }
        if received > 0 {
            self.received.fetch_add(received, Relaxed);
        }
    }

    /// Counts a tunnel's end, once. What it makes of the ratio that is told of, if anything.
    pub(in crate::journal) fn ended(&self, outcome: Outcome, client: IpAddr) -> Option<Crossing> {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
        let failed = outcome.is_error().then_some(client);
        let mut told = None;
        for ratio in &self.category.ratios {
            told = ratio.record(failed).or(told);
        }
        told
    }

    /// Live tunnels.
    pub(crate) fn active(&self) -> u64 {
        self.active.load(Relaxed).try_into().unwrap_or(0)
    }

    /// Bytes from clients and from upstream.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.sent.load(Relaxed), self.received.load(Relaxed)]
    }

    /// When the last tunnel began, in seconds since 1970.
    pub(crate) fn last_used(&self) -> Option<i64> {
        Some(self.last_used.load(Relaxed)).filter(|at| *at > 0)
    }

    /// Tunnels that ended, and those of them that count against the network.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let of = |wanted: fn(Outcome) -> bool| {
            let all = Outcome::VARIANTS.iter().filter(|outcome| wanted(**outcome));
            all.map(|outcome| self.outcome(*outcome)).sum()
        };
        (of(|_| true), of(Outcome::is_error))
    }

    fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }

    fn counted(&self) -> Counted {
        let mut sum = 0;
        Counted {
            labels: self.labels.clone(),
            active: self.active(),
            bytes: self.bytes(),
            outcomes: self.outcomes.each_ref().map(|count| count.load(Relaxed)),
            connects: self.connects.each_ref().map(|count| {
                sum += count.load(Relaxed);
                sum
            }),
            connect_seconds: self.connect_nanoseconds.load(Relaxed) as f64 / 1e9,
        }
    }
}

/// What was counted of a rule by one moment.
pub(super) struct Counted {
    pub labels: Arc<Labels>,
    pub active: u64,
    /// From clients, and from upstream.
    pub bytes: [u64; 2],
    /// In the order of their variants.
    pub outcomes: [u64; Outcome::VARIANTS.len()],
    /// How many connects took at most as long as each edge; all of them last.
    pub connects: [u64; CONNECT_EDGES.len() + 1],
    pub connect_seconds: f64,
}

/// The series that exist: of the rules in force, of those that tunnels are under, and of those that were one
/// of both at the last reload, so that their last values can still be scraped.
#[derive(Default)]
pub(super) struct Rules(Mutex<BTreeMap<Arc<Labels>, Arc<RuleSeries>>>);

impl Rules {
    /// The series with these labels, where they exist.
    pub(super) fn get(&self, labels: &Labels) -> Option<Arc<RuleSeries>> {
        lock(&self.0).get(labels).cloned()
    }

    /// These exist from now on. Those that no configuration and no tunnel holds are forgotten.
    pub(super) fn put_in_force<'a>(&self, all: impl Iterator<Item = &'a Arc<RuleSeries>>) {
        let mut known = lock(&self.0);
        known.retain(|_, series| Arc::strong_count(series) > 1);
        for series in all {
            known.entry(series.labels.clone()).or_insert_with(|| series.clone());
        }
    }

    /// What they have counted, in the order of their labels.
    pub(super) fn all(&self) -> Vec<Counted> {
        let known = lock(&self.0);
        known.values().map(|series| series.counted()).collect()
    }

    /// Tunnels that live.
    pub(super) fn active(&self) -> u64 {
        let known = lock(&self.0);
        known.values().map(|series| series.active()).sum()
    }
}
