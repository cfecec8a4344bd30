//! For a denied target: the most similar rule, and why it does not apply.
//!
//! Runs for people (`explain`, logs, refusals); it looks at every rule and allocates. It never
//! decides anything.

use std::cmp::Reverse;

use serde::Serialize;

use super::pattern::label_matches;
use super::{Breadth, By, Pattern, Policy, Protocol, Reason, Rule, RuleId};
use crate::target::{Host, Target};

/// Labels that differ by this many edits or fewer look like a typing error.
const TYPO: usize = 2;

/// The rule nearest to a denied target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The pattern of the rule, or the deny pattern.
    pub rule: String,
    /// Why it does not apply, in one sentence without a full stop.
    pub why: String,
    /// The allow rule whose traffic a host like this carries: the one that matches it, or one that it
    /// differs from by a typing error, its depth or its Region. None where it merely resembles a rule.
    #[serde(skip)]
    pub same: Option<RuleId>,
}

/// `by`: the pattern or rule of the decision.
pub(super) fn find(policy: &Policy, target: &Target, reason: Reason, by: Option<By<'_>>) -> Option<Nearest> {
    match reason {
        Reason::DenyRule => Some(denied_although(policy, target, by?.pattern())),
        Reason::Port => {
            // A UDP rule with this very port says more than a TCP rule without it.
            let udp = udp_rule(policy, target).filter(|(_, udp)| udp.ports.contains(&target.port));
            if let Some(udp) = udp {
                return Some(past_the_proxy(udp));
            }
            let Some(By::Rule(id, rule)) = by else { return None };
            let ports = ports_of(policy, target);
            Some(Nearest {
                rule: rule.pattern.to_string(),
                why: format!("it matches the host, and is for {ports}, not {}", target.port),
                same: Some(id),
            })
        }
        Reason::NoRule | Reason::IpLiteral => {
            if let Some(udp) = udp_rule(policy, target) {
                return Some(past_the_proxy(udp));
            }
            match &target.host {
                Host::Ip(address) => other_notation(policy, &Host::Ip(address.to_canonical())),
                Host::Name(name) if reason == Reason::NoRule => similar(policy, name),
                Host::Name(_) => None,
            }
        }
    }
}

fn denied_although(policy: &Policy, target: &Target, deny: &Pattern) -> Nearest {
    let allowed = numbered(policy)
        .find(|(_, rule)| rule.protocol == Protocol::Tcp && rule.pattern.matches(&target.host));
    let why = match allowed {
        Some((_, rule)) => {
            format!("this deny pattern matches the host, and wins over the rule {}", rule.pattern)
        }
        None => "this deny pattern matches the host, and no rule does".to_owned(),
    };
    Nearest { rule: deny.to_string(), why, same: allowed.map(|(id, _)| id) }
}

fn numbered(policy: &Policy) -> impl Iterator<Item = (RuleId, &Rule)> {
    (0..).map(RuleId).zip(&policy.rules)
}

fn udp_rule<'a>(policy: &'a Policy, target: &Target) -> Option<(RuleId, &'a Rule)> {
    numbered(policy)
        .filter(|(_, rule)| rule.protocol == Protocol::Udp && rule.pattern.matches(&target.host))
        .max_by_key(|(_, rule)| rule.ports.contains(&target.port))
}

fn past_the_proxy((id, rule): (RuleId, &Rule)) -> Nearest {
    Nearest {
        rule: rule.pattern.to_string(),
        why: format!(
            "voice goes over UDP {} past the proxy; the firewall must let it through",
            list(&rule.ports)
        ),
        same: Some(id),
    }
}

/// The ports of all TCP rules that match the host: each of them is allowed.
fn ports_of(policy: &Policy, target: &Target) -> String {
    let mut ports: Vec<u16> = policy
        .rules
        .iter()
        .filter(|known| known.protocol == Protocol::Tcp)
        .filter(|known| known.pattern.matches(&target.host))
        .flat_map(|known| known.ports.iter().copied())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let noun = if ports.len() == 1 { "port" } else { "ports" };
    format!("{noun} {}", list(&ports))
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

/// `::ffff:192.0.2.1` where the rule has `192.0.2.1`, or the reverse.
fn other_notation(policy: &Policy, plain: &Host) -> Option<Nearest> {
    let (id, rule) = numbered(policy).find(|(_, rule)| {
        rule.protocol == Protocol::Tcp
            && matches!(rule.pattern.as_host(), Some(Host::Ip(address))
                if Host::Ip(address.to_canonical()) == *plain)
    })?;
    Some(Nearest {
        rule: rule.pattern.to_string(),
        why: "an address matches only in the notation that the rule has".to_owned(),
        same: Some(id),
    })
}

/// The name that resembles one of the patterns most.
fn similar(policy: &Policy, name: &str) -> Option<Nearest> {
    numbered(policy)
        .filter(|(_, rule)| rule.protocol == Protocol::Tcp)
        .filter_map(|(id, rule)| Some((compare(rule, name)?, id, rule)))
        .min_by_key(|(found, _, rule)| (found.distance, Reverse(rule.pattern.as_str().len())))
        .map(|(found, id, rule)| Nearest {
            rule: rule.pattern.to_string(),
            why: found.why,
            same: found.same.then_some(id),
        })
}

/// How a name compares to a pattern.
struct Likeness {
    /// Smaller is nearer.
    distance: usize,
    why: String,
    /// Whether the name stands for the same service as the pattern.
    same: bool,
}

/// How the name differs from the pattern of a rule. None for names that have too little in common to help,
/// and for those of another service: in AWS's names most labels are the same for all services
/// (`sso.eu-central-1.amazonaws.com`, `execute-api.eu-central-1.amazonaws.com`).
fn compare(rule: &Rule, name: &str) -> Option<Likeness> {
    let pattern = &rule.pattern;
    let (tail, deep) = match pattern.as_str().strip_prefix("*.") {
        Some(tail) => (tail, true),
        None => (pattern.as_str(), false),
    };
    let wanted: Vec<&str> = tail.rsplit('.').collect();
    let found: Vec<&str> = name.rsplit('.').collect();
    let pairs = || wanted.iter().zip(&found).enumerate();
    let mut differing = pairs().filter(|(_, (wanted, found))| !label_matches(wanted, found));
    let first_difference = differing.next();
    if differing.next().is_some() {
        return None;
    }
    let in_common =
        pairs().filter(|(_, (wanted, found))| **wanted != "*" && label_matches(wanted, found)).count();
    let missing = (wanted.len() + usize::from(deep)).saturating_sub(found.len());
    let surplus = if deep { 0 } else { found.len().saturating_sub(wanted.len()) };
    let (distance, same, why) = match first_difference {
        None if in_common < 2 => return None,
        None if deep && missing == 1 => {
            (0, true, format!("`*.` stands for one or more labels, so the bare {name} is not covered"))
        }
        None if missing > 0 => {
            (missing, false, format!("the pattern has {} more than {name}", labels(missing)))
        }
        None if pattern.is_exact() => {
            (surplus, true, "it covers that name alone, not the names below it".to_owned())
        }
        None => {
            let why = format!("`*` stays within one label, and the target has {} more", labels(surplus));
            (surplus, true, why)
        }
        // A label that differs, in a name that is longer or shorter as well, is another name.
        Some(_) if missing + surplus > 0 => return None,
        Some((at, (wanted, found))) => {
            let edits = strsim::osa_distance(wanted, found);
            let typo = edits <= TYPO && edits * 2 < wanted.len().min(found.len()) && in_common >= 1;
            // Where names belong to one customer each, the first label names the customer.
            let neighbour = rule.breadth == Breadth::Tenant
                && pattern.is_exact()
                && at + 1 == pattern.as_str().split('.').count()
                && in_common >= 2;
            let region = !neighbour
                && is_region(wanted)
                && is_region(found)
                && in_common >= 2
                && ends_as_aws(pattern.as_str());
            if !(typo || region || neighbour) {
                return None;
            }
            let distance = if typo { edits } else { 2 + edits };
            let why = format!("the target has {found:?} where the rule has {wanted:?}");
            (distance, typo || region, why)
        }
    };
    Some(Likeness { distance, why, same })
}

/// Whether a label has the form of an AWS Region's code: `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
/// Told by the form, since AWS adds Regions all the time.
pub(crate) fn is_region(label: &str) -> bool {
    let mut parts = label.rsplit('-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let letters = |part: &str| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_lowercase());
    parts.next().is_some_and(digits) && parts.clone().count() >= 2 && parts.all(letters)
}

/// Whether a name ends as AWS's do. Elsewhere a label may look like a Region's code: `web-server-2`.
fn ends_as_aws(name: &str) -> bool {
    // amazonaws.com.cn has the most labels.
    name.rsplit('.').take(3).any(|label| label.starts_with("aws") || label.starts_with("amazon"))
}

fn labels(count: usize) -> String {
    match count {
        1 => "one label".to_owned(),
        _ => format!("{count} labels"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_region;

    #[test]
    fn a_region_is_told_by_its_form() {
        for code in ["us-west-2", "eu-central-1", "us-gov-east-1", "ap-southeast-12", "eusc-de-east-1"] {
            assert!(is_region(code), "{code}");
        }
        for other in
            ["s3", "queue", "s3-us-west-2", "west-2", "us-west", "us-west-", "-2", "2", "", "us-west-2a"]
        {
            assert!(!is_region(other), "{other}");
        }
    }
}
