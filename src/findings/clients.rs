//! What is remembered of each client: when it was last seen, how many tunnels it has, and what fails
//! for it. Memory is bounded, whoever comes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{Key, Kind, LOOK_BACK, Second};
use crate::cause::Cause;
use crate::policy::Category;

/// Different failures that are remembered of one client. Beyond them the oldest is forgotten.
const TROUBLES: usize = 8;

/// A success soon after a limit was met says only that another tunnel ended.
const LIMIT_STAYS: Second = 10;

/// Target and port, as a number: names would take the memory.
pub type TargetHash = u32;

/// A share of all clients; which share is its owner's to say.
pub struct Clients {
    all: HashMap<IpAddr, Client, RandomState>,
    capacity: usize,
    /// Targets that fail for somebody, and when somebody last succeeded with them.
    watched: HashMap<TargetHash, Option<Second>, RandomState>,
    samples: Samples,
}

/// The targets that failed last, of each kind of failure a few, for the words: bounded by causes and categories.
type Samples = HashMap<(Cause, Option<Category>), Vec<Sample>, RandomState>;

/// Targets of each kind whose names are remembered.
const SAMPLES: usize = 8;

/// A target that failed, to be shown.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Second,
    pub target: TargetHash,
    pub name: Box<str>,
}

#[derive(Default)]
struct Client {
    seen: Second,
    /// Its last tunnel that came about.
    succeeded: Option<Second>,
    live: u32,
    troubles: Vec<Trouble>,
}

/// Something that fails for a client, and did not succeed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub key: Key,
    pub target: TargetHash,
    pub first: Second,
    pub last: Second,
    /// How often.
    pub count: u32,
}

/// What a look at all shares found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Clients seen in the last ten minutes, or with a live tunnel.
    pub active: usize,
    /// All troubles of the last ten minutes, client by client.
    pub troubles: Vec<(IpAddr, Trouble)>,
    /// A bounded number of clients that have a tunnel or had a success, and that the network fails
    /// nowhere.
    pub well: Vec<IpAddr>,
    /// When somebody last succeeded with any target, of those who have a tunnel or did so lately.
    pub succeeded: Option<Second>,
    /// When somebody last succeeded with a target that is watched.
    pub worked: HashMap<TargetHash, Second, RandomState>,
    samples: Samples,
}

impl Tally {
    /// Targets that aren't reached, for [`Clients::watch`].
    #[must_use]
    pub fn suspects(&self) -> HashSet<TargetHash, RandomState> {
        let path = self.troubles.iter().filter(|(_, trouble)| Kind::of(trouble.key.cause) == Kind::Path);
        path.map(|(_, trouble)| trouble.target).take(SUSPECTS).collect()
    }

    /// The targets that failed last for this cause, as far as their names are remembered: of each shard a few.
    pub fn samples(&self, cause: Cause, category: Option<Category>) -> impl Iterator<Item = &Sample> {
        self.samples.get(&(cause, category)).into_iter().flatten()
    }
}

/// Targets that are watched at most.
const SUSPECTS: usize = 1000;
/// Clients that are well and told to the judge, at most.
const WELL: usize = 20_000;

impl Clients {
    /// For so many clients at most.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { all: HashMap::default(), capacity, watched: HashMap::default(), samples: HashMap::default() }
    }

    /// A tunnel of the client stands.
    pub fn began(&mut self, now: Second, client: IpAddr, target: impl Fn() -> TargetHash) {
        let mut number = None;
        let mut target = || *number.get_or_insert_with(&target);
        if !self.watched.is_empty()
            && let Some(worked) = self.watched.get_mut(&target())
        {
            *worked = Some(now);
        }
        let Some(entry) = self.entry(client) else { return };
        entry.seen = now;
        entry.succeeded = Some(now);
        entry.live += 1;
        if !entry.troubles.is_empty() {
            let target = target();
            entry.troubles.retain(|trouble| match Kind::of(trouble.key.cause) {
                Kind::Path | Kind::Denial => trouble.target != target,
                Kind::Limit => now.saturating_sub(trouble.last) < LIMIT_STAYS,
                Kind::End | Kind::Foreign => true,
            });
        }
    }

    /// A tunnel has ended. `well`: by one of its ends, after it had been of use.
    pub fn ended(&mut self, now: Second, client: IpAddr, well: bool, target: impl FnOnce() -> TargetHash) {
        let Some(entry) = self.entry(client) else { return };
        entry.seen = now;
        entry.live = entry.live.saturating_sub(1);
        if well && !entry.troubles.is_empty() {
            let target = target();
            entry.troubles.retain(|t| Kind::of(t.key.cause) != Kind::End || t.target != target);
        }
    }

    /// Something failed for the client.
    pub fn failed(&mut self, now: Second, client: IpAddr, key: Key, target: TargetHash, shown: &str) {
        // A denied host has its name elsewhere.
        if !shown.is_empty() && Kind::of(key.cause) != Kind::Denial {
            self.sample(now, key, target, shown);
        }
        let Some(entry) = self.entry(client) else { return };
        entry.seen = now;
        let known = entry.troubles.iter_mut().find(|t| t.key == key && t.target == target);
        if let Some(trouble) = known {
            trouble.last = now;
            trouble.count = trouble.count.saturating_add(1);
            return;
        }
        if entry.troubles.len() == TROUBLES
            && let Some(oldest) = (0..TROUBLES).min_by_key(|at| entry.troubles[*at].last)
        {
            entry.troubles.swap_remove(oldest);
        }
        entry.troubles.push(Trouble { key, target, first: now, last: now, count: 1 });
    }

    fn sample(&mut self, at: Second, key: Key, target: TargetHash, shown: &str) {
        let samples = self.samples.entry((key.cause, key.category)).or_default();
        let known = samples.iter_mut().find(|known| known.target == target && *known.name == *shown);
        if let Some(known) = known {
            known.at = at;
            return;
        }
        let sample = Sample { at, target, name: shown.into() };
        let is_full = samples.len() >= SAMPLES;
        match samples.iter_mut().min_by_key(|known| known.at) {
            Some(oldest) if is_full => *oldest = sample,
            _ => samples.push(sample),
        }
    }

    /// Notes from now on who succeeds with these targets, and with no others.
    pub fn watch(&mut self, targets: &HashSet<TargetHash, RandomState>) {
        self.watched.retain(|target, _| targets.contains(target));
        for target in targets {
            self.watched.entry(*target).or_default();
        }
    }

    /// The entry of a client; none for a newcomer when all places are taken by clients that have a
    /// tunnel or trouble.
    fn entry(&mut self, client: IpAddr) -> Option<&mut Client> {
        if self.all.len() >= self.capacity && !self.all.contains_key(&client) {
            let idle = self.all.iter().find(|(_, known)| known.live == 0 && known.troubles.is_empty());
            let idle = idle.map(|(client, _)| *client)?;
            self.all.remove(&idle);
        }
        Some(self.all.entry(client).or_default())
    }

    /// Forgets what is over, and adds what there is to `tally`.
    pub fn tally(&mut self, now: Second, tally: &mut Tally) {
        let over = |last: Second| now.saturating_sub(last) >= LOOK_BACK;
        self.all.retain(|_, client| client.live > 0 || !over(client.seen));
        self.samples.retain(|_, samples| {
            samples.retain(|sample| !over(sample.at));
            !samples.is_empty()
        });
        tally.active += self.all.len();
        for (address, client) in &mut self.all {
            client.troubles.retain(|trouble| !over(trouble.last));
            if client.troubles.capacity() > 0 && client.troubles.is_empty() {
                client.troubles = Vec::new();
            }
            let works = client.live > 0 || client.succeeded.is_some_and(|at| !over(at));
            if works {
                tally.succeeded = tally.succeeded.max(client.succeeded);
            }
            let by_network = |t: &Trouble| matches!(Kind::of(t.key.cause), Kind::Path | Kind::End);
            if works && tally.well.len() < WELL && !client.troubles.iter().any(by_network) {
                tally.well.push(*address);
            }
            tally.troubles.extend(client.troubles.iter().map(|trouble| (*address, *trouble)));
        }
        for (target, worked) in &self.watched {
            if let Some(worked) = worked {
                let known = tally.worked.entry(*target).or_default();
                *known = (*known).max(*worked);
            }
        }
        for (key, samples) in &self.samples {
            tally.samples.entry(*key).or_default().extend_from_slice(samples);
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
