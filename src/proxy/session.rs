//! One client connection, from its first byte to its tunnel's end:
//! admit → read → decide → dial → answer → guard → relay → record.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::Either;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::admission::Permit;
use super::answer::{ESTABLISHED, Plain};
use super::head::{Head, HeadError, Reader, Request};
use super::record::Record;
use super::refusal::{Counted, Limit, Refusal};
use super::routes;
use super::shared::{Busy, Shared};
use super::shown;
use crate::address;
use crate::config::TlsCheck;
use crate::egress::Upstream;
use crate::journal::access::{Asked, Event};
use crate::net::entrance::Entrance;
use crate::net::scratch;
use crate::outcome::{EndedBy, Outcome, Stage, WouldDeny};
use crate::policy::Decision;
use crate::proxy::snapshot::Snapshot;
use crate::target::Target;
use crate::tunnel::hello::{self, MAX_HELLO, Verdict};
use crate::tunnel::relay::{End, Relay, Side};
use crate::tunnel::wire::Wire;

/// How long a connection that was answered may wait for its next request.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(60);
const FAREWELL: Duration = Duration::from_millis(500);

/// What is known of a client before it speaks.
#[derive(Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// Where it reached this proxy.
    pub local: SocketAddr,
    pub entrance: Entrance,
    /// The subject of its certificate, where it showed one.
    pub certificate: Option<Arc<str>>,
    /// It came over this limit and is only told so.
    pub over: Option<Limit>,
}

/// Serves one connection; `permit` counts it until the end.
pub fn serve<C: Wire>(
    client: C,
    peer: Peer,
    permit: Permit,
    shared: Arc<Shared>,
) -> impl Future<Output = ()> + Send {
    carry(negotiate(client, peer, shared), permit)
}

/// Runs the tunnel that comes of a negotiation, if one does; `place` is held until its end.
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
            tunnel.run().await;
        }
        drop(place);
    }
}

/// Answers requests until one becomes a tunnel or the connection ends.
///
/// What a connection holds while it negotiates is kept below a kilobyte, which glibc hands out and
/// takes back without searching.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
fn negotiate<C: Wire>(
    mut client: C,
    peer: Peer,
    shared: Arc<Shared>,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    async move {
        let mut reader = Reader::default();
        let mut deadline = tokio::time::Instant::now() + shared.limits().header_timeout;
        let mut kept = false;
        loop {
            let limit = shared.limits().request_header;
            let read = timeout_at(deadline, reader.read(&mut client, limit)).await;
            // Only now: what was reloaded while a connection waited holds for its request.
            let snapshot = shared.snapshot();
            let next = match read {
                Ok(Ok(head)) => understand(head, kept, &peer, &shared, &snapshot),
                Err(_) if reader.began() => Next::refusal(Refusal::HeaderTimeout, None),
                Ok(Err(_)) | Err(_) => Next::End,
            };
            let Answer { answer, request, rest } = match next {
                Next::Tunnel(target, early) => {
                    return connect(client, &peer, &shared, snapshot, target, early).await;
                }
                Next::Answer(answer) => *answer,
                Next::Refusal { refusal, target, head_only } => {
                    let answer = denied(&peer, &shared, &snapshot, target.as_deref(), &refusal);
                    answer.send_last(&mut client, head_only).await;
                    return None;
                }
                Next::End => return None,
            };
            let sent = answer.send(&mut client, &request).await;
            if sent.is_err() || request.close || request.body {
                return None;
            }
            reader = Reader::with(rest);
            if !begins(&mut reader, &mut client, &shared).await {
                return None;
            }
            deadline = tokio::time::Instant::now() + shared.limits().header_timeout;
            kept = true;
        }
    }
}

/// What follows from a head.
enum Next {
    /// A tunnel, for which these bytes came early.
    Tunnel(Target, Vec<u8>),
    /// In a box: it is rare, and everything else is small.
    Answer(Box<Answer>),
    Refusal {
        refusal: Refusal,
        /// In a form that can be shown.
        target: Option<String>,
        /// The request was a HEAD: its answer has no body (RFC 9110 §9.3.2).
        head_only: bool,
    },
    End,
}

impl Next {
    fn refusal(refusal: Refusal, target: Option<String>) -> Self {
        Self::Refusal { refusal, target, head_only: false }
    }
}

/// An answer after which the connection may go on.
struct Answer {
    answer: Plain<'static>,
    request: Request,
    /// Bytes behind the request.
    rest: Vec<u8>,
}

/// `kept` says that the connection was answered before: it asks for more of a proxy that may be going.
fn understand(head: Head, kept: bool, peer: &Peer, shared: &Shared, snapshot: &Snapshot) -> Next {
    // Who asks comes before what is asked.
    let admitted = admit(peer, snapshot);
    let refusal = match head {
        Head::Request(request, _) if kept && shared.drain.is_draining() => {
            let head_only = &*request.method == "HEAD";
            return Next::Refusal { refusal: Refusal::Draining, target: None, head_only };
        }
        Head::Request(request, rest) => return consider(request, rest, admitted, peer, shared, snapshot),
        Head::Ended { began: false } => return Next::End,
        Head::Ended { began: true } => malformed("the connection ended within the request header"),
        Head::Bad(HeadError::Malformed(what)) => Refusal::Malformed(what),
        Head::Bad(HeadError::TooLarge) => Refusal::HeaderSize { limit: snapshot.limits.request_header },
    };
    Next::refusal(admitted.err().unwrap_or(refusal), None)
}

fn consider(
    request: Request,
    rest: Vec<u8>,
    admitted: Result<(), Refusal>,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Next {
    if &*request.method == "CONNECT" {
        return match asked(admitted, &request.target, request.body) {
            Ok(target) => Next::Tunnel(target, rest),
            Err((refusal, target)) => Next::refusal(refusal, target),
        };
    }
    match admitted.and_then(|()| routes::serve(&request, peer, shared, snapshot)) {
        Ok(answer) => Next::Answer(Box::new(Answer { answer, request, rest })),
        Err(refusal) => {
            let head_only = &*request.method == "HEAD";
            Next::Refusal { refusal, target: shown::target(&request.target), head_only }
        }
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
        Ok(()) if body => Err(malformed("a CONNECT announces a body")),
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

/// Waits for the next request of a connection that is kept alive; false when none comes.
async fn begins<C: Wire>(reader: &mut Reader, client: &mut C, shared: &Shared) -> bool {
    // It is only worth keeping while this proxy stays.
    let begins = tokio::select! {
        begins = tokio::time::timeout(KEEP_ALIVE, reader.begin(client)) => matches!(begins, Ok(Ok(true))),
        () = shared.drain.begun() => false,
    };
    if !begins {
        // TLS has a farewell of its own, without which a client may suspect a truncation.
        let _ = tokio::time::timeout(FAREWELL, client.shutdown()).await;
    }
    begins
}

pub(super) fn malformed(what: &str) -> Refusal {
    Refusal::Malformed(what.to_owned())
}

pub(super) fn admit(peer: &Peer, snapshot: &Snapshot) -> Result<(), Refusal> {
    let client = address::canonical(peer.address.ip());
    if !snapshot.clients.iter().any(|net| net.contains(&client)) {
        return Err(Refusal::Client(SocketAddr::new(client, peer.address.port())));
    }
    peer.over.map_or(Ok(()), |limit| Err(Refusal::Overload(limit)))
}

/// An allowed target with its connection.
pub struct Opened {
    pub record: Box<Record>,
    pub upstream: Upstream,
}

/// A target that gets no tunnel; without a refusal the client has left meanwhile.
pub struct Refused {
    pub refusal: Option<Refusal>,
    pub record: Box<Record>,
}

impl Refused {
    /// Counts and logs it; the answer, if anybody is left to hear it.
    pub(super) fn account(self, shared: &Shared, snapshot: &Snapshot) -> Option<Plain<'static>> {
        let Some(refusal) = self.refusal else {
            self.record.ended(&shared.journal, Outcome::ClientReset, EndedBy::Client, [0, 0]);
            return None;
        };
        let (id, target) = (self.record.id, self.record.target.to_string());
        self.record.refused(&shared.journal, &refusal);
        Some(Plain::refusal(&refusal, &snapshot.name, Some(&target), id))
    }
}

/// Counts and logs what got no further than its head; the answer to it.
pub(super) fn denied(
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
    target: Option<&str>,
    refusal: &Refusal,
) -> Plain<'static> {
    let id = shared.journal.next_id();
    if let Counted::Denied(denial) = refusal.counted() {
        let event = Event::new(id, peer.address, peer.certificate.as_deref(), snapshot.access);
        let event = Event { target: target.map(Asked::Text), ..event };
        shared.journal.denied(&event.denied(denial, &refusal.why()));
    }
    Plain::refusal(refusal, &snapshot.name, target, id)
}

/// From a target to a connection: decide, resolve, judge, dial. `gone` ends it early.
///
/// # Errors
/// With the refusal to answer, or none when the client has gone.
pub async fn open(
    peer: &Peer,
    shared: &Shared,
    snapshot: &Arc<Snapshot>,
    target: Target,
    gone: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<Opened, Refused> {
    let started = Instant::now();
    let (rule, reported, refusal) = match snapshot.policy.decide(&target) {
        Decision::Allowed(rule, _) => (Some(rule), None, None),
        Decision::Denied { reason, .. } if snapshot.lets_through(reason, &target) => {
            (None, Some(reason.into()), None)
        }
        Decision::Denied { reason, by } => {
            (None, None, Some(Refusal::Policy { reason, rule: by.map(|by| by.pattern().to_string()) }))
        }
    };
    let mut record = Record::new(shared.journal.next_id(), peer, target, snapshot, rule, started);
    if let Some(reason) = reported {
        record.report(reason, &shared.journal);
    }
    if refusal.is_some() {
        return Err(Refused { refusal, record });
    }
    let Record { target, trace, .. } = &mut *record;
    // A box of its own, gone before the answer: see `negotiate`.
    let reaching = Box::pin(snapshot.egress.reach(target, &shared.own, trace));
    let reached = tokio::select! {
        biased;
        reached = reaching => reached.map_err(|why| Some(Refusal::from(why))),
        () = gone => Err(None),
    };
    // What was known already is no look-up.
    if let Some(took) = record.trace.dns.filter(|took| !took.is_zero()) {
        shared.journal.metrics.dns.observe(took.as_secs_f64());
    }
    match reached {
        Ok(upstream) => Ok(Opened { record, upstream }),
        Err(refusal) => Err(Refused { refusal, record }),
    }
}

/// A tunnel whose ClientHello, if one is asked for, has passed.
pub struct Tunnel<C, U = TcpStream> {
    relay: Relay<C, U>,
    record: Box<Record>,
    shared: Arc<Shared>,
    _busy: Busy,
}

/// Opens what was asked for, answers, and reads the ClientHello.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
fn connect<C: Wire>(
    mut client: C,
    peer: &Peer,
    shared: &Arc<Shared>,
    snapshot: Arc<Snapshot>,
    target: Target,
    early: Vec<u8>,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    async move {
        let busy = shared.busy();
        // The leave of a client that waits for its target is only seen by asking for it.
        let opened = open(peer, shared, &snapshot, target, pin!(client.gone())).await;
        let Opened { mut record, upstream } = match opened {
            Ok(opened) => opened,
            Err(refused) => {
                if let Some(answer) = refused.account(shared, &snapshot) {
                    answer.send_last(&mut client, false).await;
                }
                return None;
            }
        };
        let written = async { client.write_all(ESTABLISHED).await.and(client.flush().await) };
        if written.await.is_err() {
            record.ended(&shared.journal, Outcome::ClientReset, EndedBy::Client, [0, 0]);
            return None;
        }
        record.established(&shared.journal);
        guard(client, upstream, record, shared.clone(), &snapshot, early, busy).await
    }
}

/// Guards the beginning of a tunnel to whichever kind of far end.
///
/// A tunnel over TLS to a parent proxy is also run here, to its end: its state is large anyway, and
/// all others would keep room for it. No `async fn`: that would hold the arguments twice.
pub fn guard<C: Wire>(
    client: C,
    upstream: Upstream,
    record: Box<Record>,
    shared: Arc<Shared>,
    snapshot: &Arc<Snapshot>,
    held: Vec<u8>,
    busy: Busy,
) -> impl Future<Output = Option<Box<Tunnel<C>>>> + Send {
    match upstream {
        Upstream::Tcp(upstream) => Either::Left(hold(client, upstream, record, shared, snapshot, held, busy)),
        Upstream::Tls(upstream) => {
            let guarded = Box::pin(hold(client, upstream, record, shared, snapshot, held, busy));
            Either::Right(Box::pin(async {
                if let Some(tunnel) = guarded.await {
                    tunnel.run().await;
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
    snapshot: &Arc<Snapshot>,
    mut held: Vec<u8>,
    busy: Busy,
) -> impl Future<Output = Option<Box<Tunnel<C, U>>>> + Send {
    async move {
        let check = snapshot.tls;
        if check == TlsCheck::Off {
            record.trace.stage = Stage::Relay;
            return Some(Tunnel::new(Relay::new(client, upstream, &held, 0), record, shared, busy));
        }
        record.trace.stage = Stage::Hello;
        let deadline = tokio::time::Instant::now() + snapshot.limits.header_timeout;
        let mut sent = 0;
        let mut judge = hello::Judge::default();
        let mut verdict = judge.judge(&held, check, &record.target.host);
        while verdict == Verdict::Incomplete {
            let host = &record.target.host;
            let read = poll_fn(|cx| {
                let mut sending = Context::from_waker(cx.waker());
                scratch::poll_read(&mut client, cx, |bytes| {
                    if bytes.is_empty() {
                        return None;
                    }
                    // A hello that comes whole goes on from this very buffer.
                    let verdict = match held.is_empty() {
                        true => judge.judge(bytes, check, host),
                        false => {
                            held.extend_from_slice(bytes);
                            return Some(judge.judge(&held, check, host));
                        }
                    };
                    if verdict == Verdict::Pass {
                        sent = match upstream.poll_send(&mut sending, bytes) {
                            Poll::Ready(Ok(sent)) => sent,
                            // The relay meets the same error, and knows what follows from it.
                            Poll::Ready(Err(_)) | Poll::Pending => 0,
                        };
                    }
                    held.extend_from_slice(&bytes[sent..]);
                    Some(verdict)
                })
            });
            verdict = match timeout_at(deadline, read).await {
                Ok(Ok(Some(verdict))) => verdict,
                Ok(Ok(None)) if held.is_empty() => {
                    record.ended(&shared.journal, Outcome::Ok, EndedBy::Client, [0, 0]);
                    return None;
                }
                Ok(Ok(None)) => Verdict::NotTls("the client closed within its ClientHello"),
                Ok(Err(_)) => {
                    record.ended(&shared.journal, Outcome::ClientReset, EndedBy::Client, [0, 0]);
                    return None;
                }
                Err(_) if held.is_empty() => Verdict::NotTls("the client sent nothing"),
                Err(_) => Verdict::NotTls("the ClientHello did not arrive in time"),
            };
        }
        debug_assert!(held.len() <= MAX_HELLO + scratch::SIZE);
        let fault = match verdict {
            Verdict::Pass | Verdict::Incomplete => None,
            Verdict::NotTls(what) => Some((WouldDeny::NotTls, Outcome::NotTls, what.to_owned())),
            Verdict::SniMismatch(name) => {
                let named = name.unwrap_or_else(|| "no host".into());
                let detail = format!("the ClientHello names {named}");
                Some((WouldDeny::SniMismatch, Outcome::SniMismatch, detail))
            }
        };
        if let Some((reason, outcome, detail)) = fault {
            record.detail = Some(detail.into());
            // Silence is no traffic that a report could show and let through.
            if !snapshot.report || held.is_empty() {
                record.ended(&shared.journal, outcome, EndedBy::Proxy, [0, 0]);
                client.reset();
                return None;
            }
            record.report(reason, &shared.journal);
        }
        record.trace.stage = Stage::Relay;
        Some(Tunnel::new(Relay::new(client, upstream, &held, sent as u64), record, shared, busy))
    }
}

impl<C: Wire, U: Wire> Tunnel<C, U> {
    /// In a box: a task that waits for a shift holds a pointer instead of three copies' room.
    fn new(relay: Relay<C, U>, record: Box<Record>, shared: Arc<Shared>, busy: Busy) -> Box<Self> {
        Box::new(Self { relay, record, shared, _busy: busy })
    }

    /// Relays until the end, and records it.
    pub async fn run(mut self: Box<Self>) {
        let patience = self.record.snapshot.patience;
        let end = self.shared.drain.unless_cut(self.relay.run(patience, &*self.record)).await;
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
