//! The session store: one entry per first full handshake, on moka. It knows ages and capacity; what
//! tickets look like and how rustls asks for them is in [`ticket`](super::ticket).
//!
//! An entry holds the key that seals the tickets of one session, not the tickets: a chain of resumptions,
//! however long, stays one entry, with the time of its first handshake. Once the entry is gone no ticket of
//! that session can be opened by anyone. For TLS 1.2 clients without tickets the entry also holds the
//! session itself, under its session id.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use zeroize::Zeroizing;

use super::seal::{Context, Key, Name, random};
use super::window::{Clock, Window};

/// A first handshake further in the future than this is no clock skew between replicas.
pub(super) const CLOCK_SKEW: u64 = 60;

/// Sessions of this many bytes (with a client's certificate chain) count as one more in the
/// capacity, which bounds memory and not only the number of entries.
const BYTES_PER_UNIT: usize = 1024;

/// One session.
pub(super) struct Entry {
    /// Time of the first full handshake, seconds since the epoch.
    pub(super) origin: u64,
    /// Seals the tickets of this session while no ticket keys are configured.
    pub(super) key: Key,
    /// The session itself, for TLS 1.2 clients that come back with its id.
    pub(super) record: Option<Box<Record>>,
}

/// A TLS 1.2 session kept under its id.
pub(super) struct Record {
    pub(super) context: Context,
    /// First second at which the client's certificate is no longer valid, since the epoch; `u64::MAX`
    /// without one.
    pub(super) client_end: u64,
    pub(super) plain: Zeroizing<Vec<u8>>,
}

/// The shared store of sessions. Cheap to clone by `Arc`; lives from start to exit, over reloads.
pub struct SessionStore {
    cache: Cache<Name, Arc<Entry>>,
    window: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl SessionStore {
    /// A store for `sessions` sessions, each for `window` from its first handshake.
    ///
    /// The policy is LRU: moka's default refuses newcomers when the cache is full, and a flood of
    /// junk would switch resumption off for everybody who logs in after it.
    pub(crate) fn new(sessions: u64, window: Window, clock: Arc<dyn Clock>) -> Self {
        let window = Arc::new(AtomicU64::new(window.seconds()));
        let cache = Cache::builder()
            .max_capacity(sessions)
            .weigher(|_, entry: &Arc<Entry>| weight(entry))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(FromBirth { window: Arc::clone(&window) })
            .build();
        Self { cache, window, clock }
    }

    /// The window in force.
    pub(crate) fn window_seconds(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    /// Changes the window, at a reload. A shorter one ends older sessions at once; sessions that
    /// exist keep at most the window they were made with.
    pub(crate) fn set_window(&self, window: Window) {
        self.window.store(window.seconds(), Ordering::Relaxed);
    }

    /// Seconds since the epoch, by the clock that judges ages.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The age of a session whose first handshake was at `origin`; `None` if it is past the window, or so
    /// far in the future that it isn't clock skew.
    pub(super) fn age(&self, origin: u64) -> Option<u64> {
        let now = self.now();
        if origin > now.saturating_add(CLOCK_SKEW) {
            return None;
        }
        let age = now.saturating_sub(origin);
        (age < self.window_seconds()).then_some(age)
    }

    /// Adds a session under a fresh random name; `None` if the random generator fails.
    pub(super) fn begin(&self, origin: u64) -> Option<(Name, Arc<Entry>)> {
        let name = random()?;
        Some((name, self.insert(name, origin, None)?))
    }

    /// Adds a session under the given name.
    pub(super) fn insert(&self, name: Name, origin: u64, record: Option<Box<Record>>) -> Option<Arc<Entry>> {
        let entry = Arc::new(Entry { origin, key: Zeroizing::new(random()?), record });
        self.cache.insert(name, Arc::clone(&entry));
        Some(entry)
    }

    /// Adds a session of another process under its own name.
    pub(super) fn adopt(&self, name: Name, entry: Arc<Entry>) {
        if self.is_alive(&entry) {
            self.cache.insert(name, entry);
        }
    }

    /// All that are within the window.
    pub(super) fn living(&self) -> impl Iterator<Item = (Name, Arc<Entry>)> {
        self.cache.iter().filter(|(_, entry)| self.is_alive(entry)).map(|(name, entry)| (*name, entry))
    }

    /// The entry of that name, if it is within the window.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Entry>> {
        self.cache.get(name).filter(|e| self.is_alive(e))
    }

    /// Removes an entry, and hands it out if it is within the window: moka returns expired entries
    /// from `remove`.
    pub(super) fn take(&self, name: &Name) -> Option<Arc<Entry>> {
        self.cache.remove(name).filter(|e| self.is_alive(e))
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        self.age(entry.origin).is_some()
    }

    /// Sessions held: the gauge `ccpgate_tls_sessions`. While ticket keys are configured only TLS
    /// 1.2 sessions are, since tickets then carry everything.
    pub fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// Whether no session is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Erases sessions that are past the window, by our clock: moka's own stops while a machine sleeps, and
    /// moka erases only when it is used. Call it about once a minute, and not on a thread that serves
    /// connections: with 100,000 sessions it takes some milliseconds.
    pub(crate) fn sweep(&self) {
        for (name, entry) in &self.cache {
            if !self.is_alive(&entry) {
                self.cache.invalidate(&*name);
            }
        }
        self.cache.run_pending_tasks();
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The entries are never shown: they hold keys.
        f.debug_struct("SessionStore").field("window", &self.window).finish_non_exhaustive()
    }
}

/// Time to live from the first handshake. Neither reading nor updating prolongs it.
struct FromBirth {
    window: Arc<AtomicU64>,
}

impl Expiry<Name, Arc<Entry>> for FromBirth {
    fn expire_after_create(&self, _: &Name, _: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(Duration::from_secs(self.window.load(Ordering::Relaxed)))
    }
}

fn weight(entry: &Entry) -> u32 {
    let extra = entry.record.as_ref().map_or(0, |r| r.plain.len() / BYTES_PER_UNIT);
    u32::try_from(1 + extra).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::window::ManualClock;
    use super::*;

    fn store(sessions: u64) -> (SessionStore, Arc<ManualClock>) {
        let clock = ManualClock::new(1_000_000);
        let window = Window::from_seconds(36_000).unwrap();
        (SessionStore::new(sessions, window, clock.clone()), clock)
    }

    #[test]
    fn get_and_take_both_stop_at_the_window() {
        let (store, clock) = store(10);
        let (a, _) = store.begin(1_000_000).unwrap();
        let (b, _) = store.begin(1_000_000).unwrap();
        clock.advance(35_999);
        assert!(store.get(&a).is_some());
        clock.advance(1);
        assert!(store.get(&a).is_none());
        assert!(store.take(&b).is_none());
    }

    #[test]
    fn take_deletes() {
        let (store, _) = store(10);
        let (name, _) = store.begin(1_000_000).unwrap();
        assert!(store.take(&name).is_some());
        assert!(store.take(&name).is_none());
        assert!(store.get(&name).is_none());
    }

    #[test]
    fn a_clock_that_went_back_an_hour_resumes_nothing() {
        let (store, clock) = store(10);
        let (name, _) = store.begin(1_000_000).unwrap();
        clock.set(1_000_000 - 60);
        assert!(store.get(&name).is_some());
        clock.set(1_000_000 - 61);
        assert!(store.get(&name).is_none());
    }

    #[test]
    fn a_full_store_keeps_the_newest() {
        let (store, _) = store(1000);
        for _ in 0..1000 {
            store.begin(1_000_000).unwrap();
        }
        let newest: Vec<_> = (0..3000).map(|_| store.begin(1_000_000).unwrap().0).collect();
        assert!(store.len() <= 1000);
        let kept = newest.iter().rev().take(1000).filter(|n| store.get(n).is_some());
        assert_eq!(kept.count(), 1000);
    }

    #[test]
    fn long_sessions_count_for_more() {
        let (store, _) = store(100);
        for _ in 0..100 {
            let record = Record {
                context: Context::ANONYMOUS,
                client_end: u64::MAX,
                plain: Zeroizing::new(vec![1; 4 * BYTES_PER_UNIT]),
            };
            store.insert(random().unwrap(), 1_000_000, Some(Box::new(record)));
        }
        assert!(store.len() <= 20, "{} entries of weight 5", store.len());
    }

    #[test]
    fn sweeping_erases_what_is_past_the_window() {
        let (store, clock) = store(10);
        store.begin(1_000_000).unwrap();
        clock.advance(100);
        store.begin(1_000_100).unwrap();
        clock.advance(35_900);
        store.sweep();
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_shorter_window_ends_older_sessions_at_once() {
        let (store, clock) = store(10);
        let (name, _) = store.begin(1_000_000).unwrap();
        clock.advance(3600);
        store.set_window(Window::from_seconds(3600).unwrap());
        assert!(store.get(&name).is_none());
    }
}
