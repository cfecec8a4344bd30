//! A listener for people, probes and scrapers, served by hyper: its places, its time-outs, the form of its
//! answers. The caller answers the requests.
//!
//! A connection holds one of the places for as long as it lives. A stream (server-sent events) lives
//! for hours: it has a quota of its own and gives its place back, so that a scrape always finds one.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::net::accept::Setbacks;
use crate::proxy::listener::Stop;

/// Enough for scrapers, probes and a few people; a flood must not take descriptors from tunnels.
const PLACES: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Both ends of a connection to the admin listener.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
}

impl Ends {
    /// Whether the connection comes from this machine.
    pub(super) fn are_here(self) -> bool {
        let (peer, local) = (self.peer.ip().to_canonical(), self.local.ip().to_canonical());
        peer.is_loopback() || peer == local
    }
}

/// Marks an answer that goes on for as long as its reader stays.
#[derive(Clone, Copy)]
struct Endless;

/// Serves until `stop`. `name` stands in the log, `accept_failed` counts.
pub(super) async fn serve(
    listener: StdListener,
    name: &'static str,
    accept_failed: impl Fn(),
    answer: impl Fn(&Request<Incoming>) -> Answer + Clone + Send + 'static,
    stop: Stop,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "can't watch the {name} listener"),
    };
    let places = Arc::new(Semaphore::new(PLACES));
    let mut setbacks = Setbacks::default();
    loop {
        // While all places are taken, further connections wait in the kernel's queue.
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.told() => return,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed();
                setbacks.pause(&error, name).await;
                continue;
            }
        };
        setbacks.over();
        let answer = answer.clone();
        let Ok(local) = stream.local_addr() else { continue };
        tokio::spawn(async move {
            let place = Arc::new(Mutex::new(Some(place)));
            let held = place.clone();
            let service = service_fn(move |mut request| {
                request.extensions_mut().insert(Ends { peer, local });
                let answer = answer(&request);
                if answer.extensions().get::<Endless>().is_some() {
                    held.lock().unwrap_or_else(PoisonError::into_inner).take();
                }
                async move { Ok::<_, Infallible>(answer) }
            });
            // An error means that the client has gone.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(32 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

/// A text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

/// An answer for programs.
pub(super) fn json(value: &impl Serialize) -> Answer {
    // Plain data into memory does not fail.
    typed(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// A time as access lines write it.
pub(super) fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// An answer whose type browsers must not guess and that nobody may cache.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Server-sent events, until `events` ends; the connection ends with them.
pub(super) fn stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let mut answer = typed(StatusCode::OK, "text/event-stream; charset=utf-8", Bytes::new());
    let frames = events.map(|event| Ok(Frame::data(event)));
    *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(frames));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer.extensions_mut().insert(Endless);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_here() {
        let ends =
            |peer: &str, local: &str| Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() };
        for (peer, local, here) in [
            ("127.0.0.1:5", "127.0.0.1:9128", true),
            ("[::1]:5", "[::1]:9128", true),
            ("10.1.2.3:5", "10.1.2.3:9128", true),
            ("[::ffff:10.1.2.3]:5", "10.1.2.3:9128", true),
            ("10.1.2.4:5", "10.1.2.3:9128", false),
            ("[2001:db8::2]:5", "[2001:db8::1]:9128", false),
        ] {
            assert_eq!(ends(peer, local).are_here(), here, "{peer} {local}");
        }
    }
}
