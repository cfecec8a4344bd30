//! All metric families, with their help, in one place; handles are looked up once per rule, so
//! that the data path only adds to atomics. Label values come from closed sets and from the
//! allow list, never from the wire.

mod categories;
mod draft;
mod edl;
pub(crate) mod exposition;
mod families;
mod findings;
pub(crate) mod generations;
mod kept;
mod ranges;
mod registrar;
pub(crate) mod rules;
mod sessions;
mod tls;
mod watch;

use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder};
use strum::{IntoStaticStr, VariantArray};

use self::categories::Categories;
pub use self::categories::CategorySeries;
pub use self::draft::Draft;
use self::edl::EdlMetrics;
use self::exposition::Exposition;
use self::findings::FindingMetrics;
use self::generations::Family;
use self::kept::Kept;
use self::ranges::RangesMetrics;
use self::registrar::{Registrar, VALID};
pub use self::rules::RuleSeries;
use self::rules::{Labels, Rules};
pub use self::tls::TlsMetrics;
use self::watch::WatchMetrics;
use crate::desk::Verdict;
use crate::findings::watch::Round;
use crate::net::entrance::Entrance;
use crate::outcome::{Denial, WouldDeny};
#[cfg(test)]
use crate::policy::Rule;

/// The label that stands in for rule and category where report mode let something through.
pub const NO_RULE: &str = "none";

const DNS_EDGES: &[f64] = &[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 6.0];

/// How the connections of load balancers began.
pub(crate) struct ProxyHeaders {
    /// With the address of a client.
    pub client: IntCounter,
    /// With the balancer's word that it speaks for itself.
    pub check: IntCounter,
    /// Without a header that is believed.
    pub refused: IntCounter,
}

impl ProxyHeaders {
    fn new(families: &Registrar<'_>) -> Self {
        let said = families.counters(
            "ccpgate_proxy_headers_total",
            "Connections from proxy.proxy_protocol, by what their header said: a client, the balancer's own check, or nothing that is believed.",
            &["said"],
        );
        let [client, check, refused] =
            ["client", "check", "refused"].map(|word| said.with_label_values(&[word]));
        Self { client, check, refused }
    }
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Reload {
    Ok,
    Error,
}

pub struct Metrics {
    registry: Registry,
    pub(crate) findings: FindingMetrics,
    watch: WatchMetrics,
    pub(crate) ranges: RangesMetrics,
    pub(crate) edl: EdlMetrics,
    pub tls: TlsMetrics,
    rules: Rules,
    unlisted: Arc<RuleSeries>,
    categories: Categories,
    pub dns: Histogram,
    denied: Vec<IntCounter>,
    reported: Vec<IntCounter>,
    /// Of the proxy listeners.
    pub client_connections: [IntGauge; 2],
    /// `limits.connections`.
    pub(crate) connections_limit: IntGauge,
    pub accept_errors: [IntCounter; 4],
    pub(crate) proxy_headers: ProxyHeaders,
    config_hash: GaugeVec,
    reloads: IntCounterVec,
    /// What was read last took effect, the configuration and the files that it names.
    pub reload_successful: IntGauge,
    /// The files of the TLS listener could be used when they were last read.
    pub tls_files_successful: IntGauge,
    pub draining: IntGauge,
    pub log_dropped: IntCounter,
    desk_checks: Vec<IntCounter>,
}

impl Metrics {
    /// # Panics
    /// Never: all names are constants and registered once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Registrar(&registry);
        let denied = families.counters("ccpgate_denied_total", "Requests refused, by reason.", &["reason"]);
        let reported = families.counters(
            "ccpgate_reported_total",
            "What mode = \"report\" let through and \"enforce\" would refuse, by reason; outside_ranges by policy.ranges.",
            &["reason"],
        );
        let connections =
            families.gauges("ccpgate_client_connections", "Open client connections.", &["listener"]);
        let accept_errors = families.counters(
            "ccpgate_accept_errors_total",
            "Failures to accept a connection.",
            &["listener"],
        );
        let desks = families.counters(
            "ccpgate_desk_checks_total",
            "Reports of desk checks, by verdict.",
            &["verdict"],
        );
        let reloads =
            families.counters("ccpgate_reloads_total", "Reloads of the configuration.", &["result"]);
        for result in Reload::VARIANTS {
            reloads.with_label_values(&[result.into_str()]);
        }
        let build =
            families.fractions("ccpgate_build_info", "The version that runs.", &["version", "commit"]);
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1.0);
        registry.register(Box::new(Kept::new(ProcessCollector::for_self()))).expect(VALID);
        let (rules, categories) = (Rules::default(), Categories::new(&families));
        let labels = Labels { domain: NO_RULE.into(), category: NO_RULE, traffic: categories.none.traffic };
        let unlisted = Arc::new(RuleSeries::new(labels.into(), categories.none.clone()));
        rules.put_in_force([&unlisted].into_iter());
        let metrics = Self {
            findings: FindingMetrics::new(&families),
            watch: WatchMetrics::new(&families),
            ranges: RangesMetrics::new(&families),
            edl: EdlMetrics::new(&families),
            tls: TlsMetrics::new(&families),
            unlisted,
            rules,
            categories,
            dns: families.histogram("ccpgate_dns_duration_seconds", "DNS look-ups.", DNS_EDGES),
            denied: Denial::VARIANTS.iter().map(|d| denied.with_label_values(&[d.into_str()])).collect(),
            reported: WouldDeny::VARIANTS
                .iter()
                .map(|w| reported.with_label_values(&[w.into_str()]))
                .collect(),
            client_connections: [Entrance::Http, Entrance::Https]
                .map(|e| connections.with_label_values(&[e.into_str()])),
            connections_limit: families.gauge(
                "ccpgate_client_connections_limit",
                "Client connections that limits.connections allows.",
            ),
            accept_errors: [Entrance::Http, Entrance::Https, Entrance::Admin, Entrance::Edl]
                .map(|e| accept_errors.with_label_values(&[e.into_str()])),
            proxy_headers: ProxyHeaders::new(&families),
            config_hash: families.fractions(
                "ccpgate_config_hash",
                "1 for the configuration in force, by a hash that leaves listen addresses out.",
                &["hash"],
            ),
            reloads,
            reload_successful: families.gauge(
                "ccpgate_config_last_reload_successful",
                "Whether what was read last took effect, the configuration and the TLS files.",
            ),
            tls_files_successful: families.gauge(
                "ccpgate_tls_files_last_load_successful",
                "Whether the files of the TLS listener could be used when they were last read.",
            ),
            draining: families.gauge("ccpgate_draining", "Whether the process is draining after SIGTERM."),
            log_dropped: families.counter(
                "ccpgate_log_lines_dropped_total",
                "Log lines lost because the log was stuck or couldn't be written, or because libraries wrote too many.",
            ),
            desk_checks: Verdict::VARIANTS.iter().map(|v| desks.with_label_values(&[v.as_str()])).collect(),
            registry,
        };
        metrics.reload_successful.set(1);
        metrics.tls_files_successful.set(1);
        metrics
    }

    /// The series of a configuration that is being made.
    pub fn draft(&self) -> Draft<'_> {
        Draft::new(self)
    }

    /// The series of the configuration that takes effect: they exist from now on. Those of rules that an earlier
    /// one removed, and that no tunnel is under any more, are forgotten.
    pub fn put_in_force<'a>(&self, all: impl Iterator<Item = &'a Arc<RuleSeries>>) {
        self.rules.put_in_force(all);
    }

    /// The series of a rule in force.
    #[cfg(test)]
    pub(crate) fn rule(&self, rule: &Rule) -> Arc<RuleSeries> {
        let series = self.draft().rule(rule);
        self.put_in_force([&series].into_iter());
        series
    }

    /// The series of what report mode lets through without a rule; outside the error ratio.
    pub fn unlisted(&self) -> Arc<RuleSeries> {
        self.unlisted.clone()
    }

    /// The error ratio of each category and of all, as the gauges show it.
    pub(crate) fn error_ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.categories.error_ratios()
    }

    /// Tunnels that live, whatever rule they are under.
    pub(crate) fn live(&self) -> usize {
        self.rules.active() as usize
    }

    /// Shows what a round of the watch found; none: nothing.
    pub fn watched(&self, round: Option<&Round>) {
        self.watch.show(round);
    }

    pub fn denied(&self, denial: Denial) {
        self.denied[denial as usize].inc();
    }

    pub(super) fn desk_checked(&self, verdict: Verdict) {
        self.desk_checks[verdict as usize].inc();
    }

    pub fn reported(&self, reason: WouldDeny) {
        self.reported[reason as usize].inc();
    }

    pub(crate) fn reloaded(&self, how: Reload) {
        self.reloads.with_label_values(&[how.into_str()]).inc();
    }

    /// The configuration in force; another one's series goes.
    pub fn configuration(&self, hash: &str) {
        self.config_hash.reset();
        self.config_hash.with_label_values(&[hash]).set(1.0);
    }

    /// What this process counted, in a form that travels.
    pub(crate) fn families(&self) -> Vec<Family> {
        let own = self.registry.gather().into_iter().chain(families::of(&self.rules.all()));
        own.filter_map(|family| Family::of(&family)).collect()
    }

    /// Everything in Prometheus's text format.
    pub fn render(&self) -> Vec<u8> {
        self.exposition(std::iter::empty()).flatten().collect()
    }

    /// The same in pieces, with what other processes counted.
    pub(crate) fn exposition<'a>(&self, others: impl Iterator<Item = &'a Family>) -> Exposition {
        let (mut families, mut rules) = (self.registry.gather(), self.rules.all());
        let mut others = others.peekable();
        if others.peek().is_some() {
            families.extend(families::of(&rules));
            rules = Vec::new();
            generations::add(&mut families, others);
        }
        let mut text = Vec::new();
        // Writing to memory does not fail, and the families were checked when they were made.
        let _ = TextEncoder::new().encode(&families, &mut text);
        Exposition::new(text, rules)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
