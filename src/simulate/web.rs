//! What the region answers over TLS: pages, scripts, the API, attachments, WebSockets. By path and
//! method, whatever the host: the proxy decides about hosts.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::faults::{Fault, Faults};
use super::socket;

/// What a panel loads once: the size of a bundle as AWS serves it.
pub(crate) const SCRIPT: usize = 1 << 20;
/// The largest attachment that Amazon Connect takes.
const LARGEST: usize = 20 << 20;
/// Connections at a time: those of a thousand agents, each with forty.
const PLACES: usize = 40_000;
/// For a handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which connections a listener takes.
pub(super) enum Role {
    /// Everything but the signalling of calls. Undisturbed but for the API.
    Web,
    /// The signalling of calls, which the faults are about; with what an interceptor shows.
    Signalling { intercepted: Arc<ServerConfig> },
}

/// Accepts until it is dropped; who is connected then stays so until the runtime ends.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    role: Role,
    faults: Arc<Faults>,
) -> Infallible {
    let (role, places) = (Arc::new(role), Arc::new(Semaphore::new(PLACES)));
    loop {
        // Never closed.
        let place = places.clone().acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: those that are open end some time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (role, faults, config) = (role.clone(), faults.clone(), config.clone());
        tokio::spawn(async move {
            connection(stream, config, &role, faults).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, config: Arc<ServerConfig>, role: &Role, faults: Arc<Faults>) {
    let config = match role {
        Role::Signalling { .. } if faults.strikes(Fault::TcpReset) => {
            // Closed with the hello unread, or with this: either way a reset.
            let _ = stream.set_zero_linger();
            return;
        }
        Role::Signalling { intercepted } if faults.strikes(Fault::TlsIntercepted) => intercepted.clone(),
        Role::Signalling { .. } | Role::Web => config,
    };
    let _ = stream.set_nodelay(true);
    let accepting = tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(stream));
    let Ok(Ok(tls)) = accepting.await else { return };
    let signalling = matches!(role, Role::Signalling { .. });
    let service = service_fn(move |request| answer(request, signalling, faults.clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades();
    // A client that goes away half-way is its own affair.
    let _ = served.await;
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    request: Request<Incoming>,
    signalling: bool,
    faults: Arc<Faults>,
) -> Result<Answer, Infallible> {
    if let Some(key) = upgrade(request.headers()) {
        let accept = derive_accept_key(key.as_bytes());
        return Ok(open(request, &accept, signalling, faults).await);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // An attachment or a question of the panel; nobody looks into it.
    if Limited::new(request.into_body(), LARGEST).collect().await.is_err() {
        return Ok(said(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "at most 20 MiB"));
    }
    Ok(match method {
        Method::POST if faults.strikes(Fault::Http5xx) => {
            said(StatusCode::SERVICE_UNAVAILABLE, "application/json", r#"{"message":"Service Unavailable"}"#)
        }
        Method::POST => said(StatusCode::OK, "application/json", SNAPSHOT),
        Method::PUT => said(StatusCode::OK, "text/plain", ""),
        Method::GET | Method::HEAD if path.starts_with("/static/") => {
            said(StatusCode::OK, "text/javascript", script())
        }
        Method::GET | Method::HEAD => said(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        _ => said(StatusCode::METHOD_NOT_ALLOWED, "text/plain", ""),
    })
}

/// What the panel asks for when it starts, in form and about in size.
const SNAPSHOT: &str = r#"{"snapshot":{"state":{"type":"routable","name":"Available"},"contacts":[],"nextState":null},"skew":0}"#;
const PAGE: &str =
    "<!doctype html><title>Amazon Connect (simulated)</title><p>A simulated page of Amazon Connect.";

fn script() -> Bytes {
    static SCRIPT_OF_SPACES: [u8; SCRIPT] = [b' '; SCRIPT];
    Bytes::from_static(&SCRIPT_OF_SPACES)
}

fn said(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The key of a request for a WebSocket.
fn upgrade(headers: &HeaderMap) -> Option<String> {
    let asked = headers.get(header::UPGRADE)?.to_str().ok()?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    asked.eq_ignore_ascii_case("websocket").then(|| key.to_owned())
}

async fn open(request: Request<Incoming>, accept: &str, signalling: bool, faults: Arc<Faults>) -> Answer {
    if signalling && faults.strikes(Fault::WsRefused) {
        return said(StatusCode::FORBIDDEN, "text/plain", "refused");
    }
    if signalling && faults.strikes(Fault::WsHung) {
        // Until the client gives up.
        return pending().await;
    }
    let cut = signalling && faults.strikes(Fault::WsCut);
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            socket::serve(TokioIo::new(upgraded), cut).await;
        }
    });
    let mut answer = said(StatusCode::SWITCHING_PROTOCOLS, "text/plain", "");
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}
