//! Config → Plan: the allow list, resolved and ordered. A plan that exists is valid. Making one opens
//! nothing, so that every command can make one, and checking a configuration is safe anywhere.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{self, Barred, cut_network};
use crate::catalogue;
use crate::config::{self, Config, Loaded};
use crate::egress::Egress;
use crate::egress::connect_to::ConnectTo;
use crate::egress::leads_to;
use crate::egress::parent::{self, Parent};
use crate::egress::resolver::{Fixed, Options, Resolver};
use crate::egress::url::ParentUrl;
use crate::egress::within::Guard;
use crate::pac::proxies::Advertise;
use crate::policy::replay::Coming;
use crate::policy::{Breadth, Decision, IpTargets, Mode, Policy, Rule};
use crate::ranges::current::{Current, InForce};
use crate::target::{Host, Target};
use crate::tls::material;

/// The policy that a configuration makes, and what goes with it.
pub struct Plan {
    pub policy: Policy,
    /// Warnings about the list, one line each.
    pub warnings: Vec<String>,
    /// Where the configuration came from, for messages.
    pub source: String,
    /// What tells it from other configurations.
    pub fingerprint: String,
    pub connect_to: ConnectTo,
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
                let remedy = if allow.pattern.is_exact() { "" } else { "; name the hosts that agents need" };
                warnings
                    .push(format!("open to strangers: allow[{i}].pattern {}; {why}{remedy}", allow.pattern));
            } else if catalogue::is_of_a_service(&allow.pattern) {
                rule.breadth = Breadth::Service;
            } else if let Some(why) = allow.pattern.too_broad() {
                warnings.push(format!("allow[{i}].pattern {} is very broad: {why}", allow.pattern));
            }
            rules.push(rule);
        }
        let egress = &config.egress;
        let connect_to =
            egress.connect_to.iter().map(|(from, to)| (from.pattern.clone(), from.port, *to)).collect();
        let alone = [
            ("proxy_for", !egress.proxy_for.is_empty()),
            ("proxy_credentials", egress.proxy_credentials.is_some()),
            ("proxy_ca", egress.proxy_ca.is_some()),
        ];
        for (key, _) in alone.iter().filter(|(_, set)| *set && egress.proxy.is_none()) {
            warnings.push(format!("egress.{key} has no effect: egress.proxy names no parent proxy"));
        }
        warnings.extend(forgeable(config));
        let file = loaded.file.as_ref();
        let source = file.map_or("the embedded default".to_owned(), |f| f.display().to_string());
        let mut plan = Self {
            policy: Policy::new(rules, config.policy.deny.clone()),
            warnings,
            source,
            fingerprint: loaded.fingerprint(),
            connect_to,
        };
        for (i, allow) in config.allow.iter().enumerate() {
            let Some(host) = allow.pattern.as_host() else { continue };
            let target = |port: &u16| Target { host: host.clone(), port: *port };
            let barred = |port| plan.barred(config, &target(port));
            if let Some(barred) = allow.ports.iter().find_map(barred) {
                plan.warnings.push(format!(
                    "allow[{i}].pattern is refused all the same: {barred}; egress.allow_private opens it"
                ));
            }
        }
        plan
    }

    /// Why a target is refused although a rule allows it, in words: it is itself an address that isn't dialled, or
    /// `dns.hosts` leads it to none but such ones. None where it is dialled.
    pub(crate) fn barred(&self, config: &Config, target: &Target) -> Option<String> {
        if self.connect_to.address_for(target).is_some() {
            return None;
        }
        let judge = |address: &IpAddr| address::judge(*address, &config.egress.allow_private).err();
        match &target.host {
            Host::Ip(address) => judge(address).map(|barred| format!("the target is {barred}")),
            // It resolves the name itself.
            Host::Name(_) if self.parent_for(config, target).is_some() => None,
            Host::Name(name) => {
                let mut hosts = config.dns.hosts.iter();
                let (_, addresses) = hosts.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
                let barred: Vec<Barred> = addresses.iter().map_while(judge).collect();
                let all = barred.len() == addresses.len();
                barred.first().filter(|_| all).map(|barred| leads_to(barred, Some(Fixed::Configuration)))
            }
        }
    }

    /// Whether report mode lets a target through that the policy denies.
    pub(crate) fn lets_through(&self, config: &Config, target: &Target) -> bool {
        let only_reported = match self.policy.decide(target) {
            Decision::Denied { reason, .. } => reason.is_only_reported(&target.host),
            Decision::Allowed(..) => false,
        };
        config.policy.mode == Mode::Report && only_reported && self.barred(config, target).is_none()
    }

    /// What agents will be allowed, to hold against what they use. `ranges`: the version by which addresses
    /// count as services.
    pub(crate) fn coming<'a>(&'a self, config: &'a Config, ranges: Option<&'a Current>) -> Coming<'a> {
        Coming {
            is_of_service: is_of_service(
                ranges.filter(|_| config.policy.ip_targets == IpTargets::Ranges),
                &config.egress.allow_private,
            ),
            policy: &self.policy,
            report: config.policy.mode == Mode::Report,
            clients: &config.proxy.clients,
        }
    }

    /// The parent proxy that carries a target; none where this process dials the target itself.
    pub fn parent_for<'a>(&self, config: &'a Config, target: &Target) -> Option<&'a ParentUrl> {
        if self.connect_to.address_for(target).is_some() {
            return None;
        }
        config.egress.proxy.as_ref().filter(|_| parent::carries(&config.egress.proxy_for, &target.host))
    }
}

/// Whether a target is an address of a service, by this version. `allowed` is `egress.allow_private`.
pub(crate) fn is_of_service<'a>(
    ranges: Option<&'a Current>,
    allowed: &'a [IpNet],
) -> Box<dyn Fn(&Target) -> bool + 'a> {
    Box::new(move |target| match (ranges, &target.host) {
        (Some(ranges), Host::Ip(address)) => ranges.service_of(*address, target.port, allowed).is_some(),
        _ => false,
    })
}

/// Says which clients could name any address as theirs.
fn forgeable(config: &Config) -> Option<String> {
    let proxy = &config.proxy;
    let mut covered = proxy.clients.iter().filter_map(|clients| {
        let balancers = proxy.proxy_protocol.iter().find(|balancers| balancers.contains(clients))?;
        Some((balancers, clients))
    });
    let (balancers, clients) = covered.next()?;
    // The log and bundles have this line, too.
    let shown = |net| if config.ledger.anonymise { cut_network(net) } else { net };
    let (balancers, clients) = (shown(*balancers), shown(*clients));
    Some(format!(
        "proxy.proxy_protocol has {balancers}, which covers {clients} of proxy.clients: agents who connect \
         directly are refused, and one who sends a header counts as whatever address it names; list the \
         addresses of the load balancers alone"
    ))
}

/// What a PAC file names, as configured: the ports of the listeners may still be 0.
impl From<&Config> for Advertise {
    fn from(config: &Config) -> Self {
        Self {
            given: config.proxy.advertise.clone(),
            http: config.proxy.listen.clone(),
            https: config.tls.listen.clone(),
            otherwise: config.pac.otherwise.clone(),
            direct: config.pac.direct.clone(),
            lanes: config.pac.lanes,
            spread: config.pac.spread,
        }
    }
}

/// What the resolver of a configuration is made of.
pub(crate) fn dns(dns: &config::Dns) -> Options {
    let config::Dns { hosts, servers, timeout, edns } = dns.clone();
    Options { hosts, servers, timeout, edns }
}

/// How targets are reached by a configuration: the same for every tunnel and for every test of the
/// network. `connect_to` is the plan's; `in_force` the ranges that `policy.ranges` judges by.
pub(crate) fn egress(
    config: &Config,
    connect_to: ConnectTo,
    parent: Option<Parent>,
    resolver: Resolver,
    in_force: Arc<InForce>,
) -> Egress {
    let egress = &config.egress;
    Egress {
        resolver,
        connect_timeout: egress.connect_timeout,
        source_address: egress.source_address.clone(),
        allow_private: egress.allow_private.clone(),
        connect_to,
        parent,
        ranges: Guard { mode: config.policy.ranges, max_age: config.ranges.max_age, in_force },
    }
}

/// The parent proxy of a configuration, with the files that it names.
///
/// # Errors
/// What is wrong with each of them, with the key and the file.
pub(crate) fn parent(config: &Config) -> Result<Option<Parent>, Vec<String>> {
    let egress = &config.egress;
    let Some(url) = egress.proxy.clone() else { return Ok(None) };
    Parent::load(parent::Options {
        url,
        only: egress.proxy_for.clone(),
        credentials: egress.proxy_credentials.as_deref(),
        ca: egress.proxy_ca.as_deref(),
        name: &config.proxy.name,
    })
    .map(Some)
}

/// What the TLS listener serves with: the files that a configuration names, and its shift.
pub(crate) fn tls(config: &Config) -> material::Options<'_> {
    let (tls, shift) = (&config.tls, &config.shift);
    material::Options {
        certificate: &tls.certificate,
        key: &tls.key,
        client_ca: tls.client_ca.as_deref(),
        ticket_keys: &tls.ticket_keys,
        alpn: &tls.alpn,
        length: shift.length,
        breaks: shift.breaks,
        lunch: shift.lunch,
    }
}
