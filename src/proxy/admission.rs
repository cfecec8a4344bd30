//! Which clients may hold a connection: the limits on all clients and on each, and the permit that counts
//! one connection for as long as it lives. A connection is counted when it is accepted, its client when it
//! is known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::fast::RandomState;
use prometheus::IntGauge;

use super::snapshot::Limits;
use crate::lock::lock;
use crate::net::entrance::Entrance;

const SHARDS: usize = 16;
/// How many connections over a limit still get a 503. Beyond that they are closed at once, or the
/// answers would be the flood.
const TOLD: usize = 64;

/// How many connections each client has.
type Clients = HashMap<IpAddr, usize, RandomState>;

pub(crate) struct Admission {
    total: AtomicUsize,
    clients: [Mutex<Clients>; SHARDS],
    gauges: [IntGauge; 2],
}

/// The two ends of a client's connection.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub address: SocketAddr,
    /// Where it reached this proxy, or the load balancer before it.
    pub local: SocketAddr,
}

/// What is known of a client before it speaks.
#[derive(Clone)]
pub(crate) struct Peer {
    pub address: SocketAddr,
    /// Where it reached this proxy, or the load balancer before it.
    pub local: SocketAddr,
    /// The subject of its certificate, where it showed one.
    pub certificate: Option<Arc<str>>,
    /// It is a load balancer that speaks for no client (PROXY protocol, LOCAL and UNKNOWN): it may ask
    /// whether this proxy is ready, and nothing else.
    pub check: bool,
    /// The limit that this client exceeds. It gets an answer that says so, and nothing else.
    pub over: Option<Limit>,
}

/// A limit that a client exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Connections(usize),
    PerClient(usize),
}

impl Admission {
    /// `gauges` show the open connections of each listener.
    pub(crate) fn new(gauges: [IntGauge; 2]) -> Arc<Self> {
        Arc::new(Self { total: AtomicUsize::new(0), clients: Default::default(), gauges })
    }

    /// Open connections, and further tunnels on them.
    pub(crate) fn occupied(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a connection when it is accepted, before its client need be known. The listener's gauge shows
    /// it for as long as it is open. None when the caller must close it at once.
    pub(crate) fn accept(self: &Arc<Self>, entrance: Entrance, limits: &Limits) -> Option<Arrival> {
        self.gauges[entrance as usize].inc();
        let total = self.count();
        let permit = Permit { admission: self.clone(), client: None, entrance };
        (total <= limits.connections + TOLD).then_some(Arrival { permit, total })
    }

    /// Counts one more; how many there are now.
    fn count(&self) -> usize {
        self.total.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts one more of a client; how many it has now.
    fn count_of(&self, client: IpAddr) -> usize {
        let mut shard = self.shard(client);
        let own = shard.entry(client).or_insert(0);
        *own += 1;
        *own
    }

    /// One has ended; its client, once that was counted.
    fn ended(&self, client: Option<IpAddr>) {
        if let Some(client) = client
            && let Entry::Occupied(mut own) = self.shard(client).entry(client)
        {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Clients> {
        // The clients of a site differ in the last byte. Nobody can fill one shard's map on purpose: it
        // hashes with a secret of its own.
        let last = match client {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        lock(&self.clients[usize::from(last) % SHARDS])
    }
}

/// A connection that is counted while its client isn't yet.
pub(crate) struct Arrival {
    permit: Permit,
    /// How many connections there were, this one included.
    total: usize,
}

impl Arrival {
    /// Counts the client. The limit is the one that it exceeds, of which its answer tells; none when the
    /// caller must close its connection at once.
    pub(crate) fn of(mut self, client: IpAddr, limits: &Limits) -> Option<(Permit, Option<Limit>)> {
        let own = self.permit.admission.count_of(client);
        self.permit.client = Some(client);
        let over = over(self.total, own, limits);
        (own <= limits.connections_per_client + TOLD).then_some((self.permit, over))
    }
}

fn over(total: usize, own: usize, limits: &Limits) -> Option<Limit> {
    let (connections, per_client) = (limits.connections, limits.connections_per_client);
    match (own > per_client, total > connections) {
        (true, _) => Some(Limit::PerClient(per_client)),
        (_, true) => Some(Limit::Connections(connections)),
        _ => None,
    }
}

/// One counted connection, until this is dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    /// None until the client is known.
    client: Option<IpAddr>,
    /// The listener whose gauge shows it.
    entrance: Entrance,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.gauges[self.entrance as usize].dec();
        self.admission.ended(self.client);
    }
}

/// The streams that live on one connection. Its permit is the place of one of them, as over HTTP/1.1, and each
/// further one takes another. No place belongs to a stream: whichever ends, one place less is taken.
pub(crate) struct Streams {
    admission: Arc<Admission>,
    client: IpAddr,
    live: AtomicUsize,
}

impl Streams {
    /// Those of a new connection of this client.
    pub(crate) fn none(admission: Arc<Admission>, client: IpAddr) -> Arc<Self> {
        Arc::new(Self { admission, client, live: AtomicUsize::new(0) })
    }

    /// Whether none lives.
    pub(crate) fn is_idle(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// Counts a stream until what this returns is dropped, and says which limit its client exceeds with it.
    pub(crate) fn begin(self: &Arc<Self>, limits: &Limits) -> (Stream, Option<Limit>) {
        let over = match self.live.fetch_add(1, Ordering::Relaxed) {
            0 => None,
            _ => over(self.admission.count(), self.admission.count_of(self.client), limits),
        };
        (Stream(self.clone()), over)
    }
}

/// One counted stream, until this is dropped.
pub(crate) struct Stream(Arc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        let Streams { admission, client, live } = &*self.0;
        // The last one leaves the connection its own place.
        if live.fetch_sub(1, Ordering::Relaxed) > 1 {
            admission.ended(Some(*client));
        }
    }
}
