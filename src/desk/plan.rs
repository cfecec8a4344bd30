//! What a desk tries: the concrete hosts of the allow list that its browser must reach through this proxy,
//! and the media endpoints that it must reach past it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pac::Direct;
use crate::policy::{Category, Decision, Generation, Policy, Protocol, Rule};
use crate::target::{DEFAULT_PORT, Host, Target};

/// So many hosts are tried: more than any region has, and little enough for one browser in nine seconds.
const HOSTS: usize = 40;
/// Each media endpoint is a connection of its own in the browser.
const MEDIA: usize = 16;

/// A host that is tried over https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub host: Arc<str>,
    pub category: Category,
}

/// What is tried, in the order in which a browser begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub hosts: Vec<Listed>,
    /// Over UDP 3478.
    pub media: Vec<Arc<str>>,
    /// Categories in use of which no host can be tried, as where only wildcards stand for them.
    pub untested: Vec<Category>,
    /// Hosts and media endpoints beyond the bounds.
    pub left_out: usize,
}

impl Plan {
    /// By the allow list. `direct` are the hosts that the PAC file sends past the proxy on purpose.
    #[must_use]
    pub fn new(policy: &Policy, direct: &[Direct]) -> Self {
        let concrete = |rule: &&Rule| rule.pattern.is_exact();
        let of = |protocol| move |rule: &&Rule| rule.protocol == protocol;
        let mut categories: BTreeMap<Category, Vec<&Rule>> = BTreeMap::new();
        for rule in policy.rules().iter().filter(of(Protocol::Tcp)) {
            let known = categories.entry(rule.category).or_default();
            if concrete(&rule) && is_tried(policy, direct, rule) {
                known.push(rule);
            }
        }
        for known in categories.values_mut() {
            // An instance of today has no name under the domain that AWS replaced, and needs none.
            if known.iter().any(|rule| rule.generation != Generation::Legacy) {
                known.retain(|rule| rule.generation != Generation::Legacy);
            }
        }
        let untested = categories.iter().filter(|(_, known)| known.is_empty()).map(|(c, _)| *c).collect();
        let all: usize = categories.values().map(Vec::len).sum();
        let mut hosts = Vec::new();
        // A host of each category in turn: where there are too many, none is left without.
        for turn in 0..all {
            let nth = categories.iter().filter_map(|(category, known)| Some((category, known.get(turn)?)));
            hosts.extend(
                nth.map(|(category, rule)| Listed {
                    host: rule.pattern.as_str().into(),
                    category: *category,
                }),
            );
        }
        hosts.truncate(HOSTS);
        let media = policy.rules().iter().filter(of(Protocol::Udp)).filter(concrete);
        let mut media: Vec<Arc<str>> = media.map(|rule| rule.pattern.as_str().into()).collect();
        let left_out = all.saturating_sub(HOSTS) + media.len().saturating_sub(MEDIA);
        media.truncate(MEDIA);
        Self { hosts, media, untested, left_out }
    }
}

/// Whether a browser gets to a concrete host over https through this proxy, by the configuration.
fn is_tried(policy: &Policy, direct: &[Direct], rule: &Rule) -> bool {
    let Some(host @ Host::Name(_)) = rule.pattern.as_host() else { return false };
    let target = Target { host: host.clone(), port: DEFAULT_PORT };
    matches!(policy.decide(&target), Decision::Allowed(..)) && !direct.iter().any(|entry| entry.covers(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Choice, resolve};
    use crate::policy::Pattern;

    fn of(regions: &[&str], deny: &[&str], direct: &[Direct]) -> Plan {
        let regions = regions.iter().map(|code| (*code).to_owned()).collect();
        let choice = Choice { regions, instances: vec!["acme".into()], ..Choice::default() };
        let deny = deny.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect();
        Plan::new(&Policy::new(resolve(&choice).rules, deny), direct)
    }

    fn has(plan: &Plan, host: &str) -> bool {
        plan.hosts.iter().any(|listed| &*listed.host == host)
    }

    #[test]
    fn concrete_hosts_are_tried_and_wildcards_are_untested() {
        let plan = of(&["us-west-2"], &[], &[]);
        assert!(has(&plan, "acme.my.connect.aws") && has(&plan, "tools.connect.aws"), "{plan:#?}");
        assert!(!has(&plan, "acme.awsapps.com"), "instances of today lack it");
        assert!(plan.hosts.iter().all(|listed| !listed.host.contains('*')));
        assert_eq!(plan.media.len(), 5, "{:?}", plan.media);
        assert_eq!(plan.untested, [Category::Signalling, Category::Telecom]);
        assert_eq!(plan.left_out, 0);
    }

    #[test]
    fn what_is_denied_or_goes_past_the_proxy_on_purpose_is_not_tried() {
        let direct = [Direct::parse_name("tools.connect.aws").unwrap()];
        let plan = of(&["us-west-2"], &["signin.aws.amazon.com"], &direct);
        assert!(has(&plan, "acme.my.connect.aws"));
        assert!(!has(&plan, "tools.connect.aws") && !has(&plan, "signin.aws.amazon.com"));
    }

    #[test]
    fn of_all_regions_each_category_is_tried() {
        let plan = of(&["*"], &[], &[]);
        assert_eq!((plan.hosts.len(), plan.media.len()), (HOSTS, MEDIA));
        assert!(plan.left_out > 0);
        for category in [Category::Login, Category::Static, Category::Api, Category::Chat] {
            assert!(plan.hosts.iter().any(|listed| listed.category == category), "{category:?}");
        }
    }
}
