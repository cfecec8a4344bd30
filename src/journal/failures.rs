//! What failed lately, one by one: which client, which target, why. A desk that asks again every two seconds
//! is one entry that counts, so that it doesn't drive the others out; clients are spread over shards, so that
//! a flood of targets drives out its neighbours at most.
//!
//! [`super::denied`] has the same denials by target, for all clients together.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use serde::Serialize;

use super::access::{Asked, Event, short};
use super::id::RequestId;
use super::recent::Recent;
use crate::lock::lock;
use crate::outcome::{Outcome, Stage, WouldDeny};

const SHARDS: usize = 16;
/// So many are known; of more, those go that failed longest ago.
pub(crate) const MOST: usize = 4096;

/// Which way it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The policy, a limit or the request itself was the reason.
    Denied,
    /// The policy let it through, and it failed.
    Failed,
    /// Report mode let through what would be denied.
    Reported,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    target: Box<str>,
    reason: &'static str,
}

struct Entry {
    kind: Kind,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    id: RequestId,
    category: Option<&'static str>,
    stage: Option<Stage>,
    cause: Option<&'static str>,
    detail: Option<Box<str>>,
}

/// One client's failures at one target for one reason.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub client: IpAddr,
    /// Empty where nothing could be read.
    pub target: String,
    /// The reason of a denial, or the outcome of a tunnel.
    pub reason: &'static str,
    pub kind: Kind,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Of the last one, as in its line in the log.
    pub id: RequestId,
    pub category: Option<&'static str>,
    pub stage: Option<Stage>,
    pub cause: Option<&'static str>,
    /// Of the first one, in words; without a target of the last one.
    pub detail: Option<String>,
}

/// The failures of late.
pub(crate) struct Failures {
    shards: [Mutex<Recent<Key, Entry>>; SHARDS],
    keys: RandomState,
    noted: AtomicU64,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Recent::new(MOST / SHARDS))),
            keys: RandomState::default(),
            noted: AtomicU64::new(0),
        }
    }
}

impl Failures {
    /// Takes down a tunnel's end, if it is a failure of the network or of what spoke in it.
    pub(super) fn ended(&self, event: &Event<'_>) {
        if let Some(outcome) = event.outcome
            && (outcome.is_error() || matches!(outcome, Outcome::NotTls | Outcome::SniMismatch))
        {
            self.note(event, Kind::Failed, outcome.into_str());
        }
    }

    pub(super) fn denied(&self, event: &Event<'_>) {
        if let Some(denial) = event.reason {
            self.note(event, Kind::Denied, denial.into_str());
        }
    }

    pub(super) fn reported(&self, event: &Event<'_>, reason: WouldDeny) {
        self.note(event, Kind::Reported, reason.into_str());
    }

    fn note(&self, event: &Event<'_>, kind: Kind, reason: &'static str) {
        let client = event.client.ip().to_canonical();
        let target = event.target.map(Asked::short).unwrap_or_default();
        let without_target = event.target.is_none();
        let new = || Entry {
            kind,
            count: 0,
            first: event.time,
            last: event.time,
            id: event.id,
            category: event.category,
            stage: event.stage,
            cause: event.cause.map(|fault| fault.cause.as_str()),
            detail: event.detail.map(short),
        };
        let mut shard = lock(&self.shards[self.keys.hash_one(client) as usize % SHARDS]);
        let entry = shard.touch(Key { client, target, reason }, new);
        entry.count += 1;
        (entry.last, entry.id) = (event.time, event.id);
        if without_target && entry.count > 1 {
            // Different mistakes meet in one entry.
            entry.detail = event.detail.map(short);
        }
        self.noted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, so that a reader knows whether there is something new.
    pub(crate) fn noted(&self) -> u64 {
        self.noted.load(Ordering::Relaxed)
    }

    /// All reasons that are remembered.
    pub(crate) fn reasons(&self) -> BTreeSet<&'static str> {
        let reasons = |shard: &Mutex<Recent<Key, Entry>>| {
            lock(shard).iter().map(|(key, _)| key.reason).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(reasons).collect()
    }

    /// Those that `wanted` takes, the last one first.
    pub(crate) fn all(&self, wanted: impl Fn(IpAddr, &str, &'static str) -> bool) -> Vec<Failure> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let taken = shard.iter().filter(|(key, _)| wanted(key.client, &key.target, key.reason));
            all.extend(taken.map(|(key, entry)| Failure {
                client: key.client,
                target: key.target.to_string(),
                reason: key.reason,
                kind: entry.kind,
                count: entry.count,
                first: entry.first,
                last: entry.last,
                id: entry.id,
                category: entry.category,
                stage: entry.stage,
                cause: entry.cause,
                detail: entry.detail.as_deref().map(str::to_owned),
            }));
        }
        all.sort_by_key(|failure| std::cmp::Reverse(failure.last));
        all
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failures")
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::cause::Cause;
    use crate::journal::id::Ids;
    use crate::outcome::Denial;

    fn event(ids: &Ids, client: [u8; 4], target: &'static str) -> Event<'static> {
        Event {
            target: Some(Asked::Text(target)),
            ..Event::new(ids.next(), SocketAddr::new(client.into(), 4711), None, true)
        }
    }

    fn all(failures: &Failures) -> Vec<Failure> {
        failures.all(|_, _, _| true)
    }

    #[test]
    fn a_retry_loop_is_one_entry() {
        let (failures, ids) = (Failures::default(), Ids::default());
        for _ in 0..300 {
            failures.denied(&event(&ids, [10, 0, 0, 1], "a.example:443").denied(Denial::NoRule, None, "no"));
        }
        let reset =
            Event { outcome: Some(Outcome::UpstreamReset), ..event(&ids, [10, 0, 0, 2], "b.example:443") };
        failures.ended(&Event { cause: Some(Cause::TunnelReset.into()), ..reset });
        failures.ended(&Event { outcome: Some(Outcome::Ok), ..reset });
        failures.ended(&Event { outcome: Some(Outcome::ClientReset), ..reset });
        let mut shown: Vec<_> =
            all(&failures).into_iter().map(|f| (f.target, f.reason, f.kind, f.count, f.cause)).collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            shown,
            [
                ("a.example:443".to_owned(), "no_rule", Kind::Denied, 300, None),
                ("b.example:443".to_owned(), "upstream_reset", Kind::Failed, 1, Some("tunnel_reset")),
            ]
        );
        assert_eq!(failures.noted(), 301);
        let of = failures.all(|client, _, _| client == IpAddr::from([10, 0, 0, 2]));
        assert_eq!(of.len(), 1);
    }

    #[test]
    fn a_flood_of_one_client_leaves_others_alone() {
        let (failures, ids) = (Failures::default(), Ids::default());
        for desk in 0..64 {
            failures.denied(&event(&ids, [10, 1, 0, desk], "idp.example:443").denied(
                Denial::NoRule,
                None,
                "no",
            ));
        }
        for number in 0..100_000 {
            let text: &'static str = "scan.example:443";
            let mut scan = event(&ids, [10, 2, 0, 1], text);
            let name = format!("h{number}.example:443");
            scan.target = Some(Asked::Text(&name));
            failures.denied(&scan.denied(Denial::NoRule, None, "no"));
        }
        let all = all(&failures);
        assert!(all.len() <= MOST, "{}", all.len());
        let desks = all.iter().filter(|failure| failure.target == "idp.example:443").count();
        assert!(desks > 32, "{desks} of 64 are left");
    }
}
