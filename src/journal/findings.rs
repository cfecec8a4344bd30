//! The journal's side of findings: takes in ends and denials on the data path, under one short lock
//! of many, and judges them aside, once a second and whenever somebody asks.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::sync::watch;

use super::access::{Asked, Event};
use super::metrics::NO_RULE;
use crate::catalogue::{Choice, is_own_name};
use crate::cause::Cause;
use crate::findings::change::{Change, Changes, without_clients};
use crate::findings::clients::{Clients, Tally};
use crate::findings::judge::Judge;
use crate::findings::report::Report;
use crate::findings::standing::{Standing, Standings};
use crate::findings::unlisted::{Answers, Questions, Unlisted};
use crate::findings::watch::{Round, Watch};
use crate::findings::{Finding, Key, Second, State, Subject, networks, words};
use crate::lock::lock;
use crate::outcome::{Denial, Fault, Outcome};
use crate::policy::Category;
use crate::target::{Host, Target};

const SHARDS: usize = 16;
/// Clients that are remembered. About 100 bytes for each, and 300 for one whose requests fail in
/// eight different ways.
const CLIENTS: usize = 50_000;

/// What the process knows of its clients, and what it makes of it.
pub(crate) struct Findings {
    started: Instant,
    keys: RandomState,
    clients: [Mutex<Clients>; SHARDS],
    unlisted: Mutex<Unlisted>,
    judge: Mutex<Looked>,
    changes: Mutex<Changes>,
    /// Nothing while the watch is off.
    watch: Mutex<Option<Watch>>,
    standings: Mutex<Standings>,
    news: watch::Sender<u64>,
}

/// What the last look found.
struct Looked {
    judge: Judge,
    held: BTreeMap<Key, Second>,
    state: State,
}

impl Default for Findings {
    fn default() -> Self {
        let mut changes = Changes::default();
        changes.note(0, Change::Started(crate::VERSION));
        Self {
            started: Instant::now(),
            keys: RandomState::default(),
            clients: std::array::from_fn(|_| Mutex::new(Clients::new(CLIENTS / SHARDS))),
            unlisted: Mutex::default(),
            judge: Mutex::new(Looked { judge: Judge::default(), held: BTreeMap::new(), state: State::Ok }),
            changes: Mutex::new(changes),
            watch: Mutex::default(),
            standings: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }
}

impl Findings {
    /// Seconds since the start.
    pub(crate) fn now(&self) -> Second {
        self.second(Instant::now())
    }

    fn second(&self, moment: Instant) -> Second {
        let since = moment.saturating_duration_since(self.started);
        Second::try_from(since.as_secs()).unwrap_or(Second::MAX)
    }

    /// When that was.
    pub(crate) fn time(&self, second: Second) -> Timestamp {
        let ago = self.started.elapsed().saturating_sub(Duration::from_secs(second.into()));
        let time = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        let time = Timestamp::try_from(time).unwrap_or_default();
        time.round(jiff::Unit::Second).unwrap_or(time)
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Clients> {
        lock(&self.clients[self.keys.hash_one(client) as usize % SHARDS])
    }

    fn number(&self, target: &Target) -> u32 {
        self.keys.hash_one(target) as u32
    }

    pub(super) fn began(&self, event: &Event<'_>) {
        let Some(Asked::Target(target)) = &event.target else { return };
        let (now, client) = (self.second(event.moment), event.client.ip());
        self.shard(client).began(now, client, || self.number(target));
    }

    pub(super) fn ended(&self, event: &Event<'_>) {
        let (Some(Asked::Target(target)), Some(outcome)) = (&event.target, event.outcome) else { return };
        let (now, client) = (self.second(event.moment), event.client.ip());
        // Before the dial was over the client has left: that says nothing.
        if event.live {
            let well = matches!(outcome, Outcome::Ok | Outcome::ClientReset) && event.received > 0;
            self.shard(client).ended(now, client, well, || self.number(target));
        }
        self.failed(event, now);
    }

    pub(super) fn denied(&self, event: &Event<'_>) {
        let now = self.second(event.moment);
        let Some(Denial::NoRule) = event.reason else { return self.failed(event, now) };
        let Some(Asked::Target(target @ Target { host: Host::Name(host), .. })) = &event.target else {
            return;
        };
        let client = event.client.ip();
        let number = lock(&self.unlisted).denied(now, client, host);
        let key = Key { cause: Cause::NotConfigured, category: None, subject: Subject::Host(number) };
        self.shard(client).failed(now, client, key, self.number(target), host);
    }

    /// Somebody met a limit before anything was known but the address.
    pub(super) fn limited(&self, client: IpAddr, fault: Fault) {
        let subject = fault.bound.map_or(Subject::None, Subject::Bound);
        let key = Key { cause: fault.cause, category: None, subject };
        self.shard(client).failed(self.now(), client, key, 0, "");
    }

    fn failed(&self, event: &Event<'_>, now: Second) {
        let Some(fault) = event.cause else { return };
        let client = event.client.ip();
        let key = Key {
            cause: fault.cause,
            category: event.traffic,
            subject: fault.bound.map_or(Subject::None, Subject::Bound),
        };
        let number = match &event.target {
            Some(Asked::Target(target)) => self.number(target),
            Some(Asked::Text(_)) | None => 0,
        };
        let shown = event.target.map(Asked::short).unwrap_or_default();
        self.shard(client).failed(now, client, key, number, &shown);
    }

    /// Something changed that may be asked for when something fails.
    pub(crate) fn changed(&self, change: Change) {
        if matches!(change, Change::Reloaded(_)) {
            lock(&self.unlisted).reloaded();
        }
        lock(&self.changes).note(self.now(), change);
    }

    /// The watch is on, or off: then what it found is forgotten.
    pub(crate) fn watch(&self, on: bool) {
        let mut watch = lock(&self.watch);
        match on {
            true => _ = watch.get_or_insert_default(),
            false => *watch = None,
        }
    }

    /// A round of the watch is over. What it found is logged when its verdict is another one.
    pub(crate) fn watched(&self, round: Round) {
        let now = self.now();
        let mut watch = lock(&self.watch);
        let watch = watch.get_or_insert_default();
        let before = watch.last().map(|(_, round)| round.verdict);
        let (verdict, summary) = (round.verdict, round.summary.clone());
        let changes = watch.round(now, round);
        if before != Some(verdict) {
            let verdict = verdict.into_str();
            if verdict == "ok" {
                tracing::info!(event = "watch", verdict, "{summary}");
            } else {
                tracing::warn!(event = "watch", verdict, "{summary}");
            }
        }
        for change in changes {
            lock(&self.changes).note(now, change);
        }
        self.news.send_modify(|version| *version += 1);
    }

    /// What the process itself finds wrong now, all of it.
    pub(crate) fn stand(&self, all: Vec<Standing>) {
        lock(&self.standings).set(self.now(), all);
    }

    /// What the watch knows, in its words; nothing while it is off.
    pub(crate) fn with_watch<T>(&self, tell: impl FnOnce(&Watch) -> T) -> Option<T> {
        lock(&self.watch).as_ref().map(tell)
    }

    /// What the configuration in force is to be asked before a look, about hosts that were denied. It is read
    /// after this.
    pub(crate) fn ask(&self) -> Questions {
        lock(&self.unlisted).ask()
    }

    /// What holds now, with what the configuration answered. What came and went since the last look is logged,
    /// once. `anonymise`: no address is logged.
    pub(super) fn look(&self, answers: Answers, choice: &Choice, anonymise: bool) -> Report {
        // Held throughout, so that two who ask at once don't log the same thing twice.
        let mut judge = lock(&self.judge);
        let now = self.now();
        let mut tally = Tally::default();
        for shard in &self.clients {
            lock(shard).tally(now, &mut tally);
        }
        let suspects = tally.suspects();
        self.clients.iter().for_each(|shard| lock(shard).watch(&suspects));
        let mut unlisted = lock(&self.unlisted);
        unlisted.learn(answers);
        let is_own = |host: &str| is_own_name(choice, host);
        let mut report = judge.judge.judge(now, &tally, &unlisted, is_own);
        drop(unlisted);
        if let Some(watch) = &*lock(&self.watch) {
            report.add(watch);
        }
        report.add_all(lock(&self.standings).findings(now, tally.active));
        self.announce(&mut judge, &report, anonymise);
        report
    }

    fn announce(&self, last: &mut Looked, report: &Report, anonymise: bool) {
        let mut now = BTreeMap::new();
        for finding in &report.findings {
            now.insert(finding.key, finding.since);
            if !last.held.contains_key(&finding.key) {
                self.found(finding, anonymise);
            }
        }
        let news = now != last.held || report.state() != last.state;
        for (key, since) in std::mem::replace(&mut last.held, now) {
            if !last.held.contains_key(&key) {
                over(key, &self.time(since).to_string());
            }
        }
        last.state = report.state();
        if news {
            self.news.send_modify(|version| *version += 1);
        }
    }

    fn found(&self, finding: &Finding, anonymise: bool) {
        let about = finding.key.cause.about();
        let networks = networks::shown(&finding.networks, anonymise);
        let networks = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::warn!(
            event = "finding",
            cause = finding.key.cause.as_str(),
            category = finding.key.category.map_or(NO_RULE, Category::as_str),
            owner = about.owner.as_str(),
            since = %self.time(finding.since),
            clients_failing = finding.clients.len(),
            clients_active = finding.active,
            networks = %networks,
            targets = %finding.targets.join(" "),
            "{}: {}",
            about.definition,
            words::remedy(finding),
        );
    }

    /// Changes whenever a finding comes or goes.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// What changed since a moment: when, what kind of change, and in words; oldest first. `anonymise`: without a
    /// client's whole address.
    pub(crate) fn changes_since(
        &self,
        since: Second,
        anonymise: bool,
    ) -> Vec<(Timestamp, &'static str, String)> {
        let changes = lock(&self.changes);
        let told =
            |(at, change): &(Second, Change)| (self.time(*at), change.kind(), shown(change, anonymise));
        changes.all().filter(|(at, _)| *at >= since).map(told).collect()
    }

    /// What changed just before a moment, in words, oldest first. `anonymise`: as there.
    pub(crate) fn just_before(&self, since: Second, anonymise: bool) -> Vec<String> {
        let changes = lock(&self.changes);
        let told = |(at, change): &(Second, Change)| {
            format!("{} {}", clock(self.time(*at)), shown(change, anonymise))
        };
        changes.just_before(since).map(told).collect()
    }
}

fn shown(change: &Change, anonymise: bool) -> String {
    let told = change.to_string();
    if anonymise { without_clients(&told) } else { told }
}

fn over(key: Key, since: &str) {
    tracing::info!(
        event = "finding_over",
        cause = key.cause.as_str(),
        category = key.category.map_or(NO_RULE, Category::as_str),
        owner = key.cause.about().owner.as_str(),
        since,
        "it is over: what failed works again, or nothing failed any more"
    );
}

/// The time of day, in UTC.
fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%S UTC").to_string()
}
