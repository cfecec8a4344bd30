//! The TLS handshake with a client of the HTTPS listener, from its first byte on, and what becomes of
//! one that fails: a count by cause, a line where an administrator can put it right, and a close that
//! lets the client read the alert.

use std::io;
use std::pin::pin;

use arc_swap::ArcSwap;
use rustls::{CipherSuite, HandshakeKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::admission::Peer;
use super::answer;
use super::in_turn;
use super::recognise::{self, More, Spoken, recognise};
use super::refusal::{Refusal, escaped};
use super::session;
use super::shared::Shared;
use crate::net::entrance::Entrance;
use crate::outcome::HandshakeFailure as Cause;
use crate::tls::client::subject;
use crate::tls::material::Serving;
use crate::tunnel::hello::{self, MAX_HELLO, Offers};
use crate::tunnel::wire::arrival::Arrival;
use crate::tunnel::wire::tls::TlsWire;

/// How many bytes of a failed client are dropped before the close.
const DROPPED: usize = 64 * 1024;
/// TLS records begin with their type: change_cipher_spec, alert, handshake, application_data, heartbeat.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
/// A fatal alert, unexpected_message (RFC 8446 §6), the answer to what isn't TLS: some clients understand
/// it.
const UNEXPECTED: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// Likewise protocol_version. The TLS library would say handshake_failure to clients that are older than the
/// extensions it asks for first, as if suites were the matter.
const TOO_OLD: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

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
    shared.journal.metrics.tls.failed(cause);
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
    let mut arrival = Arrival::new(stream);
    let mut hello = hello::Judge::default();
    let offers = loop {
        match arrival.more().await {
            Ok(1..) => {}
            // A load balancer that checks whether the port is open.
            Ok(_) | Err(_) if arrival.bytes().is_empty() => return Ok(None),
            left => {
                let error = left.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                return Err(Failed::new(&error, Some(arrival.into_tcp())));
            }
        }
        if !RECORD_TYPES.contains(&arrival.bytes()[0]) {
            return Err(not_tls(arrival).await);
        }
        match hello.offers(arrival.bytes()) {
            Ok(Some(offers)) => break offers,
            Ok(None) if arrival.bytes().len() < MAX_HELLO => {}
            // The handshake will say what is wrong with it.
            Ok(None) | Err(_) => break Offers::default(),
        }
    };
    drop(hello);
    if offers.old {
        let mut stream = arrival.into_tcp();
        let _ = stream.write_all(&TOO_OLD).await;
        return Err(Failed { stream: Some(stream), ..Failed::of(Cause::NoVersion, "") });
    }
    let (serving, snapshot) = (serving.load_full(), shared.snapshot());
    let admitted = session::admit(peer, &snapshot);
    let stranger = matches!(admitted, Err(Refusal::Client(_) | Refusal::Check(_)));
    let suites: Vec<_> = offers.suites.into_iter().map(CipherSuite::from).collect();
    let (config, tickets) = serving
        .template
        .per_connection(serving.template.offer(&suites, &offers.protocols, stranger))
        .map_err(|error| Failed::of(Cause::Internal, &format!("can't make a TLS configuration: {error}")))?;
    // A client that will be refused gets no session: it could push an agent's session out of the store.
    if admitted.is_err() {
        tickets.give_none();
    }
    arrival.settle();
    let mut accepting = pin!(arrival.accept(config));
    let accepted = match in_turn::begin(accepting.as_mut()).await {
        Some(done) => done,
        None => accepting.await,
    };
    let wire = accepted.map_err(|(error, tcp)| Failed::new(&error, Some(tcp)))?;
    let connection = wire.state();
    if let Err(error) = serving.template.verify_resumed(connection) {
        shared.journal.metrics.tls.failed(Cause::ClientCertificateBad);
        if shared.journal.takes_line_about(peer.address.ip()) {
            let client = shared.journal.shown(peer.address);
            tracing::warn!(event = "client_certificate", %client, %error, "refused a resumed session");
        }
        return Ok(None);
    }
    let kind = connection.handshake_kind();
    match kind {
        Some(HandshakeKind::Resumed) => shared.journal.metrics.tls.resumed.inc(),
        _ => shared.journal.metrics.tls.full.inc(),
    }
    if let Some(age) = tickets.resumed_age(kind) {
        shared.journal.metrics.tls.resumed_age.observe(age as f64);
    }
    peer.certificate = connection.peer_certificates().and_then(subject).map(Into::into);
    Ok(Some(wire))
}

/// Reads what came instead of TLS until its protocol is clear.
async fn not_tls(mut arrival: Arrival) -> Failed {
    let recognised = loop {
        let bytes = arrival.bytes();
        match recognise(&bytes[..bytes.len().min(recognise::ENOUGH)]) {
            Ok(spoken) => break Some(spoken),
            Err(More::MayTell) if bytes.len() < recognise::ENOUGH => {}
            Err(_) => break None,
        }
        if !matches!(arrival.more().await, Ok(1..)) {
            break None;
        }
    };
    let mut stream = arrival.into_tcp();
    let _ = stream.write_all(&UNEXPECTED).await;
    let (cause, why) = match recognised {
        Some(spoken @ Spoken::Http) => (Cause::PlainHttp, spoken.on(Entrance::Https)),
        Some(spoken) => (Cause::NotTls, spoken.on(Entrance::Https)),
        None => (Cause::NotTls, "neither TLS nor anything known"),
    };
    Failed { cause, why: why.to_owned(), aloud: recognised.is_some(), stream: Some(stream) }
}
