//! Who may hold a connection: the limits on all clients and on each, and the permit that counts
//! one connection for as long as it lives.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;

use super::refusal::Limit;
use crate::net::entrance::Entrance;

const SHARDS: usize = 16;
/// Connections over a limit that are still told so with a 503; those beyond are closed unheard,
/// or the answers themselves would be the flood.
const TOLD: usize = 64;

pub struct Admission {
    total: AtomicUsize,
    clients: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    gauges: [IntGauge; 2],
}

/// What a new connection gets.
pub enum Admitted {
    /// Served, or told that a limit is reached.
    In(Permit, Option<Limit>),
    /// Closed at once.
    Shut,
}

impl Admission {
    /// `gauges` show the open connections of each listener.
    pub fn new(gauges: [IntGauge; 2]) -> Arc<Self> {
        Arc::new(Self { total: AtomicUsize::new(0), clients: Default::default(), gauges })
    }

    /// Open connections, and further tunnels on them.
    pub fn occupied(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a connection of `client` in; the listener's gauge shows it for as long as it is open.
    pub fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        connections: usize,
        per_client: usize,
        entrance: Entrance,
    ) -> Admitted {
        self.gauges[entrance as usize].inc();
        let (permit, total, own) = self.count(client, Some(entrance));
        if total > connections + TOLD || own > per_client + TOLD {
            return Admitted::Shut;
        }
        Admitted::In(permit, over(total, connections, own, per_client))
    }

    /// Counts in a tunnel that shares its connection with others.
    pub fn enter_beside(
        self: &Arc<Self>,
        client: IpAddr,
        connections: usize,
        per_client: usize,
    ) -> (Permit, Option<Limit>) {
        let (permit, total, own) = self.count(client, None);
        (permit, over(total, connections, own, per_client))
    }

    fn count(self: &Arc<Self>, client: IpAddr, entrance: Option<Entrance>) -> (Permit, usize, usize) {
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let mut shard = self.shard(client);
        let own = shard.entry(client).or_insert(0);
        *own += 1;
        (Permit { admission: self.clone(), client, entrance }, total, *own)
    }

    fn shard(&self, client: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Clients of a site differ in the last byte; a map hashes with a secret of its own.
        let last = match client {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        self.clients[usize::from(last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(total: usize, connections: usize, own: usize, per_client: usize) -> Option<Limit> {
    match (own > per_client, total > connections) {
        (true, _) => Some(Limit::PerClient(per_client)),
        (_, true) => Some(Limit::Connections(connections)),
        _ => None,
    }
}

/// One counted connection; dropping it counts it out.
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
    /// Shown in this listener's gauge; a tunnel beside others is not.
    entrance: Option<Entrance>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(entrance) = self.entrance {
            self.admission.gauges[entrance as usize].dec();
        }
        if let Entry::Occupied(mut own) = self.admission.shard(self.client).entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
    }
}
