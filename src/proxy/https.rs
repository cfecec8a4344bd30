//! The TLS listener: a handshake with sessions that last a shift, then HTTP/1.1 or HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::Permit;
use super::gate::Gate;
use super::listener::Service;
use super::session::{self, Peer};
use super::{h2, refusal};
use crate::metrics::Listener;
use crate::net::sockopt;
use crate::tls::client::subject;
use crate::tls::material::Serving;
use crate::tunnel::pipe::Pipe;
use crate::tunnel::wire::{Pulse, Wire};

/// The TLS proxy listener; what it serves with is swapped by a reload.
#[derive(Clone)]
pub struct Https(pub Arc<ArcSwap<Serving>>);

impl Service for Https {
    const LISTENER: Listener = Listener::Https;

    async fn serve(self, stream: TcpStream, mut peer: Peer, permit: Permit, gate: Arc<Gate>) {
        // Boxes: what one step needs is freed before the connection idles for a shift.
        let Some(wire) = Box::pin(handshake(stream, &self.0, &mut peer, &gate)).await else { return };
        if wire.0.get_ref().1.alpn_protocol() == Some(b"h2") {
            Box::pin(h2::serve(wire, peer, permit, gate)).await;
        } else {
            session::serve(wire, peer, permit, gate).await;
        }
    }
}

async fn handshake(
    stream: TcpStream,
    serving: &ArcSwap<Serving>,
    peer: &mut Peer,
    gate: &Gate,
) -> Option<TlsWire> {
    let serving = serving.load_full();
    let snapshot = gate.snapshot();
    let limit = snapshot.limits.header_timeout;
    let (config, tickets) = match serving.template.per_connection() {
        Ok(made) => made,
        Err(error) => {
            tracing::error!(event = "tls_failed", %error, "can't make a TLS configuration");
            return None;
        }
    };
    // Who will be refused has no session to come back with, and pushes no agent's out of the store.
    if session::admit(peer, &snapshot).is_err() {
        tickets.give_none();
    }
    let client = peer.address;
    let stream = match tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let (error, remedied) = in_words(&error);
            // Port scans and cancelled tabs end here every day. What an administrator can put right
            // is said aloud, as far as the log takes denials.
            if remedied && gate.log_denial() {
                tracing::warn!(event = "handshake_failed", %client, %error, "TLS handshake failed");
            } else {
                tracing::debug!(event = "handshake_failed", %client, %error, "TLS handshake failed");
            }
            return None;
        }
        Err(_) => {
            tracing::debug!(event = "handshake_failed", %client, "TLS handshake not finished in time");
            return None;
        }
    };
    let connection = stream.get_ref().1;
    if let Err(error) = serving.template.judge(connection) {
        tracing::warn!(event = "client_certificate", %client, %error, "refused a resumed session");
        return None;
    }
    let kind = connection.handshake_kind();
    match kind {
        Some(HandshakeKind::Resumed) => gate.metrics.tls_resumed.inc(),
        _ => gate.metrics.tls_full.inc(),
    }
    if let Some(age) = tickets.resumed_age(kind) {
        gate.metrics.tls_resumed_age.observe(age as f64);
    }
    peer.certificate = connection.peer_certificates().and_then(subject).map(Into::into);
    Some(TlsWire(Box::new(stream)))
}

/// Says what a stranger on this port probably wanted, and whether an administrator can remedy it.
fn in_words(error: &io::Error) -> (String, bool) {
    use rustls::{Error, InvalidMessage};
    let text = refusal::escaped(&error.to_string());
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            ("plain HTTP on the TLS listener: the PAC file says PROXY where it should say HTTPS".into(), true)
        }
        Some(Error::NoCertificatesPresented) => {
            ("the client shows no certificate, and tls.client_ca asks for one".into(), true)
        }
        Some(Error::InvalidCertificate(_)) => (format!("the client's certificate: {text}"), true),
        _ => (text, false),
    }
}

/// A TLS connection as an end of a tunnel. In a box: its state is over a kilobyte, and every step
/// up to the tunnel hands it on.
pub struct TlsWire(Box<TlsStream<TcpStream>>);

impl AsyncRead for TlsWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.0).poll_read(cx, buffer) {
            // Browsers close without close_notify every day: an end like any other, for what is
            // inside has TLS of its own and knows a truncation when it sees one.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for TlsWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

impl Wire for TlsWire {
    const SPLICE: bool = false;
    const BUFFERS: bool = true;

    fn poll_fill(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_drain(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    async fn gone(&self) {
        self.0.get_ref().0.gone().await;
    }

    fn pulse(&mut self, cx: &mut Context<'_>) -> Pulse {
        self.0.get_mut().0.pulse(cx)
    }

    fn failure(&self) -> io::Error {
        self.0.get_ref().0.failure()
    }

    fn undelivered(&self) -> bool {
        self.0.get_ref().0.undelivered()
    }

    fn reset(&mut self) {
        sockopt::reset_on_close(self.0.get_ref().0);
    }
}
