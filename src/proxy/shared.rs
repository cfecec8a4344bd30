//! What all connections share: the configuration in force, limits, the journal, the drain.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::admission::Admission;
use super::drain::Drain;
use super::snapshot::{Limits, Snapshot};
use crate::egress::own::Own;
use crate::findings::report::Report;
use crate::journal::Journal;
use crate::journal::access::AccessLog;
use crate::journal::ledger::Seat;
use crate::journal::metrics::Metrics;
use crate::journal::rate::Seldom;
use crate::ranges::current::InForce;

pub(crate) struct Shared {
    current: ArcSwap<Snapshot>,
    pub admission: Arc<Admission>,
    pub journal: Journal,
    pub drain: Drain,
    /// Which process of a row that handed their sockets on; nothing came before the first.
    pub generation: u32,
    /// Where the process listens, so that it never tunnels to itself.
    pub own: Own,
    /// AWS's address ranges; none of them until there is a good version.
    pub ranges: Arc<InForce>,
    pub(super) wrong_pac: Seldom,
}

impl Shared {
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        metrics: Arc<Metrics>,
        access: AccessLog,
        generation: u32,
    ) -> Arc<Self> {
        let journal = Journal::new(metrics.clone(), access);
        configure(&journal, &snapshot);
        Arc::new(Self {
            ranges: snapshot.egress.ranges.in_force.clone(),
            current: ArcSwap::new(snapshot),
            admission: Admission::new(metrics.client_connections.clone()),
            journal,
            drain: Drain::default(),
            generation,
            own: Own::default(),
            wrong_pac: Seldom::default(),
        })
    }

    /// The configuration in force. A request takes it once and sees no mixture.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// When the last tunnel of a process that drains will most likely have ended; none before a drain. Tunnels
    /// are taken to last as long as the longest of their category that is remembered, and those that have
    /// outlived it until they are cut.
    pub(crate) fn predicted_end(&self) -> Option<Timestamp> {
        let cut = Timestamp::from_second(self.drain.end()?).ok()?;
        let ledger = &self.journal.ledger;
        let mut longest = HashMap::new();
        for end in ledger.ended(|_| true, usize::MAX).0.items {
            let known = longest.entry(end.seat.labels.category).or_insert(end.lived);
            *known = end.lived.max(*known);
        }
        let ends = |seat: &Arc<Seat>| {
            let lived = seat.started.elapsed();
            let longest = longest.get(seat.labels.category).filter(|longest| **longest > lived)?;
            Timestamp::now().checked_add(*longest - lived).ok()
        };
        let live = ledger.live(|_| true, usize::MAX).items;
        let last = live.iter().map(|seat| ends(seat).unwrap_or(cut)).max();
        Timestamp::from_second(last.unwrap_or_else(Timestamp::now).min(cut).as_second()).ok()
    }

    /// What fails now, and for how many.
    pub(crate) fn look(&self) -> Report {
        self.journal.metrics.ranges.show(&self.ranges);
        // In this order: the questions after a reload are answered by what it brought.
        let asked = self.journal.findings.ask();
        let current = self.current.load();
        let answers = asked.answer(&current.connect, |host| current.lacks_rule(host));
        self.journal.look(answers, &current.connect)
    }

    /// Reads the counters into the history.
    pub(crate) fn remember(&self) {
        self.journal.remember(self.current.load().rules().map(|(_, series)| series));
    }

    /// The limits in force, for a single check.
    pub(crate) fn limits(&self) -> Limits {
        self.current.load().limits
    }

    /// The limits in force, and whether a load balancer is at this address, which has to say for whom it
    /// speaks.
    pub(super) fn entry(&self, address: IpAddr) -> (Limits, bool) {
        let current = self.current.load();
        (current.limits, current.balancers.iter().any(|net| net.contains(&address)))
    }

    /// Puts a new configuration in force for new requests; live tunnels keep theirs.
    pub(crate) fn replace(&self, snapshot: Arc<Snapshot>) {
        configure(&self.journal, &snapshot);
        self.current.store(snapshot);
    }
}

/// Tells the journal what it needs of a configuration that takes effect.
fn configure(journal: &Journal, snapshot: &Snapshot) {
    journal.configure(&snapshot.ledger);
    journal.metrics.put_in_force(snapshot.all_series());
    journal.metrics.connections_limit.set(i64::try_from(snapshot.limits.connections).unwrap_or(i64::MAX));
}
