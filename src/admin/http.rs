//! A listener for people, probes and scrapers, served by hyper: its places, its time-outs, the form of its
//! answers. The caller answers the requests.
//!
//! A connection holds one of the places until it ends or has to give way. A stream (server-sent events)
//! lives for hours: it has a quota of its own and gives its place back, so that a scrape always finds one.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::ServerConfig;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::places::{Answering, Place, Places};
use crate::net::accept::Setbacks;
use crate::net::sockopt;
use crate::proxy::answer::Plain;
use crate::proxy::listener::Stop;

/// A reader that takes nothing for so long is gone: a laptop that sleeps must not hold a stream.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
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

/// Serves until `stop`. `name` stands in the log, `accept_failed` counts; where `secure` gives a
/// configuration, the next connection is TLS.
pub(super) async fn serve<F>(
    listener: StdListener,
    name: &'static str,
    accept_failed: impl Fn(),
    secure: impl Fn() -> Option<Arc<ServerConfig>>,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    stop: Stop,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "can't watch the {name} listener"),
    };
    let places = Arc::new(Places::default());
    let mut setbacks = Setbacks::default();
    loop {
        let accepted = tokio::select! {
            () = stop.told() => return,
            accepted = listener.accept() => accepted,
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
        let Ok(local) = stream.local_addr() else { continue };
        // Without it a vanished reader is noticed later.
        let _ = sockopt::give_up_after(&stream, READER_TIMEOUT);
        // Further connections wait in the kernel's queue meanwhile. One that was accepted as the listener left is
        // answered, where there is a place.
        let (place, needed) = tokio::select! {
            biased;
            place = places.take() => place,
            () = stop.told() => return,
        };
        let (ends, ending, answer) = (Ends { peer, local }, stop.ending(), answer.clone());
        match secure() {
            None => drop(tokio::spawn(connection(stream, ends, place, needed, ending, answer))),
            Some(config) => drop(tokio::spawn(async move {
                let mut needed = needed;
                let accepted = tokio::select! {
                    accepted = timeout(HEADER_TIMEOUT, TlsAcceptor::from(config).accept(stream)) => accepted,
                    Ok(()) = &mut needed => return,
                };
                // A client that goes, or doesn't trust the certificate, has said so itself.
                if let Ok(Ok(stream)) = accepted {
                    connection(stream, ends, place, needed, ending, answer).await;
                }
            })),
        }
    }
}

/// Serves one connection until it ends, or until its place is needed for somebody who asks something.
async fn connection<F: Future<Output = Answer>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ends: Ends,
    place: Place,
    needed: oneshot::Receiver<()>,
    ending: CancellationToken,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F,
) {
    let place = Arc::new(place);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        let (place, answering) = (place.clone(), place.answering());
        let answer = answer(request, ends.peer);
        async move {
            let answer = answer.await;
            if answer.extensions().get::<Endless>().is_some() {
                place.give_back();
            }
            Ok::<_, Infallible>(answer.map(|body| Held { body, _answering: answering }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ends = async {
        tokio::select! {
            // An error means that the client has gone.
            _ = connection.as_mut() => {}
            // A client that kept its connection to a listener that is gone would see another process's figures.
            () = ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    };
    tokio::select! {
        () = ends => {}
        Ok(()) = needed => {}
    }
}

/// An answer's body, whose connection keeps its place until it is handed over.
struct Held {
    body: UnsyncBoxBody<Bytes, Infallible>,
    _answering: Answering,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

/// The answer to a method other than these; `why` ends its line.
pub(super) fn not_allowed(methods: &'static str, why: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, why);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

/// The answer to a method that writes where there is nothing to write.
pub(super) fn only_reads() -> Answer {
    not_allowed("GET, HEAD", "ccpgate: only GET and HEAD\n")
}

/// The answer to a query that makes no sense.
pub(super) fn bad(why: &str) -> Answer {
    let why = why.replace(char::is_control, "?");
    text(StatusCode::BAD_REQUEST, format!("ccpgate: {why}\n"))
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

/// An answer that the proxy listeners give as well.
pub(super) fn plain(plain: Plain<'_>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(plain.body.concat())).boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(plain.status).unwrap_or_default();
    for (name, value) in plain.fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// A text of so many bytes in pieces, each of which is made when the reader takes it; without a length it is
/// compressed.
pub(super) fn pieces(
    content_type: &'static str,
    length: Option<usize>,
    pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Answer {
    let mut answer = typed(StatusCode::OK, content_type, Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let pieces: Box<dyn Iterator<Item = Vec<u8>> + Send> = match length {
        None => {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Box::new(Gzipped::new(pieces))
        }
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
            Box::new(pieces)
        }
    };
    // A long text is work for tens of milliseconds, and look-ups of names share this thread.
    let frames = stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        Ok(Frame::data(piece.into()))
    });
    *answer.body_mut() = BodyExt::boxed_unsync(StreamBody::new(frames));
    answer
}

/// Compresses pieces as they come.
struct Gzipped<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzipped<I> {
    fn new(pieces: I) -> Self {
        Self { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Gzipped<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        for piece in self.pieces.by_ref() {
            let encoder = self.encoder.as_mut()?;
            encoder.write_all(&piece).ok()?;
            if !encoder.get_ref().is_empty() {
                return Some(std::mem::take(encoder.get_mut()));
            }
        }
        self.encoder.take()?.finish().ok()
    }
}

/// Server-sent events, until `events` ends; the connection ends with them.
pub(super) fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
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
