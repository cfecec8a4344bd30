//! Session tickets that keep the time of their first full handshake, the session's origin. One
//! [`ConnTickets`] per connection stands between rustls and the shared [`Shift`]: rustls itself never
//! checks a session's age, and does not tell a ticketer which ticket was resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::HandshakeKind;
use rustls::server::{ProducesTickets, StoresServerSessions};
use zeroize::Zeroizing;

use super::keys::TicketKeys;
use super::seal::{self, Context, Name};
use super::session::{Entry, Record, SessionStore};
use super::window::{Clock, Window};

/// The origin of a connection that has neither resumed a session nor finished a full handshake.
const UNKNOWN: u64 = 0;
/// TLS 1.3 tickets after a full handshake. Chromium keeps two sessions per server and spends one for
/// each connection.
pub(super) const TICKETS: usize = 2;
/// After a resumption one ticket takes the place of the one that was spent, as in OpenSSL; a second
/// would cost a twentieth of the handshake.
const TICKETS_RESUMED: usize = 1;
/// The end of a client certificate where the session has none.
const FOREVER: u64 = u64::MAX;

/// Everything sessions share, from start to exit: window, store and ticket keys. Reloads keep it.
#[derive(Debug)]
pub struct Shift {
    store: SessionStore,
    keys: ArcSwapOption<TicketKeys>,
}

impl Shift {
    /// Sessions of this `window`, at most `sessions` of them in memory. Without `keys` a session's
    /// secrets stay in this process; with them, tickets work on every replica that has the files.
    pub fn new(window: Window, sessions: u64, keys: Option<TicketKeys>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            store: SessionStore::new(sessions, window, clock),
            keys: ArcSwapOption::from_pointee(keys),
        })
    }

    /// Puts other ticket keys in force, for connections that begin from now on. Sessions in memory
    /// go on resuming when keys are configured for the first time.
    pub fn set_keys(&self, keys: Option<TicketKeys>) {
        self.keys.store(keys.map(Arc::new));
    }

    /// Changes the window.
    pub(crate) fn set_window(&self, window: Window) {
        self.store.set_window(window);
    }

    /// The session store, for its gauge and to be swept.
    pub fn store(&self) -> &SessionStore {
        &self.store
    }

    /// The ticket keys in force.
    pub(crate) fn keys(&self) -> Option<Arc<TicketKeys>> {
        self.keys.load_full()
    }
}

/// The tickets and session ids of one connection: `ticketer` and `session_storage` of its
/// configuration, both, because a TLS 1.2 client may come back by id and leave with a ticket.
#[derive(Debug)]
pub struct ConnTickets {
    shift: Arc<Shift>,
    context: Context,
    /// Origin of this connection's session, [`UNKNOWN`] before there is one.
    origin: AtomicU64,
    /// First second at which the client's certificate is no longer valid.
    client_end: AtomicU64,
    /// Tickets that this connection may still give.
    left: AtomicUsize,
    /// The store's entry of this session. rustls requires a lock; no other thread ever takes it.
    entry: Mutex<Option<Named>>,
}

#[derive(Clone)]
struct Named {
    name: Name,
    entry: Arc<Entry>,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Named")
    }
}

impl ConnTickets {
    pub(super) fn new(shift: Arc<Shift>, context: Context) -> Arc<Self> {
        Arc::new(Self {
            shift,
            context,
            origin: AtomicU64::new(UNKNOWN),
            client_end: AtomicU64::new(FOREVER),
            left: AtomicUsize::new(TICKETS),
            entry: Mutex::new(None),
        })
    }

    /// The age in seconds of the session that was resumed, for `ccpgate_tls_resumed_age_seconds`;
    /// `None` after a full handshake. Ask once, when the handshake has ended, with the
    /// connection's `handshake_kind()`.
    pub fn resumed_age(&self, kind: Option<HandshakeKind>) -> Option<u64> {
        if kind != Some(HandshakeKind::Resumed) {
            return None;
        }
        match self.origin.load(Ordering::Relaxed) {
            UNKNOWN => None,
            origin => Some(self.shift.store.now().saturating_sub(origin)),
        }
    }

    /// Leaves no session behind, neither in the store nor with the client.
    pub(crate) fn give_none(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    /// Records when the certificate that the client has just shown ends: no ticket made after this outlives
    /// it.
    pub(super) fn client_certificate_ends(&self, client_end: u64) {
        self.client_end.store(client_end, Ordering::Relaxed);
    }

    fn origin_or_now(&self) -> u64 {
        let now = self.shift.store.now();
        match self.origin.compare_exchange(UNKNOWN, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now,
            Err(origin) => origin,
        }
    }

    /// Seconds that a session may still be resumed: what is left of its window, and of the
    /// client's certificate. Never more than the window, whatever the clock does.
    fn remaining(&self, origin: u64) -> u64 {
        let Some(age) = self.shift.store.age(origin) else {
            return 0;
        };
        let certificate = self.client_end.load(Ordering::Relaxed).saturating_sub(self.shift.store.now());
        (self.shift.store.window_seconds().saturating_sub(age)).min(certificate)
    }

    /// Continues a session that a client wants to resume, if it may still be resumed.
    fn adopt(&self, origin: u64, client_end: u64, named: Option<Named>) -> Option<()> {
        self.shift.store.age(origin)?;
        if client_end <= self.shift.store.now() {
            return None;
        }
        // If rustls now refuses the session (other server name, other suite), the older origin stays: new
        // tickets live shorter, never longer.
        self.origin.store(origin, Ordering::Relaxed);
        self.client_end.store(client_end, Ordering::Relaxed);
        self.left.fetch_min(TICKETS_RESUMED, Ordering::Relaxed);
        *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = named;
        Some(())
    }

    /// The entry whose key seals this connection's tickets, made at the first ticket.
    fn entry(&self, origin: u64) -> Option<Named> {
        let mut slot = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            let (name, entry) = self.shift.store.begin(origin)?;
            *slot = Some(Named { name, entry });
        }
        slot.clone()
    }

    fn resume_by_id(&self, id: &[u8], found: Option<Arc<Entry>>) -> Option<Vec<u8>> {
        let entry = found?;
        let record = entry.record.as_ref().filter(|r| r.context == self.context)?;
        let plain = record.plain.to_vec();
        let named = Named { name: id.try_into().ok()?, entry: Arc::clone(&entry) };
        self.adopt(entry.origin, record.client_end, Some(named))?;
        Some(plain)
    }
}

impl ProducesTickets for ConnTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // 0 would mean "as long as you like" to a TLS 1.2 client (RFC 5077 §5.6). A ticket is only made
        // while a second is left, so 1 is wrong by at most the second that may pass between the two calls.
        let remaining = self.remaining(self.origin_or_now()).clamp(1, Window::MAX);
        u32::try_from(remaining).unwrap_or(1)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let origin = self.origin_or_now();
        let one_less = |left: usize| left.checked_sub(1);
        if self.remaining(origin) == 0
            || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err()
        {
            return None;
        }
        let client_end = self.client_end.load(Ordering::Relaxed);
        if let Some(keys) = self.shift.keys() {
            let first = keys.first();
            return seal::seal(&first.name, &first.key, &self.context, origin, client_end, plain);
        }
        let Named { name, entry } = self.entry(origin)?;
        seal::seal(&name, &entry.key, &self.context, origin, client_end, plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let name = seal::name(ticket)?;
        let from_file =
            self.shift.keys().and_then(|keys| seal::open(&keys.find(&name)?.key, &self.context, ticket));
        let (session, named) = match from_file {
            Some(session) => (session, None),
            None => {
                let entry = self.shift.store.get(&name)?;
                let session = seal::open(&entry.key, &self.context, ticket)?;
                (session, Some(Named { name, entry }))
            }
        };
        self.adopt(session.origin, session.client_end, named)?;
        Some(session.plain.to_vec())
    }
}

/// TLS 1.2 session ids. With a ticketer enabled, rustls asks for nothing else here.
impl StoresServerSessions for ConnTickets {
    fn put(&self, id: Vec<u8>, plain: Vec<u8>) -> bool {
        let plain = Zeroizing::new(plain);
        let Ok(name) = Name::try_from(id.as_slice()) else {
            return false;
        };
        let origin = self.origin_or_now();
        if self.remaining(origin) == 0 || self.left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let record =
            Record { context: self.context, client_end: self.client_end.load(Ordering::Relaxed), plain };
        // The ticket that follows is sealed with this entry's key: one session, one entry.
        let Some(entry) = self.shift.store.insert(name, origin, Some(Box::new(record))) else {
            return false;
        };
        *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(Named { name, entry });
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.resume_by_id(id, self.shift.store.get(id.try_into().ok()?))
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.resume_by_id(id, self.shift.store.take(id.try_into().ok()?))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::ManualClock;
    use super::*;

    const START: u64 = 1_000_000;
    const WINDOW: u64 = 36_000;

    fn shift() -> (Arc<Shift>, Arc<ManualClock>) {
        let clock = ManualClock::new(START);
        let window = Window::from_seconds(WINDOW).unwrap();
        (Shift::new(window, 100, None, clock.clone()), clock)
    }

    fn connect(shift: &Arc<Shift>) -> Arc<ConnTickets> {
        ConnTickets::new(Arc::clone(shift), Context::ANONYMOUS)
    }

    #[test]
    fn the_lifetime_is_what_is_left_of_the_window() {
        let (shift, clock) = shift();
        let first = connect(&shift);
        let ticket = first.encrypt(b"session").unwrap();
        assert_eq!(first.lifetime(), 36_000);
        clock.advance(3600);
        let second = connect(&shift);
        assert_eq!(second.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(second.resumed_age(Some(HandshakeKind::Resumed)), Some(3600));
        assert_eq!(second.resumed_age(Some(HandshakeKind::Full)), None);
        let newer = second.encrypt(b"next").unwrap();
        assert_eq!(second.lifetime(), 32_400);
        clock.set(START + WINDOW - 1);
        let third = connect(&shift);
        assert!(third.decrypt(&newer).is_some());
        assert_eq!(third.lifetime(), 1);
        clock.advance(1);
        assert!(connect(&shift).decrypt(&newer).is_none());
        assert!(third.encrypt(b"late").is_none(), "no ticket past the window");
        assert_eq!(shift.store().len(), 1, "a chain is one entry");
    }

    #[test]
    fn coming_back_by_session_id_and_leaving_with_a_ticket_extends_nothing() {
        let (shift, clock) = shift();
        let first = connect(&shift);
        assert!(first.put(vec![9; 32], b"session".to_vec()));
        clock.set(START + WINDOW - 1);
        let second = connect(&shift);
        assert_eq!(second.get(&[9; 32]).unwrap(), b"session");
        let ticket = second.encrypt(b"session").unwrap();
        assert_eq!(second.lifetime(), 1);
        clock.advance(1);
        assert!(connect(&shift).decrypt(&ticket).is_none());
        assert!(connect(&shift).get(&[9; 32]).is_none());
        assert!(connect(&shift).take(&[9; 32]).is_none());
    }

    #[test]
    fn a_full_handshake_gives_two_tickets_a_resumption_one() {
        let (shift, _) = shift();
        let full = connect(&shift);
        let tickets: Vec<_> = std::iter::from_fn(|| full.encrypt(b"session")).take(9).collect();
        assert_eq!(tickets.len(), 2);
        let resumed = connect(&shift);
        assert!(resumed.decrypt(&tickets[1]).is_some());
        assert!(resumed.encrypt(b"session").is_some());
        assert!(resumed.encrypt(b"session").is_none());
        assert!(connect(&shift).decrypt(&tickets[0]).is_some(), "the other one is as good as before");
    }

    #[test]
    fn a_session_stays_in_its_context() {
        let (shift, _) = shift();
        let anonymous = connect(&shift);
        let ticket = anonymous.encrypt(b"session").unwrap();
        assert!(connect(&shift).put(vec![9; 32], b"session".to_vec()));
        let authenticated = ConnTickets::new(Arc::clone(&shift), Context([1; 32]));
        assert!(authenticated.decrypt(&ticket).is_none());
        assert!(authenticated.get(&[9; 32]).is_none());
    }

    #[test]
    fn a_session_ends_with_the_client_certificate() {
        let (shift, clock) = shift();
        let first = connect(&shift);
        first.client_certificate_ends(START + 100);
        let ticket = first.encrypt(b"session").unwrap();
        assert!(first.put(vec![9; 32], b"session".to_vec()));
        assert_eq!(first.lifetime(), 100);
        clock.advance(99);
        let second = connect(&shift);
        assert!(second.decrypt(&ticket).is_some());
        assert_eq!(second.lifetime(), 1);
        clock.advance(1);
        assert!(connect(&shift).decrypt(&ticket).is_none());
        assert!(connect(&shift).get(&[9; 32]).is_none());
    }

    #[test]
    fn a_ticket_from_the_future_is_refused() {
        let (shift, clock) = shift();
        let ticket = connect(&shift).encrypt(b"session").unwrap();
        clock.set(START - 60);
        let skewed = connect(&shift);
        assert!(skewed.decrypt(&ticket).is_some());
        assert_eq!(u64::from(skewed.lifetime()), WINDOW);
        clock.set(START - 61);
        assert!(connect(&shift).decrypt(&ticket).is_none());
    }

    #[test]
    fn who_is_given_none_leaves_nothing_behind() {
        let (shift, _) = shift();
        let stranger = connect(&shift);
        stranger.give_none();
        assert!(stranger.encrypt(b"session").is_none());
        assert!(!stranger.put(vec![9; 32], b"session".to_vec()));
        assert!(shift.store().is_empty());
        // Nor does a session that was taken elsewhere.
        let ticket = connect(&shift).encrypt(b"session").unwrap();
        let stranger = connect(&shift);
        stranger.give_none();
        assert!(stranger.decrypt(&ticket).is_some());
        assert!(stranger.encrypt(b"session").is_none());
    }

    #[test]
    fn an_evicted_session_takes_its_tickets_along() {
        let (shift, _) = shift();
        let ticket = connect(&shift).encrypt(b"session").unwrap();
        for _ in 0..200 {
            connect(&shift).encrypt(b"junk").unwrap();
        }
        shift.store().len();
        assert!(connect(&shift).decrypt(&ticket).is_none());
    }
}
