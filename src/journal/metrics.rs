//! All metric families, with their help, in one place; handles are looked up once per rule, so
//! that the data path only adds to atomics. Label values come from closed sets and from the
//! allow list, never from the wire.

mod edl;
mod findings;
pub(crate) mod generations;
mod ranges;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use strum::VariantArray;

use self::edl::EdlMetrics;
use self::findings::FindingMetrics;
use self::generations::Family;
use self::ranges::RangesMetrics;
use self::watch::WatchMetrics;
use super::ratio::{Crossing, Ratio};
use crate::desk::Verdict;
use crate::findings::watch::Round;
use crate::net::entrance::Entrance;
use crate::outcome::{Denial, HandshakeFailure, Outcome, WouldDeny};
use crate::policy::{Breadth, Category, Rule};
use crate::ranges::select::Set;

/// The label that stands in for rule and category where report mode let something through.
pub const NO_RULE: &str = "none";
/// The label for all categories together.
const ALL: &str = "all";

/// The handles of one category.
pub struct CategorySeries {
    /// None for what only report mode let through.
    pub(crate) traffic: Option<Category>,
    pub duration: Histogram,
    pub first_byte: Histogram,
}

/// The handles of one rule; cheap to share, alive as long as a tunnel needs them.
pub struct RuleSeries {
    /// The labels: the pattern of the rule, and its category; [`NO_RULE`] for both without one.
    pub domain: Box<str>,
    pub category_name: &'static str,
    /// Anybody with an AWS account can get a name that the rule matches.
    pub shared: bool,
    pub active: IntGauge,
    pub sent: IntCounter,
    pub received: IntCounter,
    /// When the last tunnel began, in seconds since 1970; 0: never.
    last_used: Arc<AtomicI64>,
    pub connect: Histogram,
    pub category: Arc<CategorySeries>,
    outcomes: [IntCounter; Outcome::VARIANTS.len()],
    /// Its category's and `all`; none for what only report mode let through.
    ratios: Vec<Arc<Ratio>>,
}

impl RuleSeries {
    /// Counts a tunnel's end, once. What it makes of the ratio that is told of, if anything.
    pub(super) fn ended(&self, outcome: Outcome, client: IpAddr) -> Option<Crossing> {
        self.outcomes[outcome as usize].inc();
        let failed = outcome.is_error().then_some(client);
        let mut told = None;
        for ratio in &self.ratios {
            told = ratio.record(failed).or(told);
        }
        told
    }

    /// Notes that a tunnel began, at this second since 1970.
    pub(super) fn used(&self, at: i64) {
        self.last_used.store(at, Ordering::Relaxed);
    }

    /// When the last tunnel began, in seconds since 1970.
    pub(crate) fn last_used(&self) -> Option<i64> {
        Some(self.last_used.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// Tunnels that ended, and those of them that count against the network.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let of = |wanted: fn(Outcome) -> bool| {
            let all = Outcome::VARIANTS.iter().zip(&self.outcomes);
            all.filter(|(outcome, _)| wanted(**outcome)).map(|(_, counter)| counter.get()).sum()
        };
        (of(|_| true), of(Outcome::is_error))
    }
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
    /// When rules were last used, by domain and category: it outlives reloads as their series do.
    used: Mutex<HashMap<[Box<str>; 2], Arc<AtomicI64>>>,
    tunnels_active: IntGaugeVec,
    tunnels: IntCounterVec,
    bytes: IntCounterVec,
    connect: HistogramVec,
    categories: Vec<(Arc<CategorySeries>, Arc<Ratio>)>,
    none: Arc<CategorySeries>,
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
const CONNECT_EDGES: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];
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
        let series = |traffic: Option<Category>| {
            let name = traffic.map_or(NO_RULE, Category::as_str);
            Arc::new(CategorySeries {
                traffic,
                duration: duration.with_label_values(&[name]),
                first_byte: first_byte.with_label_values(&[name]),
            })
        };
        let ratio_of = |name: &str| Arc::new(Ratio::new(ratio.with_label_values(&[name]), name == ALL));
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
        let metrics = Self {
            findings: FindingMetrics::new(&registry),
            watch: WatchMetrics::new(&registry),
            ranges: RangesMetrics::new(&registry),
            edl: EdlMetrics::new(&registry),
            used: Mutex::default(),
            tunnels_active: int_gauges(
                "ccpgate_tunnels_active",
                "Live tunnels, by the rule that allowed them.",
                &["domain", "category"],
            ),
            tunnels: counters(
                "ccpgate_tunnels_total",
                "Ended tunnels, by rule and outcome.",
                &["domain", "category", "outcome"],
            ),
            bytes: counters(
                "ccpgate_tunnel_bytes_total",
                "Bytes that tunnels carried, as the agent sees it.",
                &["domain", "category", "direction"],
            ),
            connect: histograms(
                "ccpgate_connect_duration_seconds",
                "From the CONNECT to the 200.",
                &["domain", "category"],
                CONNECT_EDGES,
            ),
            categories: Category::VARIANTS.iter().map(|c| (series(Some(*c)), ratio_of(c.as_str()))).collect(),
            none: series(None),
            all: ratio_of(ALL),
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

    /// The handles of a rule; its series exist, at zero, from now on.
    pub fn rule(&self, rule: &Rule) -> Arc<RuleSeries> {
        let (category, ratio) = &self.categories[rule.category as usize];
        let ratios = vec![ratio.clone(), self.all.clone()];
        let shared = rule.breadth == Breadth::Shared;
        self.series(rule.pattern.as_str(), rule.category.as_str(), shared, category.clone(), ratios)
    }

    /// The handles of a service whose addresses `policy.ip_targets` lets through, named as in lists.
    pub fn service(&self, set: Set) -> Arc<RuleSeries> {
        let (category, ratio) = &self.categories[set.category() as usize];
        let ratios = vec![ratio.clone(), self.all.clone()];
        self.series(set.name(), set.category().as_str(), false, category.clone(), ratios)
    }

    /// The handles for what report mode lets through without a rule; outside the error ratio.
    pub fn unlisted(&self) -> Arc<RuleSeries> {
        self.series(NO_RULE, NO_RULE, false, self.none.clone(), Vec::new())
    }

    fn series(
        &self,
        domain: &str,
        name: &'static str,
        shared: bool,
        category: Arc<CategorySeries>,
        ratios: Vec<Arc<Ratio>>,
    ) -> Arc<RuleSeries> {
        let labels = [domain, name];
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let last_used = used.entry(labels.map(Into::into)).or_default().clone();
        Arc::new(RuleSeries {
            domain: domain.into(),
            category_name: name,
            shared,
            last_used,
            active: self.tunnels_active.with_label_values(&labels),
            sent: self.bytes.with_label_values(&[domain, name, "sent"]),
            received: self.bytes.with_label_values(&[domain, name, "received"]),
            connect: self.connect.with_label_values(&labels),
            category,
            outcomes: std::array::from_fn(|i| {
                self.tunnels.with_label_values(&[domain, name, Outcome::VARIANTS[i].into_str()])
            }),
            ratios,
        })
    }

    /// The error ratio of each category and of all, as the gauges show it.
    pub(crate) fn error_ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let categories = Category::VARIANTS.iter().zip(&self.categories);
        let of = categories.map(|(category, (_, ratio))| (category.as_str(), ratio.get()));
        std::iter::once((ALL, self.all.get())).chain(of)
    }

    /// Tunnels that live, whatever rule they are under.
    pub(crate) fn live(&self) -> usize {
        let families = self.tunnels_active.collect();
        let gauges = families.iter().flat_map(|family| family.get_metric());
        gauges.map(|metric| metric.get_gauge().get_value()).sum::<f64>() as usize
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

    /// The file of the certificate in use, from when until when it is valid, in seconds since 1970.
    pub(crate) fn certificate_in_use(&self) -> Option<(String, f64, f64)> {
        let value = |gauges: &GaugeVec| {
            let families = gauges.collect();
            let metric = families.first()?.get_metric().first()?;
            Some((metric.get_label().first()?.value().to_owned(), metric.get_gauge().get_value()))
        };
        let (file, ends) = value(&self.certificate_expiry)?;
        Some((file, value(&self.certificate_not_before)?.1, ends))
    }

    /// Handshakes with clients that failed, by cause.
    pub(crate) fn tls_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = HandshakeFailure::VARIANTS.iter().zip(&self.tls_failures);
        counters.map(|(cause, counter)| (cause.into_str(), counter.get()))
    }

    /// What this process counted, in a form that travels.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.registry.gather().iter().filter_map(Family::of).collect()
    }

    /// Everything in Prometheus's text format.
    pub fn render(&self) -> Vec<u8> {
        self.render_with(std::iter::empty())
    }

    /// The same, with what other processes counted.
    pub(crate) fn render_with<'a>(&self, others: impl Iterator<Item = &'a Family>) -> Vec<u8> {
        let mut families = self.registry.gather();
        generations::add(&mut families, others);
        let mut text = Vec::with_capacity(64 * 1024);
        // Writing to memory does not fail, and the families were checked when they were made.
        let _ = TextEncoder::new().encode(&families, &mut text);
        text
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
