//! Who fetched which list, and when: a firewall that still holds an old one is found before the day on
//! which AWS uses what it lacks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::export::edl::Fetched;
use crate::ranges::day;

/// How many consumers are remembered; the one that asked longest ago goes first.
const MOST: usize = 256;
/// Characters of what a consumer calls itself.
const LONGEST: usize = 100;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Who {
    address: IpAddr,
    user: Option<String>,
    agent: String,
}

impl Who {
    pub(super) fn new(address: IpAddr, user: Option<String>, agent: &str) -> Self {
        let agent = agent.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        Self { address: address.to_canonical(), user, agent }
    }
}

/// A user's name, where one was asked for, and the address.
type Key = (Option<String>, IpAddr);

#[derive(Default)]
pub(super) struct Consumers(BTreeMap<Key, Consumer>);

pub(super) struct Consumer {
    pub agent: String,
    last: Timestamp,
    /// By the name of the list.
    pub fetched: BTreeMap<&'static str, Fetch>,
}

/// The last request for a list.
pub(super) struct Fetch {
    pub at: Timestamp,
    /// The last list that was given, if ever one was.
    pub held: Option<Arc<Content>>,
}

impl Consumers {
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Consumer)> {
        self.0.iter()
    }

    /// Remembers a request; `held` is what the consumer has after it.
    pub(super) fn asked(&mut self, who: Who, list: &Fetched, held: Option<&Arc<Content>>, at: Timestamp) {
        let Who { address, user, agent } = who;
        let key = (user, address);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, consumer)| consumer.last);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.0.remove(&key);
            }
        }
        let consumer = self.0.entry(key).or_insert_with(|| Consumer {
            agent: String::new(),
            last: at,
            fetched: BTreeMap::new(),
        });
        (consumer.agent, consumer.last) = (agent, at);
        let fetch = consumer.fetched.entry(list.name).or_insert(Fetch { at, held: None });
        fetch.at = at;
        if let Some(held) = held {
            fetch.held = Some(held.clone());
        }
    }
}

/// What is on a list. Kept for as long as somebody holds it.
pub(super) struct Content {
    pub entries: Vec<String>,
    /// When they were first on it, by this process.
    pub since: Timestamp,
    /// When AWS made the first version with these entries; none for names.
    pub first: Option<Timestamp>,
    /// The same of the last one so far, in seconds since 1970.
    last: AtomicI64,
    /// The regions whose prefixes it has.
    pub regions: Vec<String>,
}

impl Content {
    /// `made`: when AWS made the version.
    pub(super) fn new(
        entries: Vec<String>,
        since: Timestamp,
        made: Option<Timestamp>,
        regions: Vec<String>,
    ) -> Self {
        let last = AtomicI64::new(made.map_or(0, Timestamp::as_second));
        Self { entries, since, first: made, last, regions }
    }

    /// A later version has the same entries.
    pub(super) fn is_also_of(&self, made: Option<Timestamp>) {
        if let Some(made) = made {
            self.last.fetch_max(made.as_second(), Ordering::Relaxed);
        }
    }

    /// When AWS made the last version with these entries, so far.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.first.and_then(|_| Timestamp::from_second(self.last.load(Ordering::Relaxed)).ok())
    }

    /// The day by which people call it.
    pub(super) fn day(&self) -> Date {
        day(self.first.unwrap_or(self.since))
    }
}
