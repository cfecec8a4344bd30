//! What names resolve with until a file of the machine changes: fixed answers, the hosts file, DNS servers and
//! the cache of what they said.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use futures_util::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::Options;
use super::addresses::{Addresses, LateAnswer, Rest};
use crate::egress::dns::stub::{Found, Other, Stub};
use crate::egress::dns::system::{self, Files, Servers};
use crate::egress::dns::{NO_ADDRESS, ResolveError};
use crate::lock::lock;

/// Names in the cache; denied names are never resolved, so only allowed ones compete for it.
const CACHED_NAMES: u64 = 10_000;
/// Short: agents retry at once, and an answer without addresses, or without one family because the server
/// failed at it, must not outlive its cause by much.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Answers with a longer TTL are asked for again after this.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);

pub(super) type Resolved = Result<Addresses, ResolveError>;

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) known: Resolved,
    valid_until: Instant,
}

impl Entry {
    fn new(known: Resolved, ttl: Duration) -> Self {
        Self { known, valid_until: Instant::now() + ttl }
    }
}

struct UntilTtl;

impl Expiry<Box<str>, Entry> for UntilTtl {
    fn expire_after_create(&self, _: &Box<str>, entry: &Entry, now: Instant) -> Option<Duration> {
        Some(entry.valid_until.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        name: &Box<str>,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(name, entry, now)
    }
}

/// What names resolve with, until a file of the machine changes. Each has a cache of its own, so that a
/// look-up that was under way can't put its answer into the next one's.
pub(super) struct Sources {
    /// Fixed answers and the hosts file.
    pub(super) hosts: HashMap<Box<str>, Arc<[IpAddr]>, RandomState>,
    pub(super) servers: Vec<SocketAddr>,
    /// Why the one server is one that the machine doesn't name.
    pub(super) unnamed: Option<String>,
    pub(super) stub: Stub,
    pub(super) cache: Cache<Box<str>, Entry>,
    /// Look-ups under way: callers that want the same name share one.
    pending: Mutex<HashMap<Box<str>, Shared<BoxFuture<'static, Resolved>>>>,
}

impl Sources {
    pub(super) fn pending(&self) -> MutexGuard<'_, HashMap<Box<str>, Shared<BoxFuture<'static, Resolved>>>> {
        lock(&self.pending)
    }

    /// Asks DNS, and keeps what it says. The second family of an answer may come late.
    pub(super) async fn resolve(&self, name: &str, places: &Semaphore) -> Resolved {
        let deadline = tokio::time::Instant::now() + self.stub.whole();
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, places.acquire()).await else {
            return Err(ResolveError::Timeout(self.servers.clone()));
        };
        let entry = match self.stub.lookup(name, deadline).await {
            Ok(Found::Addresses { addresses, ttl, other }) => {
                let (rest, most) = match other {
                    Other::Known => (None, POSITIVE_TTL),
                    Other::Failed => (None, NEGATIVE_TTL),
                    Other::Late(late) => (Some(Rest::new(late)), POSITIVE_TTL),
                };
                let known = Addresses { known: addresses.into(), rest };
                Entry::new(Ok(known), most.min(Duration::from_secs(ttl.into())))
            }
            Ok(Found::Nothing { exists, ttl, by }) => {
                let (rcode, why) = match exists {
                    true => ("NOERROR", NO_ADDRESS),
                    false => ("NXDOMAIN", "the name does not exist"),
                };
                let ttl = NEGATIVE_TTL.min(Duration::from_secs(ttl.unwrap_or(0).into()));
                let why = format!("{why}, says the DNS server {by}");
                Entry::new(Err(ResolveError::Answer { rcode, why }), ttl)
            }
            Err(error) => return Err(self.explained(error)),
        };
        self.cache.insert(name.into(), entry.clone());
        entry.known
    }

    /// Nobody looks for a server that no file names.
    fn explained(&self, error: ResolveError) -> ResolveError {
        match (error, &self.unnamed) {
            (ResolveError::Transport(why), Some(unnamed)) => {
                ResolveError::Transport(format!("{why}; {unnamed}"))
            }
            (error, _) => error,
        }
    }

    /// Adds the second family to an answer that went ahead without it.
    pub(super) async fn complete(&self, name: &str, known: Arc<[IpAddr]>, rest: Rest) {
        let more = rest.answer.await;
        let Some(entry) = self.cache.get(name) else { return };
        // A name that was asked for anew meanwhile has an answer of its own, and that its own other family.
        if !entry.known.is_ok_and(|now| Arc::ptr_eq(&now.known, &known)) {
            return;
        }
        let (both, most) = match more {
            LateAnswer::Addresses(more, ttl) => {
                (known.iter().chain(more.iter()).copied().collect(), Duration::from_secs(ttl.into()))
            }
            LateAnswer::Nothing => (known, POSITIVE_TTL),
            LateAnswer::Failed => (known, NEGATIVE_TTL),
        };
        let valid_until = entry.valid_until.min(Instant::now() + most);
        self.cache.insert(name.into(), Entry { known: Ok(Addresses::all(both)), valid_until });
    }
}

/// Takes a look-up off the list, however it ends.
pub(super) struct Listed {
    pub(super) sources: Arc<Sources>,
    pub(super) name: Box<str>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sources.pending().remove(&self.name);
    }
}

/// What the options and the machine's files say, and what an administrator should know about them.
pub(super) fn read(options: &Options, files: &Files, before: Option<&Stub>) -> (Sources, Vec<String>) {
    let Servers { all: servers, unnamed, mut remarks } = match options.servers.is_empty() {
        true => system::servers(&files.servers),
        false => Servers { all: options.servers.clone(), unnamed: None, remarks: Vec::new() },
    };
    let (hosts, remark) = system::hosts(&files.hosts);
    remarks.extend(unnamed.clone().into_iter().chain(remark));
    let fixed = options.hosts.iter().map(|(name, to)| (name.to_ascii_lowercase().into(), to.clone()));
    let hosts = hosts.into_iter().chain(fixed).map(|(name, to)| (name, Arc::from(to))).collect();
    let stub = Stub::new(&servers, options.timeout, options.edns, before);
    let cache = Cache::builder().max_capacity(CACHED_NAMES).expire_after(UntilTtl).build();
    (Sources { hosts, servers, unnamed, stub, cache, pending: Mutex::default() }, remarks)
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
