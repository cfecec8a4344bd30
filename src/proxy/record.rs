//! What is known of one tunnel or refusal, and its one line in the log and one count in the
//! metrics at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::refusal::{Counted, Refusal};
use super::session::Peer;
use super::shared::Shared;
use crate::egress::Trace;
use crate::journal::access::{Access, Asked, Millis};
use crate::journal::metrics::RuleSeries;
use crate::outcome::{EndedBy, Outcome, Stage, WouldDeny};
use crate::policy::RuleId;
use crate::proxy::snapshot::Snapshot;
use crate::target::Target;
use crate::tunnel::relay::Meter;

/// Lives as long as the tunnel; the policy it was opened under stays alive with it. In a box from
/// the start, because every step up to the tunnel hands it on.
pub struct Record {
    pub id: u64,
    pub target: Target,
    pub snapshot: Arc<Snapshot>,
    /// How far it got; behind the way to the target its stages are `hello` and `relay`.
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
    pub fn new(
        id: u64,
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

    /// Lets through what report mode would have denied for `reason`, under no rule. The first reason
    /// is the one that would have refused it.
    pub fn report(&mut self, reason: WouldDeny, shared: &Shared) {
        shared.metrics.reported(reason);
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

    /// Counts the look-up on the way to the target, where there was one.
    pub fn resolved(&self, shared: &Shared) {
        // What was known already is no look-up.
        if let Some(took) = self.trace.dns.filter(|took| !took.is_zero()) {
            shared.metrics.dns.observe(took.as_secs_f64());
        }
    }

    /// The 200 is on its way: a tunnel lives from here.
    pub fn established(&mut self) {
        self.series().connect.observe(self.started.elapsed().as_secs_f64());
        self.series().active.inc();
        self.live = true;
    }

    /// Counts and logs the end of a tunnel.
    pub fn ended(self: Box<Self>, shared: &Shared, outcome: Outcome, by: EndedBy, moved: [u64; 2]) {
        let lived = self.started.elapsed();
        self.series().ended(outcome);
        if self.live {
            self.series().category.duration.observe(lived.as_secs_f64());
        }
        let stage = (outcome != Outcome::Ok).then_some(self.trace.stage);
        self.write(
            shared,
            Line { outcome: Some(outcome), by: Some(by), stage, moved, lived, ..Line::default() },
        );
    }

    /// Counts and logs what got no tunnel.
    pub fn refused(self: Box<Self>, shared: &Shared, refusal: &Refusal) {
        let outcome = match refusal.counted() {
            Counted::Denied(denial) => {
                shared.metrics.denied(denial);
                if shared.log_denial(self.client.ip()) {
                    let (reason, why) = (Some(refusal.reason()), Some(refusal.why()));
                    let lived = self.started.elapsed();
                    self.write(shared, Line { reason, why, lived, ..Line::default() });
                }
                return;
            }
            Counted::Failed(outcome) => outcome,
        };
        let mut record = self;
        record.detail = Some(refusal.why().into());
        record.ended(shared, outcome, EndedBy::Proxy, [0, 0]);
    }

    fn write(&self, shared: &Shared, line: Line) {
        if !self.snapshot.access {
            return;
        }
        let rule = self.rule.map(|r| &self.snapshot.policy.rules()[r.index()]);
        let unlisted = self.would_deny.is_some().then_some(crate::journal::metrics::NO_RULE);
        shared.access.write(&Access {
            time: jiff::Timestamp::now(),
            event: if line.outcome.is_some() { "tunnel" } else { "denied" },
            id: &shared.id_text(self.id),
            client: self.client,
            target: Some(Asked::Target(&self.target)),
            domain: rule.map(|r| r.pattern.as_str()).or(unlisted),
            category: rule.map(|r| r.category.as_str()).or(unlisted),
            upstream: self.trace.address,
            outcome: line.outcome.map(|o| o.into_str()),
            reason: line.reason,
            ended_by: line.by.map(|by| by.into_str()),
            stage: line.stage.map(|stage| stage.into_str()),
            sent: line.moved[0],
            received: line.moved[1],
            duration_ms: Millis(line.lived),
            dns_ms: self.trace.dns.map(Millis),
            connect_ms: self.trace.connect.map(Millis),
            would_deny: self.would_deny.map(|would| would.into_str()),
            client_cert: self.certificate.as_deref(),
            detail: line.why.as_deref().or(self.detail.as_deref()),
        });
    }
}

impl Meter for Record {
    fn moved(&self, sent: u64, received: u64) {
        if sent > 0 {
            self.series().sent.inc_by(sent);
        }
        if received > 0 {
            self.series().received.inc_by(received);
            // One task calls this: no exchange that other threads would have to see.
            if !self.answered.load(Ordering::Relaxed) {
                self.answered.store(true, Ordering::Relaxed);
                self.series().category.first_byte.observe(self.started.elapsed().as_secs_f64());
            }
        }
    }
}

impl Drop for Record {
    /// Also when a tunnel's task panics: the gauge must not keep what is gone.
    fn drop(&mut self) {
        if self.live {
            self.series().active.dec();
        }
    }
}

#[derive(Default)]
struct Line {
    outcome: Option<Outcome>,
    reason: Option<&'static str>,
    by: Option<EndedBy>,
    stage: Option<Stage>,
    moved: [u64; 2],
    lived: Duration,
    why: Option<String>,
}

/// Counts and logs a refusal that came before any decision; returns the request's id.
pub fn denied(
    shared: &Shared,
    snapshot: &Snapshot,
    peer: &Peer,
    target: Option<&str>,
    refusal: &Refusal,
) -> String {
    let id = shared.id_text(shared.next_id());
    if let Counted::Denied(denial) = refusal.counted() {
        shared.metrics.denied(denial);
    }
    if snapshot.access && shared.log_denial(peer.address.ip()) {
        shared.access.write(&Access {
            time: jiff::Timestamp::now(),
            event: "denied",
            id: &id,
            client: peer.address,
            target: target.map(Asked::Text),
            domain: None,
            category: None,
            upstream: None,
            outcome: None,
            reason: Some(refusal.reason()),
            ended_by: None,
            stage: None,
            sent: 0,
            received: 0,
            duration_ms: Millis(Duration::ZERO),
            dns_ms: None,
            connect_ms: None,
            would_deny: None,
            client_cert: peer.certificate.as_deref(),
            detail: Some(&refusal.why()),
        });
    }
    id
}
