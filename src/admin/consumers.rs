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
pub(super) struct Consumers {
    known: BTreeMap<Key, Consumer>,
    /// Whether somebody asked since it was last written down.
    pub changed: bool,
}

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
        self.known.iter()
    }

    /// The content of a list that somebody holds and that has these entries.
    pub(super) fn held(&self, list: &Fetched, entries: &[String]) -> Option<Arc<Content>> {
        let all = self.known.values().filter_map(|consumer| consumer.fetched.get(list.name)?.held.as_ref());
        all.filter(|content| content.entries == entries).max_by_key(|content| content.since).cloned()
    }

    /// Remembers a request; `held` is what the consumer has after it.
    pub(super) fn asked(&mut self, who: Who, list: &Fetched, held: Option<&Arc<Content>>, at: Timestamp) {
        let fetch = self.consumer(who, at).fetched.entry(list.name).or_insert(Fetch { at, held: None });
        fetch.at = at;
        if let Some(held) = held {
            fetch.held = Some(held.clone());
        }
        self.changed = true;
    }

    /// Takes in what was known of a request before; what is known by now and is newer stays.
    pub(super) fn knew(&mut self, who: Who, list: &Fetched, fetch: Fetch) {
        let consumer = self.consumer(who, fetch.at);
        match consumer.fetched.get(list.name) {
            Some(known) if known.at >= fetch.at => {}
            _ => drop(consumer.fetched.insert(list.name, fetch)),
        }
    }

    /// The consumer that asked at this moment.
    fn consumer(&mut self, who: Who, at: Timestamp) -> &mut Consumer {
        let Who { address, user, agent } = who;
        let key = (user, address);
        if self.known.len() >= MOST && !self.known.contains_key(&key) {
            let oldest = self.known.iter().min_by_key(|(_, consumer)| consumer.last);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.known.remove(&key);
            }
        }
        let consumer = self.known.entry(key).or_insert_with(|| Consumer {
            agent: String::new(),
            last: at,
            fetched: BTreeMap::new(),
        });
        if consumer.last <= at {
            (consumer.agent, consumer.last) = (agent, at);
        }
        consumer
    }
}

/// What is on a list. Kept for as long as somebody holds it.
pub(super) struct Content {
    pub entries: Vec<String>,
    /// When they were first on it, as far as is known.
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
