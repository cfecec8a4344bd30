//! The policy: from a parsed target to a decision with its reason and rule. Pure, no I/O.
//!
//! A [`Policy`] is compiled once from resolved rules and deny patterns and never changes. It judges the
//! target alone; other rooms judge what a name resolves to and what the first bytes say.

mod index;
mod nearest;
mod pattern;
pub(crate) mod replay;
mod rule;

pub use nearest::Nearest;
pub(crate) use nearest::is_region;
pub(crate) use pattern::label_matches;
pub use pattern::{Pattern, PatternError};
pub use rule::{Breadth, Category, Generation, IpTargets, Mode, OutsideRanges, Protocol, Rule};

use std::cmp::Reverse;

use strum::{IntoStaticStr, VariantArray};

use crate::target::{Host, Target};
use index::Index;

/// A rule of the policy that made the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u32);

impl RuleId {
    /// The position in [`Policy::rules`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why the policy denies a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Reason {
    /// No TCP rule matches the host.
    NoRule,
    /// A rule matches the host, and none that does has the port.
    Port,
    /// A deny pattern matches the host.
    DenyRule,
    /// An address, or a name that resolvers read as one, without a rule of its own.
    IpLiteral,
}

impl Reason {
    /// The word in logs, metrics and Proxy-Status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether report mode lets this host through all the same. A name that only C libraries read as an
    /// address is refused in either mode.
    pub(crate) fn is_only_reported(self, host: &Host) -> bool {
        !(self == Self::IpLiteral && matches!(host, Host::Name(_)))
    }

    /// Whether a word is that of a reason.
    #[must_use]
    pub(crate) fn is_word(word: &str) -> bool {
        Self::VARIANTS.iter().any(|reason| reason.as_str() == word)
    }
}

/// What the policy says about a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision<'a> {
    Allowed(RuleId, &'a Rule),
    Denied {
        reason: Reason,
        /// The deny pattern or the rule that made the decision; none where no pattern matches.
        by: Option<By<'a>>,
    },
}

/// Why a target is denied: the pattern or rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By<'a> {
    /// The deny pattern that matches.
    Deny(&'a Pattern),
    /// The best rule that matches the host; its ports differ.
    Rule(RuleId, &'a Rule),
}

impl<'a> By<'a> {
    /// The pattern that matches.
    #[must_use]
    pub const fn pattern(self) -> &'a Pattern {
        match self {
            Self::Deny(pattern) => pattern,
            Self::Rule(_, rule) => &rule.pattern,
        }
    }
}

/// The rules and deny patterns in force, indexed.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    deny: Vec<Pattern>,
    /// TCP rules only: UDP traffic never passes the proxy.
    allow_index: Index,
    deny_index: Index,
}

impl Policy {
    #[must_use]
    pub fn new(rules: Vec<Rule>, deny: Vec<Pattern>) -> Self {
        let allow_index = Index::new(
            (0..)
                .zip(&rules)
                .filter(|(_, rule)| rule.protocol == Protocol::Tcp)
                .map(|(id, rule)| (id, &rule.pattern)),
        );
        let deny_index = Index::new((0..).zip(&deny));
        Self { rules, deny, allow_index, deny_index }
    }

    /// All rules, in the order they were given; [`RuleId::index`] counts in it.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The names of the media servers that have a rule each.
    pub(crate) fn media_servers(&self) -> impl Iterator<Item = &str> {
        let is_media = |rule: &&Rule| rule.protocol == Protocol::Udp && rule.category == Category::Media;
        let rules = self.rules.iter().filter(is_media).filter(|rule| rule.pattern.is_exact());
        rules.map(|rule| rule.pattern.as_str())
    }

    /// The deny patterns, in the order they were given.
    #[must_use]
    pub fn deny(&self) -> &[Pattern] {
        &self.deny
    }

    /// The rule a decision names.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id.index())
    }

    /// Judges a target. Deny patterns win over every rule; of several rules that match host and
    /// port an exact name wins, then the longest pattern, then the first. Allocates nothing.
    #[must_use]
    pub fn decide(&self, target: &Target) -> Decision<'_> {
        let mut denied = Best::default();
        self.deny_index.each(&target.host, |id| {
            denied.offer(id, &self.deny[id as usize]);
        });
        if let Some(id) = denied.id() {
            return Decision::Denied {
                reason: Reason::DenyRule,
                by: Some(By::Deny(&self.deny[id as usize])),
            };
        }
        let (mut allowed, mut other_port) = (Best::default(), Best::default());
        if !target.host.is_numeric_name() {
            self.allow_index.each(&target.host, |id| {
                let rule = &self.rules[id as usize];
                if rule.ports.contains(&target.port) {
                    allowed.offer(id, &rule.pattern);
                } else {
                    other_port.offer(id, &rule.pattern);
                }
            });
        }
        if let Some(id) = allowed.id() {
            return Decision::Allowed(RuleId(id), &self.rules[id as usize]);
        }
        if let Some(id) = other_port.id() {
            return Decision::Denied {
                reason: Reason::Port,
                by: Some(By::Rule(RuleId(id), &self.rules[id as usize])),
            };
        }
        Decision::Denied {
            reason: if target.host.is_literal() { Reason::IpLiteral } else { Reason::NoRule },
            by: None,
        }
    }

    /// For a denied target, the rule that an administrator may have had in mind, and why it does not apply.
    /// None for an allowed target, or when no rule is similar. Not for the data path.
    #[must_use]
    pub fn nearest(&self, target: &Target) -> Option<Nearest> {
        match self.decide(target) {
            Decision::Allowed(..) => None,
            Decision::Denied { reason, by } => nearest::find(self, target, reason, by),
        }
    }
}

/// Keeps the most specific pattern that was offered: exact first, then longest, then first.
#[derive(Default)]
struct Best(Option<(bool, usize, Reverse<u32>)>);

impl Best {
    fn offer(&mut self, id: u32, pattern: &Pattern) {
        let rank = (pattern.is_exact(), pattern.as_str().len(), Reverse(id));
        self.0 = self.0.max(Some(rank));
    }

    fn id(&self) -> Option<u32> {
        self.0.map(|(_, _, Reverse(id))| id)
    }
}

#[cfg(test)]
mod tests;
