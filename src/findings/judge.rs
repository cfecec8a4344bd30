//! From what is remembered of clients to findings: what holds, since when, and whom it hits.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::clients::{Tally, TargetHash, Trouble};
use super::desk::Desks;
use super::group::{Group, LOOP, Placed};
use super::instances::{Missing, single};
use super::report::Report;
use super::unlisted::{Says, Unlisted};
use super::{Finding, Key, Kind, LOOK_BACK, Lack, QUIET, Second, Source, Subject, TARGETS, networks};
use crate::cause::Cause;
use crate::policy::Category;

/// A finding whose clients recover one by one lasts so long below its threshold.
const LINGER: Second = 60;

/// What holds, and since when. It remembers what it found, so that a finding doesn't come and go.
#[derive(Default)]
pub struct Judge {
    open: HashMap<Key, Open, RandomState>,
    /// Findings that ended because nothing failed any more; what failed before counts no longer.
    quiet: HashMap<Key, Second, RandomState>,
    missing: Missing,
}

struct Open {
    since: Second,
    /// Since when too few clients fail.
    below: Option<Second>,
    /// What was told of why a desk fails.
    by: Option<Cause>,
}

impl Open {
    const fn new(since: Second) -> Self {
        Self { since, below: None, by: None }
    }
}

impl Judge {
    /// What holds at `now`. `is_own` says which hosts are an instance's own name.
    pub fn judge(
        &mut self,
        now: Second,
        tally: &Tally,
        unlisted: &Unlisted,
        is_own: impl Fn(&str) -> bool,
    ) -> Report {
        self.quiet.retain(|_, ended| now.saturating_sub(*ended) < LOOK_BACK);
        let unknown = self.missing.instances(tally, is_own);
        let placed = self.place(tally, unlisted, &unknown);
        let mut groups: HashMap<Key, Group, RandomState> = HashMap::default();
        for Placed { key, client, trouble } in &placed {
            let worked = tally.worked.get(&trouble.target).copied();
            groups.entry(*key).or_default().add(*client, trouble, worked);
        }
        self.close(now, &groups);
        let mut findings = Vec::new();
        for (key, group) in &groups {
            if self.holds(now, *key, group, tally.active) {
                findings.push(self.finding(*key, group, tally, unlisted));
            }
        }
        self.desks(now, &groups, &placed, &mut findings, tally);
        findings.sort_by_key(|f| (std::cmp::Reverse(f.clients.len()), f.key));
        let cut_off: HashSet<IpAddr> =
            findings.iter().filter(|f| cuts_off(f)).flat_map(|f| f.clients.iter().copied()).collect();
        Report {
            at: now,
            active: tally.active,
            failing: failing(&groups, &findings),
            cut_off: cut_off.len(),
            watch_failed: false,
            findings,
        }
    }

    /// What failed, with what it is about. `unknown`: names of instances that don't exist.
    fn place<'a>(
        &self,
        tally: &'a Tally,
        unlisted: &Unlisted,
        unknown: &HashSet<TargetHash, RandomState>,
    ) -> Vec<Placed<'a>> {
        let meanings = unlisted.meanings();
        let place = |(client, trouble): &'a (IpAddr, Trouble)| {
            let key = match (trouble.key.cause, trouble.key.subject) {
                (_, Subject::Host(number)) => match meanings.get(&number)? {
                    Says::Need { number, category } => {
                        Key { category: *category, subject: Subject::Need(*number), ..trouble.key }
                    }
                    Says::Host { category } => Key { category: *category, ..trouble.key },
                },
                (Cause::DnsNxdomain, _) if unknown.contains(&trouble.target) => {
                    Key { cause: Cause::InstanceUnknown, ..trouble.key }
                }
                _ => trouble.key,
            };
            let is_over = self.quiet.get(&key).is_some_and(|ended| trouble.last <= *ended);
            (!is_over).then_some(Placed { key, client: *client, trouble })
        };
        tally.troubles.iter().filter_map(place).collect()
    }

    /// Whether there is a finding; opens and closes it.
    fn holds(&mut self, now: Second, key: Key, group: &Group, active: usize) -> bool {
        if now.saturating_sub(group.last) >= QUIET {
            if self.open.remove(&key).is_some() {
                self.quiet.insert(key, now);
            }
            return false;
        }
        match self.open.get_mut(&key) {
            None if group.opens(key, active) => {
                self.open.insert(key, Open::new(group.since()));
                true
            }
            None => false,
            Some(open) if group.keeps(key, active) => {
                open.below = None;
                true
            }
            Some(open) => {
                let below = *open.below.get_or_insert(now);
                let stays = now.saturating_sub(below) < LINGER;
                if !stays {
                    self.open.remove(&key);
                }
                stays
            }
        }
    }

    /// Ends what nobody fails of any more. Desks are judged apart.
    fn close(&mut self, now: Second, groups: &HashMap<Key, Group, RandomState>) {
        let quiet = &mut self.quiet;
        self.open.retain(|key, _| {
            let stays = key.cause == Cause::OneDesk || groups.contains_key(key);
            if !stays {
                quiet.insert(*key, now);
            }
            stays
        });
    }

    /// Clients in a retry loop, of failures that are no finding, while others are well.
    fn desks(
        &mut self,
        now: Second,
        groups: &HashMap<Key, Group, RandomState>,
        placed: &[Placed<'_>],
        findings: &mut Vec<Finding>,
        tally: &Tally,
    ) {
        let explained: HashSet<(IpAddr, Option<Category>)> = findings
            .iter()
            .flat_map(|f| {
                let category = if Kind::of(f.key.cause) == Kind::Limit { None } else { f.key.category };
                f.clients.iter().map(move |client| (*client, category))
            })
            .collect();
        let mut desks: HashMap<Option<Category>, Desks, RandomState> = HashMap::default();
        for (key, group) in groups {
            if !matches!(Kind::of(key.cause), Kind::Path | Kind::End) {
                continue;
            }
            for one in group.clients.iter().filter(|one| one.count >= LOOP) {
                let known = |category| explained.contains(&(one.client, category));
                if known(key.category) || known(None) || now.saturating_sub(one.last) >= QUIET {
                    continue;
                }
                desks.entry(key.category).or_default().add(key.cause, *one);
            }
        }
        let of = |category| Key { cause: Cause::OneDesk, category, subject: Subject::None };
        self.open.retain(|key, _| key.cause != Cause::OneDesk || desks.contains_key(&key.category));
        if tally.well.is_empty() {
            return;
        }
        for (category, desks) in desks {
            let key = of(category);
            let open = self.open.entry(key).or_insert_with(|| Open::new(desks.since()));
            open.by = desks.cause(open.by);
            let targets = open.by.map(|by| desks.targets((by, category), placed, tally));
            findings.push(Finding {
                key,
                source: Source::Clients,
                since: open.since,
                last: desks.last,
                active: tally.active,
                networks: desks.clients().take(8).map(Into::into).collect(),
                clients: desks.clients().collect(),
                targets: targets.unwrap_or_default(),
                lacks: None,
                by: open.by,
            });
        }
    }

    fn finding(&self, key: Key, group: &Group, tally: &Tally, unlisted: &Unlisted) -> Finding {
        let mut clients: Vec<IpAddr> = group.clients.iter().map(|one| one.client).collect();
        clients.sort_unstable();
        clients.dedup();
        let since = self.open.get(&key).map_or_else(|| group.since(), |open| open.since);
        let (targets, lacks) = match key.subject {
            Subject::Need(number) => (unlisted.hosts_of(number, TARGETS), unlisted.lack(number)),
            Subject::Host(number) => {
                let host = unlisted.host(number).map(str::to_owned);
                (host.clone().into_iter().collect(), host.map(Lack::Host))
            }
            Subject::None | Subject::Bound(_) => {
                let samples = tally.samples(single(key.cause), key.category);
                let theirs = samples.filter(|sample| group.has(sample.target));
                let last = theirs.max_by_key(|sample| (sample.at, &sample.name));
                (last.map(|sample| sample.name.to_string()).into_iter().collect(), None)
            }
        };
        Finding {
            key,
            source: Source::Clients,
            since,
            last: group.last,
            networks: networks::shared(&clients, &tally.well),
            clients,
            active: tally.active,
            targets,
            lacks,
            by: None,
        }
    }
}

/// Whether those whom it hits can't work: without sign-in, signalling or telecom there are no calls.
fn cuts_off(finding: &Finding) -> bool {
    let category = finding.key.category;
    let vital = [Category::Login, Category::Signalling, Category::Telecom].map(Some);
    Kind::of(finding.key.cause) != Kind::Foreign && vital.contains(&category)
}

/// Distinct clients for which something fails: by the network, by a limit, or by what a finding says
/// that the configuration lacks.
fn failing(groups: &HashMap<Key, Group, RandomState>, findings: &[Finding]) -> usize {
    let counts = |kind| matches!(kind, Kind::Path | Kind::End | Kind::Limit);
    let by_groups = groups
        .iter()
        .filter(|(key, _)| counts(Kind::of(key.cause)))
        .flat_map(|(_, group)| group.clients.iter().map(|one| one.client));
    let by_findings = findings
        .iter()
        .filter(|f| Kind::of(f.key.cause) != Kind::Foreign)
        .flat_map(|f| f.clients.iter().copied());
    by_groups.chain(by_findings).collect::<HashSet<IpAddr>>().len()
}
