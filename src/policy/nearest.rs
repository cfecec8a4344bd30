//! For a denied target: the rule that comes nearest, and why it does not apply.
//!
//! Runs for people (`explain`, logs, refusals); it looks at every rule and allocates. It never
//! decides anything.

use std::cmp::Reverse;

use serde::Serialize;

use super::pattern::label_matches;
use super::{Pattern, Policy, Protocol, Reason, Rule};
use crate::target::{Host, Target};

/// Labels that differ by this many edits or fewer look like a slip of the keyboard.
const TYPO: usize = 2;

/// The rule nearest to a denied target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The pattern of the rule, or the deny pattern.
    pub rule: String,
    /// Why it does not apply, in one sentence without a full stop.
    pub why: String,
}

/// `rule` is what the decision named: a deny pattern, or the rule whose ports differ.
pub(super) fn find(policy: &Policy, target: &Target, reason: Reason, rule: Option<&str>) -> Option<Nearest> {
    match reason {
        Reason::DenyRule => Some(Nearest { rule: rule?.to_owned(), why: denied_although(policy, target) }),
        Reason::Port => {
            // A UDP rule with this very port says more than a TCP rule without it.
            let udp = udp_rule(policy, target).filter(|udp| udp.ports.contains(&target.port));
            if let Some(udp) = udp {
                return Some(past_the_proxy(udp));
            }
            let rule = rule?;
            let ports = ports_of(policy, target, rule);
            Some(Nearest {
                rule: rule.to_owned(),
                why: format!("it matches the host, and is for {ports}, not {}", target.port),
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

fn denied_although(policy: &Policy, target: &Target) -> String {
    let allowed =
        policy.rules.iter().find(|rule| rule.protocol == Protocol::Tcp && rule.pattern.matches(&target.host));
    match allowed {
        Some(rule) => format!("this deny pattern matches the host, and wins over the rule {}", rule.pattern),
        None => "this deny pattern matches the host, and no rule does".to_owned(),
    }
}

fn udp_rule<'a>(policy: &'a Policy, target: &Target) -> Option<&'a Rule> {
    policy
        .rules
        .iter()
        .filter(|rule| rule.protocol == Protocol::Udp && rule.pattern.matches(&target.host))
        .max_by_key(|rule| rule.ports.contains(&target.port))
}

fn past_the_proxy(rule: &Rule) -> Nearest {
    Nearest {
        rule: rule.pattern.to_string(),
        why: format!(
            "voice goes over UDP {} past the proxy; the firewall must let it through",
            list(&rule.ports)
        ),
    }
}

/// The ports of all TCP rules that match the host, since any of them would have done.
fn ports_of(policy: &Policy, target: &Target, rule: &str) -> String {
    let mut ports: Vec<u16> = policy
        .rules
        .iter()
        .filter(|known| known.protocol == Protocol::Tcp)
        .filter(|known| known.pattern.as_str() == rule || known.pattern.matches(&target.host))
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
    let rule = policy.rules.iter().find(|rule| {
        rule.protocol == Protocol::Tcp
            && matches!(rule.pattern.as_host(), Some(Host::Ip(address))
                if Host::Ip(address.to_canonical()) == *plain)
    })?;
    Some(Nearest {
        rule: rule.pattern.to_string(),
        why: "an address matches only in the notation that the rule has".to_owned(),
    })
}

/// The name that resembles one of the patterns most.
fn similar(policy: &Policy, name: &str) -> Option<Nearest> {
    policy
        .rules
        .iter()
        .filter(|rule| rule.protocol == Protocol::Tcp)
        .filter_map(|rule| Some((compare(&rule.pattern, name)?, rule)))
        .min_by_key(|((distance, _), rule)| (*distance, Reverse(rule.pattern.as_str().len())))
        .map(|((_, why), rule)| Nearest { rule: rule.pattern.to_string(), why })
}

/// How far the name is from the pattern, smaller being nearer, and what differs. None for names
/// that have too little in common to be a help.
fn compare(pattern: &Pattern, name: &str) -> Option<(usize, String)> {
    let (tail, deep) = match pattern.as_str().strip_prefix("*.") {
        Some(tail) => (tail, true),
        None => (pattern.as_str(), false),
    };
    let wanted: Vec<&str> = tail.rsplit('.').collect();
    let found: Vec<&str> = name.rsplit('.').collect();
    let mut differing = wanted.iter().zip(&found).filter(|(wanted, found)| !label_matches(wanted, found));
    let first_difference = differing.next();
    if differing.next().is_some() {
        return None;
    }
    let in_common = wanted
        .iter()
        .zip(&found)
        .filter(|(wanted, found)| **wanted != "*" && label_matches(wanted, found))
        .count();
    let missing = (wanted.len() + usize::from(deep)).saturating_sub(found.len());
    let surplus = if deep { 0 } else { found.len().saturating_sub(wanted.len()) };
    match first_difference {
        None if in_common < 2 => None,
        None if deep && missing == 1 => {
            Some((0, format!("`*.` stands for one or more labels, so the bare {name} is not covered")))
        }
        None if missing > 0 => {
            Some((missing, format!("the pattern has {} more than {name}", labels(missing))))
        }
        None if pattern.is_exact() => {
            Some((surplus, "it covers that name alone, not the names below it".to_owned()))
        }
        None => Some((
            surplus,
            format!("`*` stays within one label, and the target has {} more", labels(surplus)),
        )),
        // A label that differs, in a name that is longer or shorter as well, is another name.
        Some(_) if missing + surplus > 0 => None,
        Some((wanted, found)) => {
            let edits = strsim::osa_distance(wanted, found);
            let typo = edits <= TYPO && edits < wanted.len().min(found.len()) && in_common >= 1;
            (typo || in_common >= 2).then(|| {
                let distance = if typo { edits } else { 2 + edits };
                (distance, format!("the target has {found:?} where the rule has {wanted:?}"))
            })
        }
    }
}

fn labels(count: usize) -> String {
    match count {
        1 => "one label".to_owned(),
        _ => format!("{count} labels"),
    }
}
