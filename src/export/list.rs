//! The allow list for other people's boxes: one form for each product, and for each entry whether that
//! form says the same (`exact`), lets more in (`widened`, with a host that gets in by mistake), or can't
//! say it (`impossible`, then the entry is left out).
//!
//! Names alone: what a product makes of ports is its own matter. What each covers is by its documentation;
//! the tests hold every form against an evaluator of that rule and the matcher of the proxy.

use std::collections::BTreeSet;

pub use super::entry::{Entry, Mark, Product};
use super::{forms, overlap};
use crate::policy::{Policy, Protocol};
use crate::target::Host;

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub entries: Vec<Entry>,
    /// The fragment to include.
    pub text: String,
    /// What should be known of each entry, where the text has no comments.
    pub notes: Vec<String>,
}

/// The list of a policy, for a product.
#[must_use]
pub fn export(policy: &Policy, product: Product) -> Export {
    let wanted = |protocol| protocol == Protocol::Tcp || product.has_media();
    let rules: Vec<_> = policy.rules().iter().filter(|rule| wanted(rule.protocol)).collect();
    let deny = policy.deny();
    let is_listed = |host: &Host| {
        rules.iter().any(|rule| rule.pattern.matches(host)) && !deny.iter().any(|deny| deny.matches(host))
    };
    let mistaken = |text: &str| Host::parse(text.as_bytes()).is_ok_and(|host| !is_listed(&host));
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for rule in &rules {
        let pattern = &rule.pattern;
        if !seen.insert(pattern.as_str()) {
            continue;
        }
        let cover = product.cover(pattern);
        let mark = match &cover {
            Err(why) => Mark::Impossible(why),
            Ok(cover) => {
                let wider = if cover.is_exact(pattern) { Vec::new() } else { cover.samples() };
                let cut = deny.iter().filter(|deny| !product.can_deny(deny));
                let cut = cut.filter_map(|deny| overlap::witness(pattern, deny));
                let more = wider.into_iter().filter(|_| !cover.is_exact(pattern));
                more.chain(cut).find(|host| mistaken(host)).map_or(Mark::Exact, Mark::Widened)
            }
        };
        let same = rules.iter().filter(|other| other.pattern == *pattern);
        let mut ports: Vec<u16> = same.flat_map(|rule| rule.ports.iter().copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        let short = product.falls_short(pattern).filter(|_| cover.is_ok());
        entries.push(Entry { pattern: pattern.clone(), ports, mark, short, cover: cover.ok() });
    }
    let text = forms::write(product, &entries, deny);
    let notes = if product.has_comments() { Vec::new() } else { entries.iter().map(Entry::note).collect() };
    Export { entries, text, notes }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
