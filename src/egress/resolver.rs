//! Names to addresses: fixed answers, the hosts file, then DNS, behind one cache that keeps each
//! answer exactly as long as its TTL allows. Whether an address may be dialled is not judged here.
//!
//! A resolver follows the machine's files while it lives, and outlives every reload that leaves `[dns]` as
//! it is. It does not depend on the proxy.

mod addresses;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use super::dns::ResolveError;
use super::dns::system::Files;
use crate::lock::lock;
use crate::net::watch::Watch;
pub use addresses::{Addresses, Rest};
use sources::{Listed, Resolved, Sources, read};

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

/// Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    options: Options,
    files: Files,
    sources: ArcSwap<Sources>,
    /// How often they were replaced.
    changes: AtomicU64,
    /// Held while the files are read and put in force: who began later must not be overtaken.
    turn: Mutex<()>,
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
            turn: Mutex::default(),
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
        let _turn = lock(&self.turn);
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
