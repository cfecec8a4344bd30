//! HTTP/2 on the TLS listener: every stream with CONNECT (RFC 9113 §8.5) is a tunnel with the same
//! policy, answers and outcomes as over HTTP/1.1. One bad stream fails alone.
//!
//! The h2 crate is used directly: hyper's upgrade of a CONNECT reads a reset as an orderly end,
//! can't answer one, ends the whole connection over one announced body, and gives all streams of a
//! connection one window, so that a stalled tunnel stalls them all.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use ::h2::server::{Builder, SendResponse};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::time::MissedTickBehavior;

use super::admission::{Peer, Streams};
use super::answer::{Plain, TAKEN};
use super::conditions::Conditions;
use super::desk;
use super::head;
use super::refusal::Refusal;
use super::routes::{self, Served};
use super::session::{self, FAREWELL, KEEP_ALIVE, admit, carry, guard};
use super::shared::Shared;
use super::shown;
use super::snapshot::Snapshot;
use super::timer;
use crate::desk::report::LARGEST;
use crate::net::h2::poll_room;
use crate::outcome::{EndedBy, Outcome};
use crate::tunnel::relay::Moved;
use crate::tunnel::wire::h2::H2Wire;
use crate::tunnel::wire::tls::TlsWire;
use crate::tunnel::wire::turns::Turns;

/// Tunnels of one browser at once. A panel with its CRM around it holds about forty.
const STREAMS: u32 = 250;
/// How much of our memory a tunnel can hold while its upstream takes nothing.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Room for all streams at once: a stalled one never takes the others' share.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What waits for the client in a stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that are reset before they were looked at (Rapid Reset, CVE-2023-44487).
const EARLY_RESETS: usize = 50;
/// RFC 9113 §6.5.2: what a field counts in a header list beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// Serves one connection until it ends.
pub(super) async fn serve(client: TlsWire, peer: Peer, shared: Arc<Shared>) {
    let (turns, client) = Turns::of(client);
    let snapshot = shared.snapshot();
    // The h2 crate answers a list over its limit by itself and says no reason. Its limit is twice ours, so
    // that all but the largest get our answer.
    let most = u32::try_from(snapshot.limits.request_header.saturating_mul(2)).unwrap_or(u32::MAX);
    let limit = snapshot.limits.header_timeout;
    drop(snapshot);
    // A box, freed before the connection idles.
    let mut handshake = Box::pin(
        Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(most)
            .max_pending_accept_reset_streams(EARLY_RESETS)
            .max_concurrent_reset_streams(EARLY_RESETS)
            .handshake::<_, Bytes>(client),
    );
    let made = poll_fn(|cx| turns.take(cx, |cx| handshake.as_mut().poll(cx)));
    let Ok(Ok(mut connection)) = tokio::time::timeout(limit, made).await else { return };
    drop(handshake);
    let streams = Streams::none(shared.admission.clone(), peer.address.ip());
    let mut leaving = false;
    // Waits from here on: to begin to wait anew for each stream would be a lock that all workers share.
    let mut begun = pin!(shared.drain.begun());
    let mut quiet = tokio::time::interval_at(tokio::time::Instant::now() + limit, KEEP_ALIVE);
    quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used = false;
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| turns.take(cx, |cx| connection.poll_accept(cx))) => next,
            () = begun.as_mut(), if !leaving => {
                // GOAWAY: no new streams, live ones go on.
                connection.graceful_shutdown();
                leaving = true;
                continue;
            }
            _ = quiet.tick() => {
                let idle = !std::mem::take(&mut used) && streams.is_idle();
                match (idle, leaving) {
                    (false, _) => {}
                    (true, false) => {
                        connection.graceful_shutdown();
                        leaving = true;
                    }
                    // The client has its GOAWAY, and neither closes nor asks for anything.
                    (true, true) => break,
                }
                continue;
            }
        };
        match next {
            Some(Ok((request, respond))) => {
                used = true;
                timer::arm();
                if peer.over.is_some() && !leaving {
                    // This limit was exceeded when the connection came. The next one is judged anew.
                    connection.graceful_shutdown();
                    leaving = true;
                }
                let mut peer = peer.clone();
                // A tunnel takes as much as a connection of its own would.
                let (stream, over) = streams.begin(&shared.limits());
                peer.over = peer.over.or(over);
                // In a box, which is freed as soon as it is read.
                let negotiation = negotiate(Box::new(request), respond, peer, shared.clone());
                tokio::spawn(carry(negotiation, stream));
            }
            // The connection failed or ended; its streams see that themselves.
            Some(Err(_)) | None => break,
        }
    }
    // Such as why it failed.
    let _ = tokio::time::timeout(FAREWELL, poll_fn(|cx| turns.poll_sent(cx))).await;
}

/// Opens what was asked for, or answers. Under a kilobyte, as over HTTP/1.1.
#[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
fn negotiate(
    request: Box<Request<RecvStream>>,
    mut respond: SendResponse<Bytes>,
    peer: Peer,
    shared: Arc<Shared>,
) -> impl Future<Output = Option<Box<session::Tunnel<H2Wire>>>> + Send {
    async move {
        let snapshot = shared.snapshot();
        let admitted = admit(&peer, &snapshot);
        let (parts, body) = (*request).into_parts();
        let limit = snapshot.limits.request_header;
        let admitted = admitted.and_then(|()| match header_list(&parts) {
            size if size > limit => Err(Refusal::HeaderSize { limit }),
            _ => Ok(()),
        });
        if parts.method != Method::CONNECT {
            Box::pin(serve_own((parts, body), admitted, respond, &peer, &shared, &snapshot)).await;
            return None;
        }
        let authority = parts.uri.authority().map_or("", |a| a.as_str());
        let announced = parts.headers.contains_key(http::header::CONTENT_LENGTH)
            || parts.headers.contains_key(http::header::TRANSFER_ENCODING);
        let target = match session::asked(admitted, authority, announced) {
            Ok(target) => target,
            Err((refusal, target)) => {
                let answer = session::refuse(&peer, &shared.journal, &snapshot, target.as_deref(), &refusal);
                Box::pin(send(&mut respond, &answer, false)).await;
                return None;
            }
        };
        let via = via(&parts.headers);
        drop(parts);
        let busy = shared.drain.busy();
        let gone = async {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
        };
        let reached = match session::decide(&peer, &shared.journal, &snapshot, target) {
            Ok(record) => session::reach(record, via.as_deref(), (&shared, &snapshot), pin!(gone)).await,
            Err(refused) => Err(refused),
        };
        let (mut record, upstream) = match reached {
            Ok(reached) => reached,
            Err(refused) => {
                // No drain waits for a client to take its answer.
                drop(busy);
                if let Some(answer) = refused.answer(&shared.journal, &snapshot) {
                    Box::pin(send(&mut respond, &answer, false)).await;
                }
                return None;
            }
        };
        let Ok(send) = respond.send_response(Response::new(()), false) else {
            record.ended(&shared.journal, Outcome::ClientReset, EndedBy::Client, Moved::default());
            return None;
        };
        record.established(&shared.journal);
        let wire = H2Wire::new(body, send);
        guard(wire, upstream, record, shared, snapshot, Vec::new(), busy).await
    }
}

/// Answers a request for this server itself, or for what it doesn't fetch.
async fn serve_own(
    (parts, body): (http::request::Parts, RecvStream),
    admitted: Result<(), Refusal>,
    mut respond: SendResponse<Bytes>,
    peer: &Peer,
    shared: &Shared,
    snapshot: &Snapshot,
) {
    let head_only = parts.method == Method::HEAD;
    let asked = as_h1(&parts);
    match routes::serve(&asked, admitted, peer, shared, snapshot) {
        Ok(Served::Answer(answer)) => send(&mut respond, &answer, head_only).await,
        Ok(Served::Report) => {
            let body = tokio::time::timeout(snapshot.limits.header_timeout, report(body)).await;
            let answer = desk::receive(body.ok().flatten(), &asked, peer, shared, snapshot);
            send(&mut respond, &answer, false).await;
        }
        Err(refusal) => {
            let target = shown::target(&asked.target);
            let answer = session::refuse(peer, &shared.journal, snapshot, target.as_deref(), &refusal);
            send(&mut respond, &answer, head_only).await;
        }
    }
}

/// The body of a report, cut one byte beyond the largest; none where the client has left.
async fn report(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data[..data.len().min(LARGEST + 1 - whole.len())]);
        if whole.len() > LARGEST {
            break;
        }
    }
    Some(whole)
}

/// The size of a header as RFC 9113 §6.5.2 counts it; what `:authority` and `:path` hold is in the URI.
fn header_list(parts: &http::request::Parts) -> usize {
    let uri = parts.uri.authority().map_or(0, |a| a.as_str().len())
        + parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
    let fields = parts.headers.iter();
    uri + fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum::<usize>()
}

/// The proxies that a request came through.
fn via(fields: &http::HeaderMap) -> Option<String> {
    let values: Vec<_> = fields
        .get_all(http::header::VIA)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The request as the h1 side would have read it. `https` in `:scheme` is this server itself; what
/// is to be fetched for the client has `http`.
fn as_h1(parts: &http::request::Parts) -> head::Request {
    let own = parts.uri.scheme_str() != Some("http");
    let target = match parts.uri.path_and_query() {
        Some(path) if own => path.as_str().to_owned(),
        _ => parts.uri.to_string(),
    };
    let field = |name: &str| parts.headers.get(name).map(http::HeaderValue::as_bytes);
    let mut browser = head::Browser::of(&target, field);
    if let Some(browser) = &mut browser {
        // The end of the stream is the end of the body, announced or not.
        browser.length.get_or_insert(0);
    }
    head::Request {
        method: parts.method.as_str().into(),
        browser,
        target: target.into(),
        host: parts.uri.authority().map(|a| a.as_str().into()),
        via: via(&parts.headers).map(Into::into),
        conditions: Some(Conditions::of(&parts.headers).into()),
        body: false,
        close: false,
    }
}

/// Sends an answer as fast as the client takes it: until then its stream has its place, and what h2 holds of it is bounded
/// by the stream's window.
async fn send(respond: &mut SendResponse<Bytes>, answer: &Plain<'_>, head_only: bool) {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.fields {
        response = response.header(*name, value);
    }
    if let Some(length) = answer.length() {
        response = response.header("content-length", length);
    }
    let Ok(response) = response.body(()) else { return };
    // A client that has gone needs no answer.
    let Ok(mut stream) = respond.send_response(response, head_only) else { return };
    if !head_only && tokio::time::timeout(TAKEN, send_body(&mut stream, &answer.body)).await.is_err() {
        stream.send_reset(Reason::CANCEL);
    }
    // Dropping the stream tells the client to stop sending (RFC 9113 §8.1), behind the answer; a
    // reset sent here would overtake and discard it.
}

/// Sends the parts of a body, and the end. Nothing more is sent to a client that has gone.
async fn send_body(stream: &mut SendStream<Bytes>, parts: &[Bytes]) {
    for part in parts {
        let mut rest = part.clone();
        while !rest.is_empty() {
            let Some(Ok(room)) = poll_fn(|cx| poll_room(stream, cx, rest.len())).await else { return };
            if stream.send_data(rest.split_to(room), false).is_err() {
                return;
            }
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size<A, B, C, D, F>(_: &impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_negotiation_takes_less_than_a_kilobyte() {
        let size = size(&negotiate);
        assert!(size <= session::NEGOTIATION, "{size}");
    }
}
