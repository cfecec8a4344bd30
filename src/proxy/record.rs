//! The facts of one request that the policy has judged, and what the journal is told of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::admission::Peer;
use super::refusal::{Counted, Refusal};
use super::snapshot::Snapshot;
use crate::egress::Trace;
use crate::journal::Journal;
use crate::journal::access::{Asked, Event, Millis};
use crate::journal::id::RequestId;
use crate::journal::metrics::{NO_RULE, RuleSeries};
use crate::outcome::{EndedBy, Outcome, WouldDeny};
use crate::policy::RuleId;
use crate::target::Target;
use crate::tunnel::relay::{Meter, Moved};

/// Lives as long as the tunnel, and keeps the policy alive under which it was opened. Boxed from the start,
/// because every step up to the tunnel passes it on.
pub(crate) struct Record {
    pub id: RequestId,
    pub target: Target,
    pub snapshot: Arc<Snapshot>,
    /// How far the request has come. Once the target is reached, the stages are `hello` and `relay`.
    pub trace: Trace,
    pub detail: Option<Box<str>>,
    client: SocketAddr,
    certificate: Option<Arc<str>>,
    would_deny: Option<WouldDeny>,
    rule: Option<RuleId>,
    started: Instant,
    live: bool,
    answered: AtomicBool,
}

impl Record {
    pub(crate) fn new(
        id: RequestId,
        peer: &Peer,
        target: Target,
        snapshot: &Arc<Snapshot>,
        rule: Option<RuleId>,
        started: Instant,
    ) -> Box<Self> {
        Box::new(Self {
            id,
            target,
            snapshot: snapshot.clone(),
            trace: Trace::default(),
            would_deny: None,
            detail: None,
            client: peer.address,
            certificate: peer.certificate.clone(),
            rule,
            started,
            live: false,
            answered: AtomicBool::new(false),
        })
    }

    /// Report mode: the request goes on although `reason` denies it. It belongs to no rule; only the
    /// first reason is kept.
    pub(crate) fn report(&mut self, reason: WouldDeny, journal: &Journal) {
        journal.metrics.reported(reason);
        self.would_deny.get_or_insert(reason);
        if self.live {
            self.series().active.dec();
        }
        self.rule = None;
        if self.live {
            self.series().active.inc();
        }
    }

    fn series(&self) -> &RuleSeries {
        self.snapshot.series(self.rule)
    }

    /// What is known by now, for the journal.
    fn event(&self) -> Event<'_> {
        let rule = self.rule.map(|r| &self.snapshot.policy.rules()[r.index()]);
        let unlisted = self.would_deny.is_some().then_some(NO_RULE);
        Event {
            target: Some(Asked::Target(&self.target)),
            domain: rule.map(|r| r.pattern.as_str()).or(unlisted),
            category: rule.map(|r| r.category.as_str()).or(unlisted),
            upstream: self.trace.address,
            duration_ms: Millis(self.started.elapsed()),
            dns_ms: self.trace.dns.map(Millis),
            connect_ms: self.trace.connect.map(Millis),
            would_deny: self.would_deny,
            detail: self.detail.as_deref(),
            series: Some(self.series()),
            live: self.live,
            ..Event::new(self.id, self.client, self.certificate.as_deref(), self.snapshot.access)
        }
    }

    /// The tunnel begins: its 200 is on its way.
    pub(crate) fn established(&mut self, journal: &Journal) {
        journal.began(&self.event());
        self.live = true;
    }

    /// The end of a tunnel.
    pub(crate) fn ended(self: Box<Self>, journal: &Journal, outcome: Outcome, by: EndedBy, moved: Moved) {
        let stage = (outcome != Outcome::Ok).then_some(self.trace.stage);
        let (outcome, ended_by) = (Some(outcome), Some(by));
        let Moved { sent, received } = moved;
        journal.ended(&Event { outcome, ended_by, stage, sent, received, ..self.event() });
    }

    /// The end of a request that got no tunnel.
    pub(crate) fn refused(mut self: Box<Self>, journal: &Journal, refusal: &Refusal) {
        let why = refusal.why();
        match refusal.counted() {
            Counted::Denied(denial) => journal.denied(&self.event().denied(denial, &why)),
            Counted::Failed(outcome) => {
                self.detail = Some(why.into());
                self.ended(journal, outcome, EndedBy::Proxy, Moved::default());
            }
        }
    }
}

impl Meter for Record {
    fn moved(&self, Moved { sent, received }: Moved) {
        if sent > 0 {
            self.series().sent.inc_by(sent);
        }
        if received > 0 {
            self.series().received.inc_by(received);
            // One task alone calls this, so a load and a store do; no read-modify-write is needed.
            if !self.answered.load(Ordering::Relaxed) {
                self.answered.store(true, Ordering::Relaxed);
                self.series().category.first_byte.observe(self.started.elapsed().as_secs_f64());
            }
        }
    }
}

impl Drop for Record {
    /// Runs also when a tunnel's task panics: the gauge must not go on counting that tunnel.
    fn drop(&mut self) {
        if self.live {
            self.series().active.dec();
        }
    }
}
