//! Config → Snapshot: everything that a request needs, resolved and checked once. A snapshot that
//! exists is valid; making one binds nothing, so checking a configuration is safe anywhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::catalogue;
use crate::config::{Config, Loaded, Mode, TlsCheck};
use crate::egress::Egress;
use crate::egress::parent::{self, Parent};
use crate::egress::resolver::Resolver;
use crate::journal::metrics::{Metrics, RuleSeries};
use crate::pac::proxies::Advertise;
use crate::policy::{Breadth, Pattern, Policy, Protocol, Reason, Rule, RuleId};
use crate::target::{Host, Target};
use crate::tunnel::relay::Patience;

/// The part of a configuration that the policy is made of.
pub struct Plan {
    pub policy: Policy,
    /// What an administrator should know about the list, one line each.
    pub warnings: Vec<String>,
    /// Where the configuration came from, to be shown.
    pub source: String,
    connect_to: Vec<(Pattern, u16, SocketAddr)>,
}

impl Plan {
    /// Resolves the allow list, and orders what was read.
    #[must_use]
    pub fn new(loaded: &Loaded) -> Self {
        let config = &loaded.config;
        let catalogue::Resolved { mut rules, mut warnings } = catalogue::resolve(&config.connect);
        for (i, allow) in config.allow.iter().enumerate() {
            let mut rule = Rule::added(allow.pattern.clone(), allow.ports.clone(), allow.category);
            if let Some(why) = catalogue::open_to_strangers(&allow.pattern) {
                rule.breadth = Breadth::Shared;
                warnings.push(format!(
                    "open to strangers: allow[{i}].pattern {}; {why}; name the hosts that agents need",
                    allow.pattern
                ));
            } else if let Some(why) = allow.pattern.too_broad() {
                warnings.push(format!("allow[{i}].pattern {} is very broad: {why}", allow.pattern));
            }
            rules.push(rule);
        }
        let egress = &config.egress;
        let mut connect_to: Vec<_> =
            egress.connect_to.iter().map(|(from, to)| (from.pattern.clone(), from.port, *to)).collect();
        // The most specific first: an exact name, then the longest pattern.
        connect_to.sort_by_key(|(p, ..)| (!p.is_exact(), std::cmp::Reverse(p.as_str().len())));
        let alone = [
            ("proxy_for", !egress.proxy_for.is_empty()),
            ("proxy_credentials", egress.proxy_credentials.is_some()),
            ("proxy_ca", egress.proxy_ca.is_some()),
        ];
        for (key, _) in alone.iter().filter(|(_, set)| *set && egress.proxy.is_none()) {
            warnings.push(format!("egress.{key} has no effect: egress.proxy names no parent proxy"));
        }
        let file = loaded.file.as_ref();
        let source = file.map_or("the embedded default".to_owned(), |f| f.display().to_string());
        Self { policy: Policy::new(rules, config.policy.deny.clone()), warnings, source, connect_to }
    }
}

/// The parent proxy of a configuration, with the files that it names.
///
/// # Errors
/// In words, with the key and the file.
pub fn parent(config: &Config) -> Result<Option<Parent>, String> {
    let egress = &config.egress;
    let Some(url) = egress.proxy.clone() else { return Ok(None) };
    Parent::load(parent::Options {
        url,
        only: egress.proxy_for.clone(),
        credentials: egress.proxy_credentials.as_deref(),
        ca: egress.proxy_ca.as_deref(),
    })
    .map(Some)
}

/// Limits in numbers and time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_client: usize,
    pub request_header: usize,
    pub header_timeout: Duration,
}

/// A configuration in force.
pub struct Snapshot {
    pub policy: Policy,
    pub name: String,
    pub report: bool,
    pub tls: TlsCheck,
    pub clients: Vec<IpNet>,
    pub limits: Limits,
    pub patience: Patience,
    pub egress: Egress,
    /// Whether tunnels and denials are logged.
    pub access: bool,
    /// Where the configuration came from, to be shown.
    pub source: String,
    /// Host names besides IP literals and `localhost` for which the admin listener's page and API
    /// answer: a page in an agent's browser must not read them by rebinding a name of its own.
    pub admin_hosts: Vec<String>,
    advertise: Advertise,
    /// Of the rules for TCP; others aren't for this proxy, and series of theirs would stay at zero.
    series: Vec<Option<Arc<RuleSeries>>>,
    unlisted: Arc<RuleSeries>,
}

impl Snapshot {
    /// `advertise` holds the addresses that the listeners really have (a configured port 0 is any).
    pub fn new(
        config: &Config,
        plan: Plan,
        parent: Option<Parent>,
        advertise: Advertise,
        metrics: &Metrics,
        resolver: Resolver,
    ) -> Self {
        let tcp = |rule: &Rule| rule.protocol == Protocol::Tcp;
        let rules = plan.policy.rules().iter();
        let series = rules.map(|rule| tcp(rule).then(|| metrics.rule(rule))).collect();
        Self {
            name: config.proxy.name.clone(),
            report: config.policy.mode == Mode::Report,
            tls: config.policy.tls,
            clients: config.proxy.clients.clone(),
            limits: Limits {
                connections: config.limits.connections,
                connections_per_client: config.limits.connections_per_client,
                request_header: config.limits.request_header,
                header_timeout: config.limits.header_timeout,
            },
            patience: Patience { idle: config.limits.idle_timeout, half_closed: config.limits.half_closed },
            egress: Egress {
                resolver,
                connect_timeout: config.egress.connect_timeout,
                source_address: config.egress.source_address.clone(),
                allow_private: config.egress.allow_private.clone(),
                connect_to: plan.connect_to,
                parent,
            },
            access: config.log.access,
            source: plan.source,
            admin_hosts: config.admin.hosts.clone(),
            advertise,
            series,
            unlisted: metrics.unlisted(),
            policy: plan.policy,
        }
    }

    /// The metric handles of a rule, or of what report mode lets through without one.
    pub fn series(&self, rule: Option<RuleId>) -> &RuleSeries {
        rule.and_then(|rule| self.series[rule.index()].as_deref()).unwrap_or(&self.unlisted)
    }

    /// Whether report mode lets a denied target through. A number that only C libraries take for
    /// an address has no meaning to report on.
    pub fn lets_through(&self, reason: Reason, target: &Target) -> bool {
        self.report && !(reason == Reason::IpLiteral && matches!(target.host, Host::Name(_)))
    }

    /// The PAC file as fetched from a proxy listener.
    pub fn pac_for(&self, host: Option<&str>, local: SocketAddr) -> String {
        self.advertise.as_fetched(&self.policy, host, local)
    }

    /// The PAC file as the admin listener gives it.
    ///
    /// # Errors
    /// As of [`Advertise::standing`].
    pub fn standing_pac(&self) -> Result<String, String> {
        self.advertise.standing(&self.policy)
    }
}
