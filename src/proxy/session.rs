//! What becomes of a request over either protocol:
//! admit → (read) → decide → reach → (answer) → guard → relay → record; [`super::h1`] and [`super::h2`]
//! read and answer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::Either;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Peer;
use super::answer::Plain;
use super::recognise::no_hello;
use super::record::Record;
use super::refusal::{Counted, Refusal};
use super::shared::Shared;
use super::shown;
use super::snapshot::{Grant, Snapshot};
use crate::cause::Cause;
use crate::egress::Upstream;
use crate::journal::Journal;
use crate::journal::access::{Asked, Event};
use crate::net::scratch;
use crate::outcome::{EndedBy, Outcome, Stage, WouldDeny};
use crate::policy::{By, Decision, Reason};
use crate::target::Target;
use crate::tunnel::hello::{self, Check, MAX_HELLO, Verdict};
use crate::tunnel::relay::{End, Moved, Relay, Side, is_hang_up};
use crate::tunnel::wire::Wire;

/// How long a connection that was answered may wait for its next request.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long a TLS connection may take to send the last that it has to say, such as its close_notify.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// What a negotiation may take: blocks of up to 1,032 bytes glibc keeps at hand for each thread, and for larger ones
/// it searches and merges.
#[cfg(test)]
pub(super) const NEGOTIATION: usize = 1032;

/// Runs the tunnel that a negotiation leads to, if it does; holds `place` until its end.
///
/// No `async fn`: that would keep room for its arguments beside the tunnel's for a whole shift.
/// Everything up to the tunnel lives in a box that is freed before the tunnel idles.
pub(super) fn carry<C: Wire>(
    negotiation: impl Future<Output = Option<Box<Tunnel<C>>>> + Send,
    place: impl Send,
) -> impl Future<Output = ()> + Send {
    let negotiation = Box::pin(negotiation);
    async move {
        if let Some(tunnel) = negotiation.await {
            tunnel.relay().await;
        }
        drop(place);
    }
}

/// The target of a CONNECT.
///
/// # Errors
/// With the refusal, and what may be shown of the target.
pub(super) fn asked(
    admitted: Result<(), Refusal>,
    authority: &str,
    body: bool,
) -> Result<Target, (Refusal, Option<String>)> {
    let admitted = match admitted {
        Ok(()) if body => Err(malformed("a CONNECT announces a body (Content-Length or Transfer-Encoding)")),
        admitted => admitted,
    };
    match (admitted, Target::parse_authority(authority.as_bytes())) {
        (Ok(()), Ok(target)) => Ok(target),
        (Ok(()), Err(error)) => {
            let what = format!("the CONNECT target is not host:port: {error}");
            Err((Refusal::Malformed(what), shown::target(authority)))
        }
        (Err(refusal), Ok(target)) => Err((refusal, Some(target.to_string()))),
        (Err(refusal), Err(_)) => Err((refusal, shown::target(authority))),
    }
}

pub(super) fn malformed(what: &str) -> Refusal {
    Refusal::Malformed(what.to_owned())
}

pub(super) fn admit(peer: &Peer, snapshot: &Snapshot) -> Result<(), Refusal> {
    let client = peer.address.ip().to_canonical();
    if peer.check {
        return Err(Refusal::Check(client));
    }
    if !snapshot.clients.iter().any(|net| net.contains(&client)) {
        return Err(Refusal::Client(SocketAddr::new(client, peer.address.port())));
    }
    peer.over.map_or(Ok(()), |limit| Err(Refusal::Overload(limit)))
}

/// A request that gets no tunnel. Where there is no refusal, the client has left meanwhile.
pub(crate) struct Refused {
    refusal: Option<Refusal>,
    record: Box<Record>,
}

impl Refused {
    /// Records it. The answer; none where the client has left.
    pub(super) fn answer(self, journal: &Journal, snapshot: &Snapshot) -> Option<Plain<'static>> {
        let Self { refusal, record } = self;
        let Some(refusal) = refusal else {
            record.ended(journal, Outcome::ClientReset, EndedBy::Client, Moved::default());
            return None;
        };
        let target = record.target().to_string();
        let answer = Plain::refusal(&refusal, &snapshot.name, Some(&target), record.id());
        record.refused(journal, &refusal);
        Some(answer)
    }
}

/// Records a request that is refused before the policy decides on it. The answer to it.
pub(super) fn refuse(
    peer: &Peer,
    journal: &Journal,
    snapshot: &Snapshot,
    target: Option<&str>,
    refusal: &Refusal,
) -> Plain<'static> {
    let id = journal.next_id();
    if let Counted::Denied(denial) = refusal.counted() {
        let fault = refusal.fault();
        let event = Event::new(id, peer.address, peer.certificate.as_deref(), snapshot.terms.access);
        // A limit keeps away what would be allowed: which traffic that is says how bad it is.
        let traffic = fault.and(target).and_then(|target| snapshot.traffic_of(target));
        let event = Event { target: target.map(Asked::Text), traffic, ..event };
        journal.denied(&event.denied(denial, fault, &refusal.why()));
    }
    Plain::refusal(refusal, &snapshot.name, target, id)
}

/// Asks the policy. The request has a record from here on.
///
/// # Errors
/// With the refusal to answer.
pub(crate) fn decide(
    peer: &Peer,
    journal: &Journal,
    snapshot: &Arc<Snapshot>,
    target: Target,
) -> Result<Box<Record>, Refused> {
    let started = Instant::now();
    let (grant, reported, refusal) = match snapshot.policy.decide(&target) {
        Decision::Allowed(rule, _) => (Grant::Rule(rule), None, None),
        Decision::Denied { reason: Reason::IpLiteral, by } => match snapshot.service_of(&target) {
            Some(service) => (Grant::Service(service), None, None),
            None => denied(snapshot, &target, Reason::IpLiteral, by),
        },
        Decision::Denied { reason, by } => denied(snapshot, &target, reason, by),
    };
    // What is refused all the same counts as that.
    let reported = reported.filter(|_| !snapshot.egress.bars_target(&target));
    let mut record = Record::new(journal.next_id(), peer, target, snapshot, grant, started);
    if let Some(reason) = reported {
        record.report(reason, journal);
    }
    if refusal.is_some() { Err(Refused { refusal, record }) } else { Ok(record) }
}

/// What report mode lets through, and what is refused.
fn denied(
    snapshot: &Snapshot,
    target: &Target,
    reason: Reason,
    by: Option<By<'_>>,
) -> (Grant, Option<WouldDeny>, Option<Refusal>) {
    match snapshot.lets_through(reason, target) {
        true => (Grant::Nothing, Some(reason.into()), None),
        false => {
            let rule = by.map(|by| by.pattern().to_string());
            (Grant::Nothing, None, Some(Refusal::Policy { reason, rule }))
        }
    }
}

/// Connects to the target: resolve, judge, dial. `via` are the proxies that the request came
/// through; `gone` ends it early.
///
/// # Errors
/// With the refusal to answer, or none when the client has gone.
pub(crate) async fn reach(
    mut record: Box<Record>,
    via: Option<&str>,
    (shared, snapshot): (&Shared, &Snapshot),
    gone: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<(Box<Record>, Upstream), Refused> {
    let of_catalogue = record.is_of_catalogue(snapshot);
    let (target, trace) = record.way();
    let host = &target.host;
    let within = snapshot.egress.ranges.within(of_catalogue);
    // A box of its own, gone before the answer: see `h1::negotiate`.
    let reaching = Box::pin(snapshot.egress.reach(target, &within, via, &shared.own, trace));
    let reached = tokio::select! {
        biased;
        reached = reaching => reached.map_err(|why| Some(Refusal::of(why, host))),
        () = gone => Err(None),
    };
    // An answer from the cache is no look-up.
    if let Some(took) = record.trace.dns.filter(|took| !took.is_zero()) {
        shared.journal.metrics.dns.observe(took.as_secs_f64());
    }
    match reached {
        Ok(upstream) => {
            record.judge_address(&shared.journal, snapshot);
            Ok((record, upstream))
        }
        Err(refusal) => Err(Refused { refusal, record }),
    }
}

/// A tunnel whose ClientHello, where the policy asks for one, has passed.
pub(crate) struct Tunnel<C, U = TcpStream> {
    relay: Relay<C, U>,
    record: Record,
    shared: Arc<Shared>,
    _busy: TaskTrackerToken,
}

/// Checks the beginning of a tunnel, whatever its upstream is.
///
/// A tunnel over TLS to a parent proxy is also run here, to its end: its state is large anyway, and
/// all others would keep room for it. No `async fn`: that would hold the arguments twice.
pub(crate) fn guard<C: Wire>(
    client: C,
    upstream: Upstream,
    record: Box<Record>,
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    held: Vec<u8>,
    busy: TaskTrackerToken,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    match upstream {
        Upstream::Tcp(upstream) => Either::Left(hold(client, upstream, record, shared, snapshot, held, busy)),
        Upstream::Tls(upstream) => {
            let guarded = Box::pin(hold(client, upstream, record, shared, snapshot, held, busy));
            Either::Right(Box::pin(async {
                if let Some(tunnel) = guarded.await {
                    tunnel.relay().await;
                }
                None
            }))
        }
    }
}

/// Holds the first bytes until they are judged; what passes goes upstream unchanged.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
fn hold<C: Wire, U: Wire>(
    mut client: C,
    mut upstream: U,
    mut record: Box<Record>,
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    mut held: Vec<u8>,
    busy: TaskTrackerToken,
) -> impl Future<Output = Option<Box<Tunnel<C, U>>>> + Send {
    async move {
        let check = snapshot.tls;
        if check == Check::Off {
            record.trace.stage = Stage::Relay;
            return Some(Tunnel::new(Relay::new(client, upstream, &held, 0), *record, shared, busy));
        }
        record.trace.stage = Stage::Hello;
        let deadline = tokio::time::Instant::now() + snapshot.limits.header_timeout;
        let mut sent = 0;
        let mut judge = hello::Judge::default();
        let mut verdict = record.on_the_list(&snapshot, judge.judge(&held, check, &record.target().host));
        while verdict == Verdict::Incomplete {
            let (known, host) = (&record, &record.target().host);
            let read = poll_fn(|cx| {
                let mut sending = Context::from_waker(cx.waker());
                scratch::poll_read(&mut client, cx, |bytes| {
                    if bytes.is_empty() {
                        return None;
                    }
                    // A hello that comes whole is sent from this very buffer.
                    let verdict = match held.is_empty() {
                        true => known.on_the_list(&snapshot, judge.judge(bytes, check, host)),
                        false => {
                            held.extend_from_slice(bytes);
                            return Some(known.on_the_list(&snapshot, judge.judge(&held, check, host)));
                        }
                    };
                    if verdict == Verdict::Pass {
                        sent = match upstream.poll_send(&mut sending, bytes) {
                            Poll::Ready(Ok(sent)) => sent,
                            // The relay meets the same error and handles it.
                            Poll::Ready(Err(_)) | Poll::Pending => 0,
                        };
                    }
                    held.extend_from_slice(&bytes[sent..]);
                    Some(verdict)
                })
            });
            verdict = match timeout_at(deadline, read).await {
                Ok(Ok(Some(verdict))) => verdict,
                Ok(Ok(None)) if !held.is_empty() => {
                    Verdict::NotTls("the client closed within its ClientHello")
                }
                Ok(ended) => {
                    // A browser opens a connection in advance, and drops it where it doesn't need it.
                    let unused = held.is_empty() && ended.as_ref().err().is_none_or(is_hang_up);
                    let outcome = if unused { Outcome::Ok } else { Outcome::ClientReset };
                    record.ended(&shared.journal, outcome, EndedBy::Client, Moved::default());
                    return None;
                }
                Err(_) if held.is_empty() => Verdict::NotTls("the client sent nothing"),
                Err(_) => Verdict::NotTls("the ClientHello did not arrive in time"),
            };
        }
        debug_assert!(held.len() <= MAX_HELLO + scratch::SIZE);
        let fault = match verdict {
            Verdict::Pass | Verdict::Incomplete => None,
            Verdict::NotTls(what) => Some((WouldDeny::NotTls, Outcome::NotTls, no_hello(what, &held))),
            Verdict::SniMismatch(name) => {
                let named = name.unwrap_or_else(|| "no host".into());
                let detail = format!("the ClientHello names {named}");
                Some((WouldDeny::SniMismatch, Outcome::SniMismatch, detail))
            }
        };
        if let Some((reason, outcome, detail)) = fault {
            record.detail = Some(detail.into());
            // Silence is no protocol: a browser opens a connection in advance and may not need it.
            record.fault = (!held.is_empty()).then(|| Cause::ForeignProtocol.into());
            // Report mode lets bytes through; of a client that sends nothing there is nothing to let
            // through.
            if !snapshot.report || held.is_empty() {
                record.ended(&shared.journal, outcome, EndedBy::Proxy, Moved::default());
                client.reset();
                return None;
            }
            record.report(reason, &shared.journal);
            record.fault = None;
        }
        record.trace.stage = Stage::Relay;
        Some(Tunnel::new(Relay::new(client, upstream, &held, sent as u64), *record, shared, busy))
    }
}

impl<C: Wire, U: Wire> Tunnel<C, U> {
    /// Boxed, or the task would reserve room for three copies for a whole shift.
    fn new(relay: Relay<C, U>, record: Record, shared: Arc<Shared>, busy: TaskTrackerToken) -> Box<Self> {
        Box::new(Self { relay, record, shared, _busy: busy })
    }

    /// Relays until the end, and records it.
    pub(crate) async fn relay(mut self: Box<Self>) {
        let run = self.relay.run(&self.record);
        let end = self.shared.drain.unless_cut(run, self.record.seat()).await;
        match end {
            Some(end) => self.relay.finish(end).await,
            None => self.relay.abort(),
        }
        let (outcome, by) = match end {
            Some(End::Closed(side)) => (Outcome::Ok, by(side)),
            Some(End::Reset(Side::Client)) => (Outcome::ClientReset, EndedBy::Client),
            Some(End::Reset(Side::Upstream)) => (Outcome::UpstreamReset, EndedBy::Upstream),
            Some(End::Vanished(Side::Client)) => (Outcome::ClientReset, EndedBy::Proxy),
            Some(End::Vanished(Side::Upstream)) => (Outcome::UpstreamReset, EndedBy::Proxy),
            Some(End::Idle) => (Outcome::IdleTimeout, EndedBy::Proxy),
            None => (Outcome::Drained, EndedBy::Proxy),
        };
        let Self { relay, record, shared, .. } = *self;
        record.ended(&shared.journal, outcome, by, relay.moved());
    }
}

const fn by(side: Side) -> EndedBy {
    match side {
        Side::Client => EndedBy::Client,
        Side::Upstream => EndedBy::Upstream,
    }
}
