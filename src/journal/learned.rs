//! Which hosts agents used under rules that are open to any AWS customer: what could stand in
//! `[[allow]]` in such a rule's place.

use std::collections::HashMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;

use super::distinct::Distinct;
use super::ledger::{Ledger, Seat};
use super::recent::Recent;
use crate::lock::lock;
use crate::target::Host;

/// So many hosts and rules are known; of more, those that were used longest ago are forgotten.
pub(crate) const MOST: usize = 1000;
/// So many ports of a host are known.
const PORTS: usize = 8;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    host: Host,
    rule: Box<str>,
}

impl Key {
    fn of(seat: &Seat) -> Self {
        Self { host: seat.target.host.clone(), rule: seat.labels.domain.clone() }
    }
}

struct Entry {
    category: &'static str,
    ports: Vec<u16>,
    clients: Distinct,
    first: Timestamp,
    last: Timestamp,
    /// Of tunnels that have ended.
    bytes: [u64; 2],
}

/// One host that was used under such a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    pub host: String,
    pub rule: String,
    pub category: &'static str,
    pub ports: Vec<u16>,
    pub clients: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub sent: u64,
    pub received: u64,
}

/// The hosts of late.
pub(crate) struct Hosts {
    entries: Mutex<Recent<Key, Entry>>,
    keys: RandomState,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { entries: Mutex::new(Recent::new(MOST)), keys: RandomState::new() }
    }
}

impl Hosts {
    /// A tunnel begins.
    pub(super) fn began(&self, seat: &Seat, client: IpAddr, at: Timestamp) {
        if !seat.shared {
            return;
        }
        let new = || Entry {
            category: seat.labels.category,
            ports: Vec::new(),
            clients: Distinct::default(),
            first: at,
            last: at,
            bytes: [0; 2],
        };
        let mut entries = self.lock();
        let entry = entries.touch(Key::of(seat), new);
        entry.last = at;
        entry.clients.add(client, &self.keys);
        if entry.ports.len() < PORTS && !entry.ports.contains(&seat.target.port) {
            entry.ports.push(seat.target.port);
        }
    }

    /// It has ended, and moved this much.
    pub(super) fn ended(&self, seat: &Seat, sent: u64, received: u64, at: Timestamp) {
        if !seat.shared {
            return;
        }
        // A host that was forgotten meanwhile stays so: an end is no use of it.
        if let Some(entry) = self.lock().get_mut(&Key::of(seat)) {
            entry.last = at;
            entry.bytes = add(entry.bytes, [sent, received]);
        }
    }

    /// All that are known, the last one first; with what live tunnels have moved by now.
    pub(crate) fn all(&self, ledger: &Ledger) -> Vec<Learned> {
        let mut live: HashMap<Key, [u64; 2]> = HashMap::new();
        for seat in ledger.live(|seat| seat.shared, usize::MAX).items {
            let sum = live.entry(Key::of(&seat)).or_default();
            *sum = add(*sum, seat.bytes());
        }
        let entries = self.lock();
        let shown = |(key, entry): (&Key, &Entry)| {
            let mut ports = entry.ports.clone();
            ports.sort_unstable();
            let [sent, received] = add(entry.bytes, live.get(key).copied().unwrap_or_default());
            Learned {
                host: key.host.to_string(),
                rule: key.rule.to_string(),
                category: entry.category,
                ports,
                clients: entry.clients.count(),
                first: entry.first,
                last: entry.last,
                sent,
                received,
            }
        };
        entries.iter().map(shown).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Key, Entry>> {
        lock(&self.entries)
    }
}

fn add(a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    [a[0].saturating_add(b[0]), a[1].saturating_add(b[1])]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::super::id::RequestId;
    use super::super::ledger::{Ended, Settings};
    use super::super::metrics::Metrics;
    use super::super::metrics::rules::Labels;
    use super::*;
    use crate::outcome::{EndedBy, Outcome};
    use crate::policy::{Category, Pattern, Rule};
    use crate::target::Target;

    fn labels(pattern: &str) -> Arc<Labels> {
        let rule = Rule::added(Pattern::parse(pattern).unwrap(), vec![443], Category::Static);
        Metrics::new().rule(&rule).labels.clone()
    }

    #[test]
    fn hosts_under_shared_rules_are_learned_with_what_they_moved() {
        let (ledger, hosts) = (Ledger::default(), Hosts::default());
        ledger.configure(&Settings { ended: 1, keep: Duration::from_secs(60), anonymise: false });
        let shared = (labels("*.cloudfront.net"), true);
        let own = (labels("acme.my.connect.aws"), false);
        let mut number = 0;
        let mut begin = |host: &str, client: u8, rule: &(Arc<Labels>, bool)| {
            number += 1;
            let target = Target::parse_authority(host.as_bytes()).unwrap();
            let client = std::net::SocketAddr::from(([10, 0, 0, client], 1));
            let seat = Seat::new(RequestId(number), client, target, rule.clone(), Instant::now());
            let mut seat = Arc::new(seat);
            ledger.begins(&mut seat, None, Timestamp::now());
            hosts.began(&seat, client.ip(), Timestamp::now());
            seat
        };
        let first = begin("d1.cloudfront.net:443", 1, &shared);
        let second = begin("d1.cloudfront.net:8443", 2, &shared);
        begin("acme.my.connect.aws:443", 1, &own).has_moved(9, 9);
        let third = begin("d2.cloudfront.net:443", 1, &shared);
        first.has_moved(1, 10);
        second.has_moved(2, 20);
        third.has_moved(5, 5);
        let at = Timestamp::now();
        hosts.ended(&first, 1, 10, at);
        let (outcome, by, lived) = (Outcome::Ok, EndedBy::Client, Duration::ZERO);
        ledger.ends(Ended { seat: first, at, outcome, by, lived, idle: 0 });
        let all = hosts.all(&ledger);
        let shown: Vec<_> =
            all.iter().map(|l| (l.host.as_str(), l.clients, &l.ports[..], l.sent, l.received)).collect();
        assert_eq!(
            shown,
            [("d2.cloudfront.net", 1, &[443][..], 5, 5), ("d1.cloudfront.net", 2, &[443, 8443][..], 3, 30),]
        );
        assert_eq!((all[0].rule.as_str(), all[0].category), ("*.cloudfront.net", "static"));
    }
}
