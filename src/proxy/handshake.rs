//! The TLS handshake with a client of the HTTPS listener, from its first byte on, and what becomes of
//! one that fails: a count by cause, a line where an administrator can put it right, and a close that
//! lets the client read the alert.

use std::io;

use arc_swap::ArcSwap;
use rustls::HandshakeKind;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::admission::Peer;
use super::answer;
use super::recognise::{self, More, Spoken, recognise};
use super::refusal::{Refusal, escaped};
use super::session;
use super::shared::Shared;
use crate::net::entrance::Entrance;
use crate::outcome::HandshakeFailure as Cause;
use crate::tls::client::subject;
use crate::tls::material::Serving;
use crate::tunnel::wire::socket::Socket;
use crate::tunnel::wire::tls::TlsWire;

/// How many bytes of a failed client are dropped before the close.
const DROPPED: usize = 64 * 1024;
/// TLS records begin with their type: change_cipher_spec, alert, handshake, application_data, heartbeat.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
/// A fatal alert, unexpected_message (RFC 8446 §6), the answer to what isn't TLS: some clients understand
/// it.
const UNEXPECTED: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// A handshake that failed.
struct Failed {
    cause: Cause,
    why: String,
    /// Whether it is worth a line at `warn`.
    aloud: bool,
    stream: Option<TcpStream>,
}

impl Failed {
    fn new(error: &io::Error, stream: Option<TcpStream>) -> Self {
        let text = escaped(&error.to_string());
        let cause = match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(error) => Cause::of(error),
            None => Cause::Closed,
        };
        Self { cause, why: cause.why(&text), aloud: cause.has_remedy(), stream }
    }

    fn of(cause: Cause, text: &str) -> Self {
        Self { cause, why: cause.why(text), aloud: cause.has_remedy(), stream: None }
    }
}

/// Makes the handshake; none when it fails, or when the client sends nothing.
pub(super) async fn shake_hands(
    stream: TcpStream,
    serving: &ArcSwap<Serving>,
    peer: &mut Peer,
    shared: &Shared,
) -> Option<TlsWire> {
    let deadline = Instant::now() + shared.limits().header_timeout;
    let failed = match timeout_at(deadline, attempt(stream, serving, peer, shared)).await {
        Ok(Ok(made)) => return made,
        Ok(Err(failed)) => failed,
        Err(_) => Failed::of(Cause::Timeout, ""),
    };
    let Failed { cause, why: error, aloud, stream } = failed;
    shared.journal.metrics.tls_failed(cause);
    let (client, cause) = (shared.journal.shown(peer.address), cause.into_str());
    // Port scans and cancelled tabs end here every day. An administrator reads at `warn` what
    // he can put right, as far as the log takes lines about this client.
    if aloud && shared.journal.takes_line_about(peer.address.ip()) {
        tracing::warn!(event = "handshake_failed", %client, cause, %error, "TLS handshake failed");
    } else {
        tracing::debug!(event = "handshake_failed", %client, cause, %error, "TLS handshake failed");
    }
    if let Some(mut stream) = stream {
        // So that the alert arrives.
        answer::part(&mut stream, DROPPED).await;
    }
    None
}

async fn attempt(
    stream: TcpStream,
    serving: &ArcSwap<Serving>,
    peer: &mut Peer,
    shared: &Shared,
) -> Result<Option<TlsWire>, Failed> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if RECORD_TYPES.contains(&first[0]) => {}
        Ok(1) => return Err(not_tls(stream).await),
        // A load balancer that checks whether the port is open.
        Ok(_) | Err(_) => return Ok(None),
    }
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(stream));
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) => return Err(Failed::new(&error, acceptor.take_io().map(Socket::into_tcp))),
    };
    drop(acceptor);
    let (serving, snapshot) = (serving.load_full(), shared.snapshot());
    let admitted = session::admit(peer, &snapshot);
    let stranger = matches!(admitted, Err(Refusal::Client(_) | Refusal::Check(_)));
    let (config, tickets) = serving
        .template
        .per_connection(serving.template.offer(&start.client_hello(), stranger))
        .map_err(|error| Failed::of(Cause::Internal, &format!("can't make a TLS configuration: {error}")))?;
    // A client that will be refused gets no session: it could push an agent's session out of the store.
    if admitted.is_err() {
        tickets.give_none();
    }
    let stream = start
        .into_stream(config)
        .into_fallible()
        .await
        .map_err(|(error, socket)| Failed::new(&error, Some(socket.into_tcp())))?;
    let connection = stream.get_ref().1;
    if let Err(error) = serving.template.verify_resumed(connection) {
        shared.journal.metrics.tls_failed(Cause::ClientCertificateBad);
        if shared.journal.takes_line_about(peer.address.ip()) {
            let client = shared.journal.shown(peer.address);
            tracing::warn!(event = "client_certificate", %client, %error, "refused a resumed session");
        }
        return Ok(None);
    }
    let kind = connection.handshake_kind();
    match kind {
        Some(HandshakeKind::Resumed) => shared.journal.metrics.tls_resumed.inc(),
        _ => shared.journal.metrics.tls_full.inc(),
    }
    if let Some(age) = tickets.resumed_age(kind) {
        shared.journal.metrics.tls_resumed_age.observe(age as f64);
    }
    peer.certificate = connection.peer_certificates().and_then(subject).map(Into::into);
    Ok(Some(TlsWire::new(stream)))
}

/// Reads what came instead of TLS until its protocol is clear.
async fn not_tls(mut stream: TcpStream) -> Failed {
    let mut bytes = Vec::with_capacity(recognise::ENOUGH);
    let recognised = loop {
        let mut more = [0; recognise::ENOUGH];
        match stream.read(&mut more).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&more[..count]),
            Ok(0) | Err(_) => break None,
        }
        match recognise(&bytes) {
            Ok(spoken) => break Some(spoken),
            Err(More::MayTell) if bytes.len() < recognise::ENOUGH => {}
            Err(_) => break None,
        }
    };
    let _ = stream.write_all(&UNEXPECTED).await;
    let (cause, why) = match recognised {
        Some(spoken @ Spoken::Http) => (Cause::PlainHttp, spoken.on(Entrance::Https)),
        Some(spoken) => (Cause::NotTls, spoken.on(Entrance::Https)),
        None => (Cause::NotTls, "neither TLS nor anything known"),
    };
    Failed { cause, why: why.to_owned(), aloud: recognised.is_some(), stream: Some(stream) }
}
