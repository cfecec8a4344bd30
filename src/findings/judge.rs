//! From what is remembered of clients to findings. The thresholds that keep ordinary noise silent
//! are here: a proxy with hundreds of agents always has a tunnel that failed a minute ago.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::clients::{Tally, TargetHash, Trouble};
use super::unlisted::{Says, Unlisted};
use super::watch::Watch;
use super::{Finding, Key, Kind, LOOK_BACK, Lack, QUIET, Second, Source, State, Subject, networks};
use crate::cause::Cause;
use crate::outcome::Bound;
use crate::policy::Category;

/// Distinct clients that make a finding, where more do not have to.
const CLIENTS: usize = 3;
/// The same for something that the catalogue says is missing: two clients' browsers can't make up
/// the name of the same Region.
const CLIENTS_OF_A_NEED: usize = 2;
/// Failures of one client that make it a retry loop. Panels retry every 2 to 30 s.
const LOOP: u32 = 5;
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
/// A finding whose clients recover one by one lasts so long below its threshold.
const LINGER: Second = 60;
/// Targets that a finding names.
const TARGETS: usize = 3;

/// What holds, and since when. It remembers what it found, so that a finding doesn't come and go.
#[derive(Default)]
pub struct Judge {
    open: HashMap<Key, Open, RandomState>,
    /// Findings that ended because nothing failed any more; what failed before counts no longer.
    quiet: HashMap<Key, Second, RandomState>,
}

struct Open {
    since: Second,
    /// Since when too few clients fail.
    below: Option<Second>,
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub at: Second,
    pub findings: Vec<Finding>,
    /// Clients of the last ten minutes.
    pub active: usize,
    /// Of those, clients for which something fails, be it a finding or not.
    pub failing: usize,
    /// Distinct clients that findings hit in sign-in, signalling or telecom.
    pub cut_off: usize,
    /// The last round of the watch failed.
    pub watch_failed: bool,
}

impl Report {
    /// `failed` when over half of the active clients, and at least three, fail in sign-in, signalling
    /// or telecom, or when the last round of the watch failed; degraded while anything else holds.
    #[must_use]
    pub fn state(&self) -> State {
        match () {
            () if self.watch_failed => State::Failed,
            () if self.cut_off >= CLIENTS && self.cut_off * 2 > self.active => State::Failed,
            () if !self.findings.is_empty() => State::Degraded,
            () => State::Ok,
        }
    }
}

impl Report {
    /// Adds what the watch finds.
    pub fn add(&mut self, watch: &Watch) {
        self.watch_failed = watch.failed();
        self.add_all(watch.findings(self.active));
    }

    /// Adds what others find. What clients tell of already is told once.
    pub fn add_all(&mut self, findings: impl Iterator<Item = Finding>) {
        for finding in findings {
            let same = |known: &Finding| {
                (known.key.cause, known.key.category) == (finding.key.cause, finding.key.category)
            };
            if !self.findings.iter().any(same) {
                self.findings.push(finding);
            }
        }
    }
}

impl Report {
    /// An instance's own name that doesn't exist, while other names resolve: not DNS is at fault then,
    /// but the alias. `is_own` says which hosts are such names.
    pub fn name_instances(&mut self, tally: &Tally, is_own: impl Fn(&str) -> bool) {
        for finding in self.findings.iter_mut().filter(|f| f.key.cause == Cause::DnsNxdomain) {
            let host =
                |target: &String| target.rsplit_once(':').map_or(target.clone(), |(host, _)| host.into());
            if !tally.well.is_empty() && finding.targets.iter().any(|target| is_own(&host(target))) {
                finding.key.cause = Cause::InstanceUnknown;
            }
        }
    }
}

/// The clients of one key.
#[derive(Default)]
struct Group {
    clients: Vec<One>,
    /// Clients by target, of those with which nobody succeeded since.
    by_target: HashMap<TargetHash, usize, RandomState>,
    last: Second,
}

/// One client of a group.
#[derive(Clone, Copy)]
struct One {
    client: IpAddr,
    first: Second,
    last: Second,
    count: u32,
    /// Nobody succeeded with what fails for it, since it failed last.
    stands: bool,
}

impl Group {
    /// `worked`: when somebody last succeeded with the same target.
    fn add(&mut self, client: IpAddr, trouble: &Trouble, worked: Option<Second>) {
        let Trouble { target, first, last, count, .. } = *trouble;
        self.last = self.last.max(last);
        let stands = worked.is_none_or(|worked| worked <= last);
        if stands {
            *self.by_target.entry(target).or_default() += 1;
        }
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

    fn len(&self) -> usize {
        self.clients.len()
    }

    fn all(&self) -> u64 {
        self.clients.iter().map(|one| u64::from(one.count)).sum()
    }

    fn since(&self) -> Second {
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

    /// Whether it is enough for a finding, or at half the thresholds for one that there is.
    fn is_enough(&self, key: Key, active: usize, held: bool) -> bool {
        let needed = |percent: usize| CLIENTS.max((active * percent).div_ceil(100));
        // Those that failed more than once.
        let again = || self.clients.iter().filter(|one| one.count > 1).count();
        let many = |percent: usize| match held {
            true => self.len() >= needed(percent).div_ceil(2),
            false => self.at_once().max(again()) >= needed(percent),
        };
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
            Kind::Denial => self.len() >= needed(HOST_PERCENT),
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

impl Judge {
    /// What holds at `now`.
    pub fn judge(&mut self, now: Second, tally: &Tally, unlisted: &Unlisted) -> Report {
        self.quiet.retain(|_, ended| now.saturating_sub(*ended) < LOOK_BACK);
        let groups = self.groups(tally, unlisted);
        self.close(now, &groups);
        let mut findings = Vec::new();
        for (key, group) in &groups {
            if self.holds(now, *key, group, tally.active) {
                findings.push(self.finding(*key, group, tally, unlisted));
            }
        }
        self.desks(now, &groups, &mut findings, tally);
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

    /// What failed, by what it is about.
    fn groups(&self, tally: &Tally, unlisted: &Unlisted) -> HashMap<Key, Group, RandomState> {
        let meanings = unlisted.meanings();
        let mut groups: HashMap<Key, Group, RandomState> = HashMap::default();
        for (client, trouble) in &tally.troubles {
            let key = match trouble.key.subject {
                Subject::Host(number) => match meanings.get(&number) {
                    Some(Says::Need { number, category }) => {
                        Key { category: *category, subject: Subject::Need(*number), ..trouble.key }
                    }
                    Some(Says::Host { category }) => Key { category: *category, ..trouble.key },
                    None => continue,
                },
                _ => trouble.key,
            };
            if self.quiet.get(&key).is_some_and(|ended| trouble.last <= *ended) {
                continue;
            }
            let worked = tally.worked.get(&trouble.target).copied();
            groups.entry(key).or_default().add(*client, trouble, worked);
        }
        groups
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
            None if group.is_enough(key, active, false) => {
                self.open.insert(key, Open { since: group.since(), below: None });
                true
            }
            None => false,
            Some(open) if group.is_enough(key, active, true) => {
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
        let mut desks: HashMap<Option<Category>, Group, RandomState> = HashMap::default();
        let mut causes: HashMap<Option<Category>, Cause, RandomState> = HashMap::default();
        for (key, group) in groups {
            if !matches!(Kind::of(key.cause), Kind::Path | Kind::End) {
                continue;
            }
            for one in group.clients.iter().filter(|one| one.count >= LOOP) {
                let known = |category| explained.contains(&(one.client, category));
                if known(key.category) || known(None) || now.saturating_sub(one.last) >= QUIET {
                    continue;
                }
                let desk = desks.entry(key.category).or_default();
                desk.last = desk.last.max(one.last);
                desk.clients.push(*one);
                causes.entry(key.category).or_insert(key.cause);
            }
        }
        let of = |category| Key { cause: Cause::OneDesk, category, subject: Subject::None };
        self.open.retain(|key, _| key.cause != Cause::OneDesk || desks.contains_key(&key.category));
        if tally.well.is_empty() {
            return;
        }
        for (category, mut group) in desks {
            group.clients.sort_by_key(|one| one.client);
            group.clients.dedup_by_key(|one| one.client);
            let key = of(category);
            let since = self.open.entry(key).or_insert(Open { since: group.since(), below: None }).since;
            let sample = causes.get(&category).and_then(|cause| tally.samples.get(&(*cause, category)));
            findings.push(Finding {
                key,
                source: Source::Clients,
                since,
                last: group.last,
                active: tally.active,
                networks: group.clients.iter().take(8).map(|one| one.client.into()).collect(),
                clients: group.clients.iter().map(|one| one.client).collect(),
                targets: sample.map(|sample| sample.target.to_string()).into_iter().collect(),
                lacks: None,
            });
        }
    }

    fn finding(&self, key: Key, group: &Group, tally: &Tally, unlisted: &Unlisted) -> Finding {
        let mut clients: Vec<IpAddr> = group.clients.iter().map(|one| one.client).collect();
        clients.sort_unstable();
        clients.dedup();
        let since = self.open.get(&key).map_or_else(|| group.since(), |open| open.since);
        let (targets, lacks) = match key.subject {
            Subject::Need(number) => (unlisted.hosts_of(number, TARGETS), unlisted.need(number)),
            Subject::Host(number) => {
                let host = unlisted.host(number).map(str::to_owned);
                (host.clone().into_iter().collect(), host.map(Lack::Host))
            }
            Subject::None | Subject::Bound(_) => {
                let sample = tally.samples.get(&(key.cause, key.category));
                (sample.map(|sample| sample.target.to_string()).into_iter().collect(), None)
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
