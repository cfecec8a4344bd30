//! Names to addresses: fixed answers, the hosts file, then DNS, behind one cache that keeps each
//! answer exactly as long as its TTL allows. Whether an address may be dialled is not judged here.
//!
//! A resolver follows the machine's files while it lives, and outlives every reload that leaves `[dns]` as
//! it is. It does not depend on the proxy.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use moka::Expiry;
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dns::NO_ADDRESS;
pub use super::dns::ResolveError;
use super::dns::stub::{Definite, Found, Late, Stub};
use super::dns::system::{self, Files, Servers};
use crate::lock::lock;
use crate::net::watch::Watch;

/// Names in the cache; denied names are never resolved, so only allowed ones compete for it.
const CACHED_NAMES: u64 = 10_000;
/// Short: agents retry at once, and the negative answer must not outlive its cause by much.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Answers with a longer TTL are asked for again after this.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);
/// Names that are looked up at once, with two sockets each. Others wait for their turn.
const AT_ONCE: usize = 100;
/// How often we look at the machine's files. A change is taken over when two looks in a row see it.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// `[dns]` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Fixed answers by name in normal form.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// What one server may take.
    pub timeout: Duration,
    /// Whether servers are asked with EDNS first.
    pub edns: bool,
}

/// Who says in place of DNS which addresses a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// `[dns] hosts`.
    Configuration,
    /// The machine's hosts file.
    HostsFile,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "dns.hosts of the configuration",
            Self::HostsFile => "the hosts file of the proxy's machine",
        })
    }
}

/// What is known of a name.
#[derive(Clone)]
pub struct Addresses {
    /// One at least.
    pub known: Arc<[IpAddr]>,
    /// The other family, where it is still awaited. A caller that reaches none of the known addresses can
    /// wait for it.
    pub rest: Option<Rest>,
}

/// Addresses, and for how many seconds they hold; none where the family has none.
type LateAnswer = Option<(Arc<[IpAddr]>, u32)>;

/// The family that answers late, for all who may want to wait for it.
#[derive(Clone)]
pub struct Rest {
    answer: Shared<BoxFuture<'static, LateAnswer>>,
    /// When the other family answered.
    since: tokio::time::Instant,
}

/// How long an answer in one family that leads nowhere is kept back for the other family.
///
/// RFC 8305 bounds the wait before a dial (section 3: 50 ms) and says nothing of the wait after the
/// last address has failed; glibc dials nothing before both families are in, and would wait for
/// `dns.timeout` and longer. Both questions went to one server at once. Within a second that server
/// has answered the second one as well, also when it had to ask elsewhere, and when a packet was lost:
/// the query is sent again after half a second. A server that is silent for longer swallows the
/// question, as some firewalls do with AAAA, and an agent waits for nothing.
const LATE: Duration = Duration::from_secs(1);

impl Rest {
    fn new(late: Late) -> Self {
        let addresses = async {
            match late.await {
                Ok(Definite::Addresses(more, ttl)) => Some((more.into(), ttl)),
                _ => None,
            }
        };
        Self { answer: addresses.boxed().shared(), since: tokio::time::Instant::now() }
    }

    /// The addresses, none where there are none; after the time of the server at the latest.
    pub async fn addresses(&mut self) -> Arc<[IpAddr]> {
        (&mut self.answer).await.map_or_else(Arc::default, |(addresses, _)| addresses)
    }

    /// The same, where the far side or the policy has refused what the other family led to: it is
    /// not worth a long wait. None as well where nothing came in time.
    pub async fn addresses_soon(&mut self) -> Arc<[IpAddr]> {
        let until = self.since + LATE;
        tokio::time::timeout_at(until, self.addresses()).await.unwrap_or_default()
    }
}

impl Addresses {
    /// Both families, or the only one.
    pub fn all(known: Arc<[IpAddr]>) -> Self {
        Self { known, rest: None }
    }
}

type Resolved = Result<Addresses, ResolveError>;

#[derive(Clone)]
struct Entry {
    known: Resolved,
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
struct Sources {
    /// Fixed answers and the hosts file.
    hosts: HashMap<Box<str>, Arc<[IpAddr]>, RandomState>,
    servers: Vec<SocketAddr>,
    /// Why the one server is one that the machine doesn't name.
    unnamed: Option<String>,
    stub: Stub,
    cache: Cache<Box<str>, Entry>,
    /// Look-ups under way: callers that want the same name share one.
    pending: Mutex<HashMap<Box<str>, Shared<BoxFuture<'static, Resolved>>>>,
}

/// Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    options: Options,
    files: Files,
    sources: ArcSwap<Sources>,
    /// How often they were replaced.
    changes: AtomicU64,
    places: Arc<Semaphore>,
    /// Look-ups run here, so that they go on when the client that asked leaves, and the DNS sockets belong
    /// to a runtime that outlives every worker.
    runtime: Handle,
    /// Ends the task that follows the files.
    _following: DropGuard,
}

impl Resolver {
    /// Begins to follow the machine's files on `runtime`, where look-ups run as well.
    pub fn new(options: Options, runtime: Handle) -> Self {
        Self::with_files(options, Files::default(), runtime)
    }

    fn with_files(options: Options, files: Files, runtime: Handle) -> Self {
        let mut followed = vec![files.hosts.clone()];
        if options.servers.is_empty() {
            followed.push(files.servers.clone());
        }
        // Made before the files are read, so that a change in between is noticed.
        let watch = Watch::new(followed);
        let (sources, remarks) = read(&options, &files, None);
        warn(&remarks);
        let following = CancellationToken::new();
        let inner = Arc::new(Inner {
            options,
            files,
            sources: ArcSwap::from_pointee(sources),
            changes: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            runtime: runtime.clone(),
            _following: following.clone().drop_guard(),
        });
        let followed = Arc::downgrade(&inner);
        let take_over = move |_: &[_]| {
            if let Some(inner) = followed.upgrade() {
                // Files may lie on a network.
                tokio::task::spawn_blocking(move || inner.take_over());
            }
        };
        runtime.spawn(async move {
            tokio::select! {
                () = following.cancelled() => {}
                () = watch.run(LOOK_AT_FILES, take_over) => {}
            }
        });
        Self(inner)
    }

    /// How often the machine's files have changed since this resolver began.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Looks at the machine's files now. It does so by itself every few seconds.
    pub fn refresh(&self) {
        self.0.take_over();
    }

    /// What is known without waiting: a fixed answer, one of the hosts file or a cached one.
    pub fn cached(&self, name: &str) -> Option<Addresses> {
        let sources = self.0.sources.load();
        if let Some(known) = sources.hosts.get(name) {
            return Some(Addresses::all(known.clone()));
        }
        sources.cache.get(name)?.known.ok()
    }

    /// Where the administrator has fixed what a name resolves to; none where DNS is asked.
    pub(crate) fn fixed_by(&self, name: &str) -> Option<Fixed> {
        let configured = || self.0.options.hosts.keys().any(|known| known.eq_ignore_ascii_case(name));
        let fixed = self.0.sources.load().hosts.contains_key(name);
        fixed.then(|| if configured() { Fixed::Configuration } else { Fixed::HostsFile })
    }

    /// All addresses of `name`, which is absolute and in normal form. Concurrent look-ups of one
    /// name share one query.
    ///
    /// # Errors
    /// See [`ResolveError`]; after twice `dns.timeout` at the latest.
    pub async fn lookup(&self, name: &str) -> Result<Addresses, ResolveError> {
        let sources = self.0.sources.load_full();
        if let Some(known) = sources.hosts.get(name) {
            return Ok(Addresses::all(known.clone()));
        }
        // RFC 6761 §6.3: these never go to a server.
        if name == "localhost" || name.ends_with(".localhost") {
            let known = Arc::new([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
            return Ok(Addresses::all(known));
        }
        let lookup = {
            let mut pending = sources.pending();
            match pending.get(name) {
                Some(lookup) => lookup.clone(),
                // A look-up puts its answer into the cache before it leaves the list.
                None => match sources.cache.get(name) {
                    Some(entry) => return entry.known,
                    None => {
                        let lookup = self.0.start(sources.clone(), name);
                        pending.insert(name.into(), lookup.clone());
                        lookup
                    }
                },
            }
        };
        lookup.await
    }
}

impl Resolver {
    /// How long DNS takes for a name that is asked for anew, whatever the cache has; none where no
    /// answer comes.
    pub(crate) async fn time_anew(&self, name: &str) -> Option<Duration> {
        let sources = self.0.sources.load_full();
        let asked = tokio::time::Instant::now();
        let answer = sources.stub.lookup(name, asked + sources.stub.whole()).await;
        answer.is_ok().then(|| asked.elapsed())
    }
}

impl Sources {
    fn pending(&self) -> MutexGuard<'_, HashMap<Box<str>, Shared<BoxFuture<'static, Resolved>>>> {
        lock(&self.pending)
    }

    /// Asks DNS, and keeps what it says. The second family of an answer may come late.
    async fn resolve(&self, name: &str, places: &Semaphore) -> Resolved {
        let deadline = tokio::time::Instant::now() + self.stub.whole();
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, places.acquire()).await else {
            return Err(ResolveError::Timeout(self.servers.clone()));
        };
        let entry = match self.stub.lookup(name, deadline).await {
            Ok(Found::Addresses { addresses, ttl, late }) => {
                let known = Addresses { known: addresses.into(), rest: late.map(Rest::new) };
                Entry::new(Ok(known), POSITIVE_TTL.min(Duration::from_secs(ttl.into())))
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
    async fn complete(&self, name: &str, known: Arc<[IpAddr]>, rest: Rest) {
        let more = rest.answer.await;
        let Some(entry) = self.cache.get(name) else { return };
        // A name that was asked for anew meanwhile has an answer of its own, and that its own other family.
        if !entry.known.is_ok_and(|now| Arc::ptr_eq(&now.known, &known)) {
            return;
        }
        let (both, until) = match more {
            Some((more, ttl)) => (
                known.iter().chain(more.iter()).copied().collect(),
                Instant::now() + Duration::from_secs(ttl.into()),
            ),
            None => (known, entry.valid_until),
        };
        let valid_until = entry.valid_until.min(until);
        self.cache.insert(name.into(), Entry { known: Ok(Addresses::all(both)), valid_until });
    }
}

/// Takes a look-up off the list, however it ends.
struct Listed {
    sources: Arc<Sources>,
    name: Box<str>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sources.pending().remove(&self.name);
    }
}

impl Inner {
    /// Starts a look-up. Callers share the future; the work is a task that goes on without them.
    fn start(&self, sources: Arc<Sources>, name: &str) -> Shared<BoxFuture<'static, Resolved>> {
        let places = self.places.clone();
        let listed = Listed { sources, name: name.into() };
        let task = self.runtime.spawn(async move {
            let resolved = listed.sources.resolve(&listed.name, &places).await;
            if let Ok(Addresses { known, rest: Some(rest) }) = &resolved {
                let (sources, name) = (listed.sources.clone(), listed.name.clone());
                let (known, rest) = (known.clone(), rest.clone());
                tokio::spawn(async move { sources.complete(&name, known, rest).await });
            }
            drop(listed);
            resolved
        });
        let lookup =
            async move { task.await.unwrap_or_else(|e| Err(ResolveError::Transport(e.to_string()))) };
        lookup.boxed().shared()
    }

    /// Reads the machine's files, and puts their changes in force.
    fn take_over(&self) {
        let before = self.sources.load_full();
        let (sources, remarks) = read(&self.options, &self.files, Some(&before.stub));
        if (&sources.servers, &sources.unnamed, &sources.hosts)
            == (&before.servers, &before.unnamed, &before.hosts)
        {
            return;
        }
        let servers = shown(&sources.servers);
        self.sources.store(Arc::new(sources));
        self.changes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            event = "resolver_changed",
            %servers,
            "the machine's resolver or hosts file has changed and is followed; the DNS cache is empty"
        );
        warn(&remarks);
    }
}

fn warn(remarks: &[String]) {
    for remark in remarks {
        tracing::warn!(event = "resolver_warning", "{remark}");
    }
}

fn shown(servers: &[SocketAddr]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What the options and the machine's files say, and what an administrator should know about them.
fn read(options: &Options, files: &Files, before: Option<&Stub>) -> (Sources, Vec<String>) {
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
#[path = "resolver_tests.rs"]
mod tests;
