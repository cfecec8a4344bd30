//! Plan → Snapshot: everything that a request needs, with the handles of its metrics. A request sees
//! one whole snapshot; live tunnels keep the terms of the one that they were opened under, and a removed
//! rule's counters, but not its ten thousand neighbours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::catalogue::Choice;
use crate::config::Config;
use crate::desk;
use crate::egress::Egress;
use crate::egress::parent::Parent;
use crate::egress::resolver::Resolver;
use crate::journal::ledger::Settings;
use crate::journal::metrics::{Metrics, RuleSeries};
use crate::pac::file::{File, Tails};
use crate::pac::proxies::Advertise;
use crate::pac::rendezvous::Key;
use crate::plan::{self, Plan};
use crate::policy::replay::Coming;
use crate::policy::{Category, Decision, IpTargets, Mode, Policy, Protocol, Reason, Rule, RuleId};
use crate::ranges::current::{Current, InForce};
use crate::ranges::select::Set;
use crate::target::{Host, Target};
use crate::tunnel::hello::Check;
use crate::tunnel::relay::Patience;

/// Limits in numbers and time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub connections: usize,
    pub connections_per_client: usize,
    pub request_header: usize,
    pub header_timeout: Duration,
}

/// What a tunnel keeps of the configuration that it was opened under.
#[derive(Debug)]
pub(crate) struct Terms {
    pub patience: Patience,
    /// Whether tunnels and denials are logged.
    pub access: bool,
}

/// A configuration in force.
pub(crate) struct Snapshot {
    pub policy: Policy,
    pub name: String,
    pub report: bool,
    pub tls: Check,
    pub clients: Vec<IpNet>,
    /// Load balancers, which must and alone may say for whom they speak.
    pub balancers: Vec<IpNet>,
    pub limits: Limits,
    pub terms: Arc<Terms>,
    pub egress: Egress,
    /// What is in use of Amazon Connect: what a denied host would belong to is asked under it.
    pub connect: Choice,
    /// How often the watch works, to be shown.
    pub watch_every: Duration,
    /// Where the configuration came from, to be shown.
    pub source: String,
    /// What tells it from other configurations.
    pub fingerprint: String,
    /// Host names, besides IP literals and `localhost`, under which the admin listener's page and API
    /// answer. Else a page in an agent's browser could rebind a name of its own and read them.
    pub admin_hosts: Vec<String>,
    /// Whether the configuration says where AWS's ranges come from.
    pub ranges_named: bool,
    pub ledger: Settings,
    /// What desks are asked to try; none where the desk check is switched off.
    pub desk: Option<desk::plan::Plan>,
    pub pages: desk::page::Pages,
    /// How long the look-up of a target, or the dial, lasts at most.
    pub tells_within: Duration,
    advertise: Advertise,
    pac: Tails,
    /// By rule; none for UDP rules, which never pass this proxy: their series would stay at zero.
    series: Vec<Option<Arc<RuleSeries>>>,
    /// The sets that an address may be of; none unless `policy.ip_targets` says so.
    services: Vec<(Set, Arc<RuleSeries>)>,
    unlisted: Arc<RuleSeries>,
}

/// What lets a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Rule(RuleId),
    /// An address in the published ranges of a service.
    Service(Set),
    /// Nothing: it is refused, or report mode lets it through.
    Nothing,
}

impl Snapshot {
    /// `advertise` holds the addresses that the listeners really have (a configured port 0 is any).
    pub(crate) fn new(
        config: &Config,
        plan: Plan,
        parent: Option<Parent>,
        advertise: Advertise,
        metrics: &Metrics,
        resolver: Resolver,
        in_force: Arc<InForce>,
    ) -> Self {
        let tcp = |rule: &Rule| rule.protocol == Protocol::Tcp;
        let rules = plan.policy.rules().iter();
        let mut draft = metrics.draft();
        let series = rules.map(|rule| tcp(rule).then(|| draft.rule(rule))).collect();
        let services = match config.policy.ip_targets {
            IpTargets::Off => Vec::new(),
            IpTargets::Ranges => Set::tcp().map(|set| (set, draft.service(set))).collect(),
        };
        Self {
            name: config.proxy.name.clone(),
            report: config.policy.mode == Mode::Report,
            tls: config.policy.tls,
            clients: config.proxy.clients.clone(),
            balancers: config.proxy.proxy_protocol.clone(),
            limits: Limits {
                connections: config.limits.connections,
                connections_per_client: config.limits.connections_per_client,
                request_header: config.limits.request_header,
                header_timeout: config.limits.header_timeout,
            },
            terms: Arc::new(Terms {
                patience: Patience {
                    idle: config.limits.idle_timeout,
                    half_closed: config.limits.half_closed,
                },
                access: config.log.access,
            }),
            egress: plan::egress(config, plan.connect_to, parent, resolver, in_force),
            connect: config.connect.clone(),
            watch_every: config.watch.every,
            source: plan.source,
            fingerprint: plan.fingerprint,
            admin_hosts: config.admin.hosts.clone(),
            ranges_named: config.ranges.is_named(),
            ledger: Settings {
                ended: config.ledger.ended,
                keep: config.ledger.keep,
                anonymise: config.ledger.anonymise,
            },
            tells_within: (2 * config.dns.timeout).max(config.egress.connect_timeout),
            desk: config.desk.enabled.then(|| desk::plan::Plan::new(&plan.policy, &advertise.direct)),
            pages: desk::page::Pages::default(),
            advertise,
            pac: Tails::default(),
            series,
            services,
            unlisted: metrics.unlisted(),
            policy: plan.policy,
        }
    }

    /// The metric handles of what lets a request through, or of what report mode does without a rule.
    pub(crate) fn series(&self, grant: Grant) -> &Arc<RuleSeries> {
        let found = match grant {
            Grant::Rule(rule) => self.series[rule.index()].as_ref(),
            Grant::Service(set) => self.services.iter().find(|(of, _)| *of == set).map(|(_, series)| series),
            Grant::Nothing => None,
        };
        found.unwrap_or(&self.unlisted)
    }

    /// Its metric handles, all of them: what exists once it is in force.
    pub(super) fn all_series(&self) -> impl Iterator<Item = &Arc<RuleSeries>> {
        self.series.iter().flatten().chain(self.services.iter().map(|(_, series)| series))
    }

    /// The service that a target which is an address counts as, by `policy.ip_targets`.
    pub(crate) fn service_of(&self, target: &Target) -> Option<Set> {
        let Host::Ip(address) = target.host else { return None };
        if self.services.is_empty() {
            return None;
        }
        self.egress.ranges.in_force.load()?.service_of(address, target.port, &self.egress.allow_private)
    }

    /// Whether a name that a ClientHello has is on the allow list.
    pub(crate) fn lists(&self, name: &str, port: u16) -> bool {
        let Ok(host) = Host::parse(name.as_bytes()) else { return false };
        matches!(self.policy.decide(&Target { host, port }), Decision::Allowed(..))
    }

    /// The rules that this proxy carries, with their metric handles.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&Rule, &RuleSeries)> {
        let rules = self.policy.rules().iter().zip(&self.series);
        rules.filter_map(|(rule, series)| Some((rule, series.as_deref()?)))
    }

    /// What agents will be allowed, to hold against what they use. `ranges`: the version by which addresses will
    /// count as services.
    pub(crate) fn coming<'a>(&'a self, ranges: Option<&'a Current>) -> Coming<'a> {
        Coming {
            policy: &self.policy,
            report: self.report,
            clients: &self.clients,
            is_of_service: plan::is_of_service(
                ranges.filter(|_| !self.services.is_empty()),
                &self.egress.allow_private,
            ),
        }
    }

    /// The category of a target that is allowed, and only text so far.
    pub(crate) fn traffic_of(&self, target: &str) -> Option<Category> {
        let target = Target::parse_authority(target.as_bytes()).ok()?;
        match self.policy.decide(&target) {
            Decision::Allowed(_, rule) => Some(rule.category),
            Decision::Denied { reason: Reason::IpLiteral, .. } => self.service_of(&target).map(Set::category),
            Decision::Denied { .. } => None,
        }
    }

    /// Whether a name is refused because no rule has it, whatever the port.
    pub(crate) fn lacks_rule(&self, name: &str) -> bool {
        let target = Target { host: Host::Name(name.into()), port: 443 };
        match self.policy.decide(&target) {
            Decision::Denied { reason: reason @ Reason::NoRule, .. } => !self.lets_through(reason, &target),
            Decision::Denied { .. } | Decision::Allowed(..) => false,
        }
    }

    /// Whether report mode lets a denied target through.
    pub(crate) fn lets_through(&self, reason: Reason, target: &Target) -> bool {
        self.report && reason.is_only_reported(&target.host)
    }

    /// The PAC file as fetched from a proxy listener, for the client with this key.
    pub(crate) fn pac_for(&self, host: Option<&str>, local: SocketAddr, key: Key) -> File<'_> {
        self.pac.file(&self.policy, &self.advertise.as_fetched(host, local, key))
    }

    /// Whether a host may be a name of this proxy: `proxy.advertise` has it, or has no name at all, so that
    /// browsers use whichever leads here.
    pub(super) fn may_be_called(&self, host: &str) -> bool {
        let given = &self.advertise.given;
        given.is_empty() || given.iter().any(|own| own.host.eq_ignore_ascii_case(host))
    }

    /// Whether `admin.hosts` has this name.
    pub(crate) fn is_admin_host(&self, name: &str) -> bool {
        self.admin_hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether `proxy.advertise` has this very host and port.
    pub(super) fn advertises(&self, host: &str, port: u16) -> bool {
        self.advertise.given.iter().any(|own| own.port == port && own.host.eq_ignore_ascii_case(host))
    }

    /// The PAC file as the admin listener gives it, for the client with this key.
    ///
    /// # Errors
    /// As of [`Advertise::standing`].
    pub(crate) fn standing_pac(&self, key: Option<Key>) -> Result<File<'_>, String> {
        Ok(self.pac.file(&self.policy, &self.advertise.standing(key)?))
    }
}
