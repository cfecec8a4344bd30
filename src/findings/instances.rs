//! An instance's own name that doesn't exist, while other names resolve: not DNS is at fault then, but the
//! alias in the configuration.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::Second;
use super::clients::{Tally, TargetHash, Trouble};
use crate::cause::Cause;

/// A success so many seconds before a failure, or later, says that there was something.
const AT_ONCE: Second = 60;

/// The names that don't exist for somebody, and whether each is an instance's own. What is known stays as long
/// as it fails: a reload that corrects the alias doesn't make the old one the resolver's fault.
#[derive(Default)]
pub(super) struct Missing(HashMap<TargetHash, bool, RandomState>);

impl Missing {
    /// The own names of instances that don't exist, while others do. `is_own` says which hosts are such names.
    pub(super) fn instances(
        &mut self,
        tally: &Tally,
        is_own: impl Fn(&str) -> bool,
    ) -> HashSet<TargetHash, RandomState> {
        let missing = || {
            let troubles = tally.troubles.iter().map(|(_, trouble)| trouble);
            troubles.filter(|trouble| trouble.key.cause == Cause::DnsNxdomain)
        };
        self.learn(missing(), tally, is_own);
        let mut names: HashMap<TargetHash, (Second, Second), RandomState> = HashMap::default();
        for Trouble { target, first, last, .. } in missing() {
            let (since, until) = names.entry(*target).or_insert((*first, *last));
            (*since, *until) = ((*since).min(*first), (*until).max(*last));
        }
        // Where somebody got there about then, the name exists: whoever answers doesn't always say so.
        let exists = |at: Second, last: Second| at.saturating_add(AT_ONCE) > last;
        names.retain(|target, (_, last)| !tally.worked.get(target).is_some_and(|at| exists(*at, *last)));
        let is_own = |target: &TargetHash| self.0.get(target).copied().unwrap_or_default();
        let others: Vec<Second> =
            names.iter().filter(|(target, _)| !is_own(target)).map(|(_, (since, _))| *since).collect();
        // A success says that DNS works: one from before as long as no other name is missing, with one other, as a
        // typing error is, one since this one went missing. Where nothing resolves any more, names that were known go one
        // after the other: then it must be younger than all of them.
        let needed = |since: Second| match others[..] {
            [] => 0,
            [_] => since,
            _ => others.iter().copied().fold(since, Second::max),
        };
        let resolves = |since: Second| tally.succeeded.is_some_and(|at| at >= needed(since));
        let own = names.into_iter().filter(|(target, (since, _))| is_own(target) && resolves(*since));
        own.map(|(target, _)| target).collect()
    }

    fn learn<'a>(
        &mut self,
        missing: impl Iterator<Item = &'a Trouble>,
        tally: &Tally,
        is_own: impl Fn(&str) -> bool,
    ) {
        let before = std::mem::take(&mut self.0);
        for Trouble { key, target, .. } in missing {
            if self.0.contains_key(target) {
                continue;
            }
            let asked = || {
                let mut samples = tally.samples(key.cause, key.category);
                let name = &*samples.find(|sample| sample.target == *target)?.name;
                Some(is_own(name.rsplit_once(':').map_or(name, |(host, _)| host)))
            };
            if let Some(own) = before.get(target).copied().or_else(asked) {
                self.0.insert(*target, own);
            }
        }
    }
}

/// The cause that each failure had, where a look at all of them makes another one of it.
pub(super) const fn single(cause: Cause) -> Cause {
    match cause {
        Cause::InstanceUnknown => Cause::DnsNxdomain,
        other => other,
    }
}
