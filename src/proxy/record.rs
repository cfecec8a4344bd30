//! The facts of one request that the policy has judged, and what the journal is told of it.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::admission::Peer;
use super::refusal::{Counted, Refusal};
use super::snapshot::{Grant, Snapshot, Terms};
use crate::cause::Cause;
use crate::egress::Trace;
use crate::journal::Journal;
use crate::journal::access::{Asked, Event, Millis};
use crate::journal::id::RequestId;
use crate::journal::ledger::Seat;
use crate::journal::metrics::RuleSeries;
use crate::outcome::{EndedBy, Fault, Outcome, WouldDeny};
use crate::policy::Breadth;
use crate::target::Target;
use crate::tunnel::hello::Verdict;
use crate::tunnel::relay::{Meter, Moved, Patience};

/// Lives as long as the tunnel, and keeps nothing alive of the configuration under which it was opened but
/// its terms. Boxed from the start, because every step up to the tunnel passes it on.
pub(crate) struct Record {
    /// Who asked for what, under which rule, and what has moved; the ledger shows it while it lives.
    seat: Arc<Seat>,
    series: Arc<RuleSeries>,
    terms: Arc<Terms>,
    /// How far the request has come. Once the target is reached, the stages are `hello` and `relay`.
    pub trace: Trace,
    pub detail: Option<Box<str>>,
    /// Why it failed, where its outcome alone doesn't say it.
    pub fault: Option<Fault>,
    certificate: Option<Arc<str>>,
    would_deny: Option<WouldDeny>,
    /// What lets it through.
    grant: Grant,
    live: bool,
}

impl Record {
    pub(crate) fn new(
        id: RequestId,
        peer: &Peer,
        target: Target,
        snapshot: &Arc<Snapshot>,
        grant: Grant,
        started: Instant,
    ) -> Box<Self> {
        let series = snapshot.series(grant).clone();
        let shared = matches!(grant, Grant::Rule(rule) if snapshot.policy.rules()[rule.index()].breadth == Breadth::Shared);
        let labels = (series.labels.clone(), shared);
        Box::new(Self {
            seat: Arc::new(Seat::new(id, peer.address, target, labels, started)),
            series,
            terms: snapshot.terms.clone(),
            trace: Trace::default(),
            would_deny: None,
            detail: None,
            fault: None,
            certificate: peer.certificate.clone(),
            grant,
            live: false,
        })
    }

    pub(crate) fn id(&self) -> RequestId {
        self.seat.id
    }

    pub(crate) fn target(&self) -> &Target {
        &self.seat.target
    }

    /// What is read and what is written on the way to the target.
    pub(super) fn way(&mut self) -> (&Target, &mut Trace) {
        (&self.seat.target, &mut self.trace)
    }

    /// Report mode: the request goes on although `reason` denies it. It belongs to no rule; only the
    /// first reason is kept.
    pub(crate) fn report(&mut self, reason: WouldDeny, journal: &Journal) {
        journal.reported(&self.event(), reason);
        self.would_deny.get_or_insert(reason);
        self.grant = Grant::Nothing;
        let old = std::mem::replace(&mut self.series, journal.metrics.unlisted());
        let seat = Arc::new(self.seat.under((self.series.labels.clone(), false)));
        let before = std::mem::replace(&mut self.seat, seat);
        if self.live {
            journal.ledger.replaced(&before, &self.seat);
            old.leaves();
            self.series.joins();
        }
    }

    /// Whether it is allowed as one of AWS's own names.
    pub(super) fn is_of_catalogue(&self, snapshot: &Snapshot) -> bool {
        match self.grant {
            Grant::Rule(rule) => !snapshot.policy.rules()[rule.index()].is_added(),
            Grant::Service(_) | Grant::Nothing => false,
        }
    }

    /// Counts a name of AWS's that was dialled outside AWS's ranges, where `policy.ranges` lets that pass.
    /// It stays under its rule.
    pub(super) fn judge_address(&mut self, journal: &Journal, snapshot: &Snapshot) {
        let Some(address) = self.trace.address.filter(|_| self.is_of_catalogue(snapshot)) else { return };
        if snapshot.egress.strays(self.target(), address) {
            journal.reported(&self.event(), WouldDeny::OutsideRanges);
            self.would_deny.get_or_insert(WouldDeny::OutsideRanges);
        }
    }

    /// A tunnel to an address of a service may lead to any name on the list.
    pub(super) fn on_the_list(&self, snapshot: &Snapshot, verdict: Verdict) -> Verdict {
        match (&verdict, self.grant) {
            (Verdict::SniMismatch(Some(name)), Grant::Service(_))
                if snapshot.lists(name, self.target().port) =>
            {
                Verdict::Pass
            }
            _ => verdict,
        }
    }

    /// What is known by now, for the journal.
    fn event(&self) -> Event<'_> {
        self.event_at(Timestamp::now())
    }

    fn event_at(&self, now: Timestamp) -> Event<'_> {
        let Seat { id, started, .. } = *self.seat;
        let event = Event::at(now, id, self.seat.client(), self.certificate.as_deref(), self.terms.access);
        let (series, labels) = (&*self.series, &*self.seat.labels);
        // A denied request has no rule; what report mode lets through has the rule `none`.
        let ruled = self.grant != Grant::Nothing;
        let named = ruled || self.would_deny.is_some();
        Event {
            target: Some(Asked::Target(&self.seat.target)),
            domain: named.then_some(&*labels.domain),
            category: named.then_some(labels.category),
            upstream: self.trace.address,
            duration_ms: Millis(event.moment.saturating_duration_since(started)),
            dns_ms: self.trace.dns.map(Millis),
            connect_ms: self.trace.connect.map(Millis),
            would_deny: self.would_deny,
            detail: self.detail.as_deref(),
            traffic: if ruled { series.category.traffic } else { None },
            series: Some(series),
            seat: Some(&self.seat),
            live: self.live,
            ..event
        }
    }

    /// The tunnel begins: its 200 is on its way.
    pub(crate) fn established(&mut self, journal: &Journal) {
        let now = Timestamp::now();
        journal.ledger.begins(&mut self.seat, self.trace.address, now);
        journal.began(&self.event_at(now));
        self.live = true;
    }

    /// The end of a tunnel.
    pub(crate) fn ended(self, journal: &Journal, outcome: Outcome, by: EndedBy, moved: Moved) {
        let stage = (outcome != Outcome::Ok).then_some(self.trace.stage);
        let cause = self.fault.or_else(|| self.broke_off(outcome));
        let (outcome, ended_by) = (Some(outcome), Some(by));
        let Moved { sent, received } = moved;
        journal.ended(&Event { outcome, ended_by, stage, cause, sent, received, ..self.event() });
    }

    /// Why a tunnel that stood came to such an end.
    fn broke_off(&self, outcome: Outcome) -> Option<Fault> {
        match outcome {
            Outcome::UpstreamReset => Some(Cause::TunnelReset.into()),
            // Without that limit it was one that was closed on one side already.
            Outcome::IdleTimeout if !self.terms.patience.idle.is_zero() => Some(Cause::TunnelIdle.into()),
            _ => None,
        }
    }

    /// What a drain reads of its tunnel.
    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The end of a request that got no tunnel.
    pub(crate) fn refused(mut self, journal: &Journal, refusal: &Refusal) {
        let why = refusal.why();
        self.fault = refusal.fault();
        match refusal.counted() {
            Counted::Denied(denial) => journal.denied(&self.event().denied(denial, self.fault, &why)),
            Counted::Failed(outcome) => {
                self.detail = Some(why.into());
                self.ended(journal, outcome, EndedBy::Proxy, Moved::default());
            }
        }
    }
}

impl Meter for Record {
    fn patience(&self) -> Patience {
        self.terms.patience
    }

    fn moved(&self, Moved { sent, received }: Moved) {
        let (seat, series) = (&self.seat, &self.series);
        let before = seat.bytes();
        if before == [sent, received] {
            return;
        }
        series.moved(sent.saturating_sub(before[0]), received.saturating_sub(before[1]));
        if before[1] == 0 && received > 0 {
            series.category.first_byte.observe(seat.started.elapsed().as_secs_f64());
        }
        seat.has_moved(sent, received);
    }
}

impl Drop for Record {
    /// Runs also when a tunnel's task panics: the gauge must not go on counting that tunnel.
    fn drop(&mut self) {
        if self.live {
            self.series.leaves();
        }
    }
}
