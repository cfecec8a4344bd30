//! Desks that fail alone, each in a retry loop: why they fail, and at which targets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::clients::{Tally, TargetHash};
use super::group::{LOOP, One, Placed};
use super::instances::single;
use super::{Key, Second, TARGETS};
use crate::cause::Cause;
use crate::policy::Category;

/// Those of one category.
#[derive(Default)]
pub(super) struct Desks {
    all: BTreeMap<IpAddr, One>,
    /// How often they failed for each cause.
    causes: BTreeMap<Cause, u64>,
    pub last: Second,
}

impl Desks {
    pub(super) fn add(&mut self, cause: Cause, one: One) {
        *self.causes.entry(cause).or_default() += u64::from(one.count);
        self.last = self.last.max(one.last);
        let known = self.all.entry(one.client).or_insert(one);
        known.first = known.first.min(one.first);
    }

    /// In order.
    pub(super) fn clients(&self) -> impl Iterator<Item = IpAddr> {
        self.all.keys().copied()
    }

    pub(super) fn since(&self) -> Second {
        self.all.values().map(|one| one.first).min().unwrap_or_default()
    }

    /// Why they fail: the most frequent cause, of several the first in their order. A desk that fails in two
    /// ways by turns has now one ahead, now the other: what was told `before` stays until another one leads
    /// by a loop.
    pub(super) fn cause(&self, before: Option<Cause>) -> Option<Cause> {
        let (most, count) = self.causes.iter().max_by_key(|(cause, count)| (**count, Reverse(**cause)))?;
        let stays = |told: &Cause| self.causes.get(told).is_some_and(|of| of + u64::from(LOOP) > *count);
        Some(before.filter(stays).unwrap_or(*most))
    }

    /// A few of the targets at which they fail so: those that fail most often, by name.
    pub(super) fn targets(
        &self,
        by: (Cause, Option<Category>),
        placed: &[Placed<'_>],
        tally: &Tally,
    ) -> Vec<String> {
        let mut counts: HashMap<TargetHash, u64, RandomState> = HashMap::default();
        for Placed { key: Key { cause, category, .. }, client, trouble } in placed {
            if (*cause, *category) == by && self.all.contains_key(client) {
                *counts.entry(trouble.target).or_default() += u64::from(trouble.count);
            }
        }
        let samples = tally.samples(single(by.0), by.1);
        let mut named: Vec<(Reverse<u64>, &str)> = samples
            .filter_map(|sample| Some((Reverse(*counts.get(&sample.target)?), &*sample.name)))
            .collect();
        named.sort_unstable();
        named.dedup();
        named.truncate(TARGETS);
        let mut names: Vec<String> = named.into_iter().map(|(_, name)| name.to_owned()).collect();
        names.sort_unstable();
        names
    }
}
