//! The clients for which the same thing fails, and when they are enough for a finding. The thresholds that keep
//! ordinary noise silent are here: a proxy with hundreds of agents always has a tunnel that failed a minute ago.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::clients::{TargetHash, Trouble};
use super::{Key, Kind, Second, Subject};
use crate::outcome::Bound;

/// Distinct clients that make a finding, where more do not have to.
pub(super) const CLIENTS: usize = 3;
/// The same for something that the catalogue says is missing: two clients' browsers can't make up
/// the name of the same Region, where AWS alone gives such names.
const CLIENTS_OF_A_NEED: usize = 2;
/// Failures of one client that make it a retry loop. Panels retry every 2 to 30 s.
pub(super) const LOOP: u32 = 5;
/// Failures that are more than an odd request, where one client alone causes them.
const BURST: u64 = 3;
/// Of so many clients one in a hundred may fail by chance and not try again: AWS's own line for a proxy.
const PATH_PERCENT: usize = 2;
/// Far sides reset a tunnel now and then by themselves, and there are odd programs.
const END_PERCENT: usize = 10;
/// Failures within so many seconds may have one reason.
const AT_ONCE: Second = 60;
/// Clients that ask for the same unlisted host.
const HOST_PERCENT: usize = 20;

/// A trouble of a client, and the finding that it would belong to.
pub(super) struct Placed<'a> {
    pub key: Key,
    pub client: IpAddr,
    pub trouble: &'a Trouble,
}

/// The clients of one key.
#[derive(Default)]
pub(super) struct Group {
    pub clients: Vec<One>,
    /// All targets, and for how many clients each fails with which nobody succeeded since.
    by_target: HashMap<TargetHash, usize, RandomState>,
    pub last: Second,
}

/// One client of a group.
#[derive(Clone, Copy)]
pub(super) struct One {
    pub client: IpAddr,
    pub first: Second,
    pub last: Second,
    pub count: u32,
    /// Nobody succeeded with what fails for it, since it failed last.
    stands: bool,
}

impl Group {
    /// `worked`: when somebody last succeeded with the same target.
    pub(super) fn add(&mut self, client: IpAddr, trouble: &Trouble, worked: Option<Second>) {
        let Trouble { target, first, last, count, .. } = *trouble;
        self.last = self.last.max(last);
        let stands = worked.is_none_or(|worked| worked <= last);
        *self.by_target.entry(target).or_default() += usize::from(stands);
        match self.clients.last_mut().filter(|one| one.client == client) {
            Some(one) => {
                one.stands |= stands;
                one.first = one.first.min(first);
                one.last = one.last.max(last);
                one.count = one.count.saturating_add(count);
            }
            None => self.clients.push(One { client, first, last, count, stands }),
        }
    }

    /// Whether it is about this target, too.
    pub(super) fn has(&self, target: TargetHash) -> bool {
        self.by_target.contains_key(&target)
    }

    fn len(&self) -> usize {
        self.clients.len()
    }

    fn all(&self) -> u64 {
        self.clients.iter().map(|one| u64::from(one.count)).sum()
    }

    pub(super) fn since(&self) -> Second {
        self.clients.iter().map(|one| one.first).min().unwrap_or_default()
    }

    /// Whether most of the active clients fail, each of them again and again: where there are one or
    /// two, nobody else could say whether it is theirs alone.
    fn most(&self, active: usize) -> bool {
        self.clients.iter().filter(|one| one.count >= LOOP).count() * 2 > active
    }

    /// The most clients whose last failures lie within a minute.
    fn at_once(&self) -> usize {
        let stand = self.clients.iter().filter(|one| one.stands);
        let mut last: Vec<Second> = stand.map(|one| one.last).collect();
        last.sort_unstable();
        let mut most = 0;
        let mut until = 0;
        for from in 0..last.len() {
            while until < last.len() && last[until] - last[from] < AT_ONCE {
                until += 1;
            }
            most = most.max(until - from);
        }
        most
    }

    /// Whether it is enough for a finding.
    pub(super) fn opens(&self, key: Key, active: usize) -> bool {
        // Those that failed more than once.
        let again = || self.clients.iter().filter(|one| one.count > 1).count();
        self.is_enough(key, active, |percent| self.at_once().max(again()) >= needed(active, percent))
    }

    /// Whether it is enough for a finding that there is already: half of what opens one.
    pub(super) fn keeps(&self, key: Key, active: usize) -> bool {
        self.is_enough(key, active, |percent| self.len() >= needed(active, percent).div_ceil(2))
    }

    /// `many`: whether so many percent of the active clients fail, or as many as make a finding at all.
    fn is_enough(&self, key: Key, active: usize, many: impl Fn(usize) -> bool) -> bool {
        match Kind::of(key.cause) {
            // Three that fail with one target, with which nobody else succeeds, are no chance.
            Kind::Path => {
                let together = self.by_target.values().max().is_some_and(|most| *most >= CLIENTS);
                together || many(PATH_PERCENT) || self.most(active)
            }
            // A firewall that failed over resets all at once, one that cuts idle tunnels the same ones
            // again and again. What comes now and then, to somebody else each time, is the far side's.
            Kind::End => many(END_PERCENT) || self.most(active),
            Kind::Denial if matches!(key.subject, Subject::Need(_)) => {
                self.len() >= CLIENTS_OF_A_NEED || self.most(active)
            }
            Kind::Denial => self.len() >= needed(active, HOST_PERCENT),
            Kind::Foreign => many(END_PERCENT) || self.clients.iter().any(|one| one.count >= LOOP),
            // The proxy knows that it refused what it would have let through; an odd header or the
            // kernel's want of a port for a moment is not yet that.
            Kind::Limit => match key.subject {
                Subject::Bound(Bound::RequestHeader) | Subject::None => self.all() >= BURST,
                _ => true,
            },
        }
    }
}

/// How many clients are so many percent of the active ones; fewer than [`CLIENTS`] are no proof.
fn needed(active: usize, percent: usize) -> usize {
    CLIENTS.max((active * percent).div_ceil(100))
}
