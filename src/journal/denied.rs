//! What was denied lately: distinct targets, how often, to how many clients. Why a target came near to
//! a rule is worked out when somebody asks, never in a denial's way.

use std::fmt;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;

use super::access::Asked;
use super::distinct::Distinct;
use super::recent::Recent;
use crate::lock::lock;

/// So many targets and reasons are known; of more, those that were denied longest ago are forgotten.
pub(crate) const MOST: usize = 1000;

/// What was denied, and why.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    target: Box<str>,
    reason: &'static str,
}

struct Entry {
    count: u64,
    clients: Distinct,
    first: Timestamp,
    last: Timestamp,
    let_through: bool,
}

/// One target that was denied for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub target: String,
    pub reason: &'static str,
    pub count: u64,
    pub clients: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Report mode let it through the last time.
    pub let_through: bool,
}

/// The denied targets of late.
pub(crate) struct Denials {
    entries: Mutex<Recent<Key, Entry>>,
    keys: RandomState,
}

impl Default for Denials {
    fn default() -> Self {
        Self { entries: Mutex::new(Recent::new(MOST)), keys: RandomState::new() }
    }
}

impl Denials {
    /// Takes down a denial; one without a target that can be shown is no target that somebody lacks.
    pub(super) fn note(
        &self,
        target: Option<Asked<'_>>,
        reason: &'static str,
        client: IpAddr,
        at: Timestamp,
        let_through: bool,
    ) {
        let Some(target) = target else { return };
        let key = Key { target: target.short(), reason };
        let mut entries = self.lock();
        let new = || Entry { count: 0, clients: Distinct::default(), first: at, last: at, let_through };
        let entry = entries.touch(key, new);
        entry.count += 1;
        entry.last = at;
        entry.let_through = let_through;
        entry.clients.add(client, &self.keys);
    }

    /// All that are known, the last one first.
    pub(crate) fn all(&self) -> Vec<Denied> {
        let entries = self.lock();
        let shown = |(key, entry): (&Key, &Entry)| Denied {
            target: key.target.to_string(),
            reason: key.reason,
            count: entry.count,
            clients: entry.clients.count(),
            first: entry.first,
            last: entry.last,
            let_through: entry.let_through,
        };
        entries.iter().map(shown).collect()
    }

    /// Targets, with the reason, that this client may have been denied since then.
    pub(crate) fn of(&self, client: IpAddr, since: Timestamp) -> Vec<(String, &'static str)> {
        let entries = self.lock();
        let lately = |(_, entry): &(&Key, &Entry)| entry.last >= since && entry.clients.may_have(client);
        entries.iter().filter(lately).map(|(key, _)| (key.target.to_string(), key.reason)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Key, Entry>> {
        lock(&self.entries)
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Denials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::access::LONGEST;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn targets_are_counted_by_reason_and_client() {
        let denials = Denials::default();
        let note = |target, reason, client_number, second| {
            denials.note(target, reason, client(client_number), at(second), false);
        };
        note(Some(Asked::Text("a.example:443")), "no_rule", 1, 0);
        note(Some(Asked::Text("b.example:443")), "no_rule", 1, 1);
        note(Some(Asked::Text("a.example:443")), "no_rule", 1, 2);
        note(Some(Asked::Text("a.example:443")), "client", 2, 3);
        note(Some(Asked::Text("a.example:443")), "no_rule", 2, 4);
        note(None, "malformed", 2, 5);
        let all: Vec<_> = denials.all();
        let shown: Vec<_> =
            all.iter().map(|d| (d.target.as_str(), d.reason, d.count, d.clients, d.first, d.last)).collect();
        assert_eq!(
            shown,
            [
                ("a.example:443", "no_rule", 3, 2, at(0), at(4)),
                ("a.example:443", "client", 1, 1, at(3), at(3)),
                ("b.example:443", "no_rule", 1, 1, at(1), at(1)),
            ]
        );
    }

    #[test]
    fn a_flood_of_targets_and_clients_stays_bounded() {
        let denials = Denials::default();
        for number in 0..1_000_000_u32 {
            let name = format!("h{number}.example:443");
            denials.note(Some(Asked::Text(&name)), "no_rule", client(number % 50_000), at(0), false);
            if number % 20 == 0 {
                denials.note(
                    Some(Asked::Text("idp.example:443")),
                    "no_rule",
                    client(number / 20),
                    at(1),
                    false,
                );
            }
        }
        let all = denials.all();
        assert_eq!(all.len(), MOST);
        let many = all.iter().find(|denied| denied.target == "idp.example:443").unwrap();
        assert_eq!(many.count, 50_000);
        assert!(many.clients.abs_diff(50_000) < 17_500, "{}", many.clients);
        assert!(all.iter().any(|denied| denied.target == "h999999.example:443"));
        denials.note(Some(Asked::Text(&"x".repeat(100_000))), "malformed", client(1), at(2), false);
        assert_eq!(denials.all()[0].target.len(), LONGEST);
    }
}
