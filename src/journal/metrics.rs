//! All metric families, with their help, in one place; handles are looked up once per rule, so
//! that the data path only adds to atomics. Label values come from closed sets and from the
//! allow list, never from the wire.

mod edl;
pub(crate) mod exposition;
mod families;
mod findings;
pub(crate) mod generations;
mod ranges;
pub(crate) mod rules;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use strum::VariantArray;

use self::edl::EdlMetrics;
use self::exposition::Exposition;
use self::findings::FindingMetrics;
use self::generations::Family;
use self::ranges::RangesMetrics;
pub use self::rules::RuleSeries;
use self::rules::Rules;
use self::watch::WatchMetrics;
use super::ratio::Ratio;
use crate::desk::Verdict;
use crate::findings::watch::Round;
use crate::net::entrance::Entrance;
use crate::outcome::{Denial, HandshakeFailure, WouldDeny};
use crate::policy::{Category, Rule};
use crate::ranges::select::Set;

/// The label that stands in for rule and category where report mode let something through.
pub const NO_RULE: &str = "none";
/// The label for all categories together.
const ALL: &str = "all";

/// What is counted by category alone.
pub struct CategorySeries {
    /// None for what only report mode let through.
    pub(crate) traffic: Option<Category>,
    pub duration: Histogram,
    pub first_byte: Histogram,
    /// Its own and `all`; none for what only report mode let through.
    ratios: Vec<Arc<Ratio>>,
}

/// How the connections of load balancers began.
pub(crate) struct ProxyHeaders {
    /// With the address of a client.
    pub client: IntCounter,
    /// With the balancer's word that it speaks for itself.
    pub check: IntCounter,
    /// Without a header that is believed.
    pub refused: IntCounter,
}

pub struct Metrics {
    registry: Registry,
    pub(crate) findings: FindingMetrics,
    watch: WatchMetrics,
    pub(crate) ranges: RangesMetrics,
    pub(crate) edl: EdlMetrics,
    rules: Rules,
    unlisted: Arc<RuleSeries>,
    categories: Vec<Arc<CategorySeries>>,
    all: Arc<Ratio>,
    pub dns: Histogram,
    denied: Vec<IntCounter>,
    reported: Vec<IntCounter>,
    /// Of the proxy listeners.
    pub client_connections: [IntGauge; 2],
    /// `limits.connections`.
    pub(crate) connections_limit: IntGauge,
    pub accept_errors: [IntCounter; 4],
    pub(crate) proxy_headers: ProxyHeaders,
    pub tls_full: IntCounter,
    pub tls_resumed: IntCounter,
    tls_failures: Vec<IntCounter>,
    pub tls_resumed_age: Histogram,
    pub tls_sessions: IntGauge,
    certificate_expiry: GaugeVec,
    certificate_not_before: GaugeVec,
    /// What these two show, by listener.
    certificates: Mutex<HashMap<&'static str, (String, i64, i64)>>,
    config_hash: GaugeVec,
    reloads: IntCounterVec,
    pub reload_successful: IntGauge,
    pub tls_files_successful: IntGauge,
    pub draining: IntGauge,
    pub log_dropped: IntCounter,
    desk_checks: Vec<IntCounter>,
}

/// A tunnel lasts from a moment to a shift and more.
const DURATION_EDGES: &[f64] =
    &[0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 28800.0, 36000.0, 43200.0];
/// With edges at the panel's own limits: accept 2 s, invite 5 s, WebSocket open 10 s.
const FIRST_BYTE_EDGES: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
const DNS_EDGES: &[f64] = &[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 6.0];
const AGE_EDGES: &[f64] = &[60.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 28800.0, 36000.0, 86400.0];

const VALID: &str = "names, labels and edges are constants";

impl Metrics {
    /// # Panics
    /// Never: all names are constants and registered once.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            keep(&registry, IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
        };
        let counter = |name: &str, help: &str| keep(&registry, IntCounter::new(name, help).expect(VALID));
        let gauge = |name: &str, help: &str| keep(&registry, IntGauge::new(name, help).expect(VALID));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            keep(&registry, GaugeVec::new(Opts::new(name, help), labels).expect(VALID))
        };
        let int_gauges = |name: &str, help: &str, labels: &[&str]| {
            keep(&registry, IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID))
        };
        let histograms = |name: &str, help: &str, labels: &[&str], edges: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
            keep(&registry, HistogramVec::new(options, labels).expect(VALID))
        };
        let histogram = |name: &str, help: &str, edges: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
            keep(&registry, Histogram::with_opts(options).expect(VALID))
        };

        let duration = histograms(
            "ccpgate_tunnel_duration_seconds",
            "How long ended tunnels lived.",
            &["category"],
            DURATION_EDGES,
        );
        let first_byte = histograms(
            "ccpgate_first_byte_seconds",
            "From the CONNECT to the first byte from upstream.",
            &["category"],
            FIRST_BYTE_EDGES,
        );
        let ratio = gauges(
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
        let denied = counters("ccpgate_denied_total", "Requests refused, by reason.", &["reason"]);
        let reported = counters(
            "ccpgate_reported_total",
            "What mode = \"report\" let through and \"enforce\" would refuse, by reason; outside_ranges by policy.ranges.",
            &["reason"],
        );
        let connections = int_gauges("ccpgate_client_connections", "Open client connections.", &["listener"]);
        let accept_errors =
            counters("ccpgate_accept_errors_total", "Failures to accept a connection.", &["listener"]);
        let proxy_headers = counters(
            "ccpgate_proxy_headers_total",
            "Connections from proxy.proxy_protocol, by what their header said: a client, the balancer's own check, or nothing that is believed.",
            &["said"],
        );
        let handshakes =
            counters("ccpgate_tls_handshakes_total", "Completed TLS handshakes with clients.", &["resumed"]);
        let failures = counters(
            "ccpgate_tls_handshake_failures_total",
            "TLS handshakes with clients that failed, by cause.",
            &["cause"],
        );
        let desks =
            counters("ccpgate_desk_checks_total", "Reports of desk checks, by verdict.", &["verdict"]);
        let reloads = counters("ccpgate_reloads_total", "Reloads of the configuration.", &["result"]);
        for result in ["ok", "error"] {
            reloads.with_label_values(&[result]);
        }
        let build = gauges("ccpgate_build_info", "The version that runs.", &["version", "commit"]);
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1.0);
        registry.register(Box::new(ProcessCollector::for_self())).expect(VALID);
        let rules = Rules::default();
        let metrics = Self {
            findings: FindingMetrics::new(&registry),
            watch: WatchMetrics::new(&registry),
            ranges: RangesMetrics::new(&registry),
            edl: EdlMetrics::new(&registry),
            unlisted: rules.series(NO_RULE, NO_RULE, &series(None)),
            rules,
            categories: Category::VARIANTS.iter().map(|category| series(Some(*category))).collect(),
            all,
            dns: histogram("ccpgate_dns_duration_seconds", "DNS look-ups.", DNS_EDGES),
            denied: Denial::VARIANTS.iter().map(|d| denied.with_label_values(&[d.into_str()])).collect(),
            reported: WouldDeny::VARIANTS
                .iter()
                .map(|w| reported.with_label_values(&[w.into_str()]))
                .collect(),
            client_connections: [Entrance::Http, Entrance::Https]
                .map(|e| connections.with_label_values(&[e.into_str()])),
            connections_limit: gauge(
                "ccpgate_client_connections_limit",
                "Client connections that limits.connections allows.",
            ),
            accept_errors: [Entrance::Http, Entrance::Https, Entrance::Admin, Entrance::Edl]
                .map(|e| accept_errors.with_label_values(&[e.into_str()])),
            proxy_headers: ProxyHeaders {
                client: proxy_headers.with_label_values(&["client"]),
                check: proxy_headers.with_label_values(&["check"]),
                refused: proxy_headers.with_label_values(&["refused"]),
            },
            tls_full: handshakes.with_label_values(&["false"]),
            tls_resumed: handshakes.with_label_values(&["true"]),
            tls_failures: HandshakeFailure::VARIANTS
                .iter()
                .map(|f| failures.with_label_values(&[f.into_str()]))
                .collect(),
            tls_resumed_age: histogram(
                "ccpgate_tls_resumed_age_seconds",
                "Age of the TLS sessions that clients resumed, since their full handshake.",
                AGE_EDGES,
            ),
            tls_sessions: gauge("ccpgate_tls_sessions", "TLS sessions in this process's cache."),
            certificate_expiry: gauges(
                "ccpgate_certificate_expiry_timestamp_seconds",
                "When a listener's certificate expires, in seconds since 1970.",
                &["certificate"],
            ),
            certificates: Mutex::default(),
            config_hash: gauges(
                "ccpgate_config_hash",
                "1 for the configuration in force, by a hash that leaves listen addresses out.",
                &["hash"],
            ),
            certificate_not_before: gauges(
                "ccpgate_certificate_not_before_timestamp_seconds",
                "When the validity of a listener's certificate begins, in seconds since 1970.",
                &["certificate"],
            ),
            reloads,
            reload_successful: gauge(
                "ccpgate_config_last_reload_successful",
                "Whether what was read last took effect, the configuration and the TLS files.",
            ),
            tls_files_successful: gauge(
                "ccpgate_tls_files_last_load_successful",
                "Whether the files of the TLS listener could be used when they were last read.",
            ),
            draining: gauge("ccpgate_draining", "Whether the process is draining after SIGTERM."),
            log_dropped: counter(
                "ccpgate_log_lines_dropped_total",
                "Log lines lost because the log was stuck, or because libraries wrote too many.",
            ),
            desk_checks: Verdict::VARIANTS.iter().map(|v| desks.with_label_values(&[v.as_str()])).collect(),
            registry,
        };
        metrics.reload_successful.set(1);
        metrics.tls_files_successful.set(1);
        metrics
    }

    /// Forgets the series of rules that an earlier reload removed and that no tunnel is under any more.
    pub(crate) fn forget_removed(&self) {
        self.rules.prune();
    }

    /// The series of a rule; they exist, at zero, from now on.
    pub fn rule(&self, rule: &Rule) -> Arc<RuleSeries> {
        let category = &self.categories[rule.category as usize];
        self.rules.series(rule.pattern.as_str(), rule.category.as_str(), category)
    }

    /// The series of a service whose addresses `policy.ip_targets` lets through, named as in lists.
    pub fn service(&self, set: Set) -> Arc<RuleSeries> {
        let category = &self.categories[set.category() as usize];
        self.rules.series(set.name(), set.category().as_str(), category)
    }

    /// The series of what report mode lets through without a rule; outside the error ratio.
    pub fn unlisted(&self) -> Arc<RuleSeries> {
        self.unlisted.clone()
    }

    /// The error ratio of each category and of all, as the gauges show it.
    pub(crate) fn error_ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let categories = Category::VARIANTS.iter().zip(&self.categories);
        let of = categories.map(|(category, series)| (category.as_str(), series.ratios[0].get()));
        std::iter::once((ALL, self.all.get())).chain(of)
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

    pub fn tls_failed(&self, cause: HandshakeFailure) {
        self.tls_failures[cause as usize].inc();
    }

    pub fn reported(&self, reason: WouldDeny) {
        self.reported[reason as usize].inc();
    }

    /// Counts a reload that went well or not, and shows what is in force since: `whole` when the
    /// last reading of everything took effect, `tls_files` when that of the TLS files did.
    pub fn reloaded(&self, ok: bool, whole: bool, tls_files: bool) {
        self.reloads.with_label_values(&[if ok { "ok" } else { "error" }]).inc();
        self.reload_successful.set(i64::from(whole));
        self.tls_files_successful.set(i64::from(tls_files));
    }

    /// The configuration in force; another one's series goes.
    pub fn configuration(&self, hash: &str) {
        self.config_hash.reset();
        self.config_hash.with_label_values(&[hash]).set(1.0);
    }

    /// The certificate of the TLS listener, if it is in use, and from when until when it is valid, in seconds
    /// since 1970.
    pub fn certificate(&self, certificate: Option<(&str, i64, i64)>) {
        self.certificate_of(Entrance::Https, certificate);
    }

    /// The same for any listener. A certificate that is no longer used must not go on alarming anybody.
    pub(crate) fn certificate_of(&self, listener: Entrance, certificate: Option<(&str, i64, i64)>) {
        let mut all = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        match certificate {
            Some((file, begins, expiry)) => {
                all.insert(listener.into_str(), (file.to_owned(), begins, expiry));
            }
            None => drop(all.remove(listener.into_str())),
        }
        self.certificate_expiry.reset();
        self.certificate_not_before.reset();
        for (file, begins, expiry) in all.values() {
            self.certificate_not_before.with_label_values(&[file]).set(*begins as f64);
            self.certificate_expiry.with_label_values(&[file]).set(*expiry as f64);
        }
    }

    /// The file of the TLS listener's certificate in use, from when until when it is valid, in seconds since
    /// 1970.
    pub(crate) fn certificate_in_use(&self) -> Option<(String, i64, i64)> {
        let all = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(Entrance::Https.into_str()).cloned()
    }

    /// Handshakes with clients that failed, by cause.
    pub(crate) fn tls_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = HandshakeFailure::VARIANTS.iter().zip(&self.tls_failures);
        counters.map(|(cause, counter)| (cause.into_str(), counter.get()))
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

fn keep<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}
