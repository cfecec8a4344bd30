//! Accepting connections: one socket for each address, shared by all workers, so that its queue
//! outlives none of them; one event loop for each core, so that a tunnel never changes threads.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::admission::Entrance;
use super::beat;
use super::gate::Gate;
use super::session::{self, Peer};
use crate::address;
use crate::metrics::Listener;
use crate::net::sockopt::prepare;

/// 500 agents log in at 9:00 sharp. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// The pause after an accept that failed for want of descriptors; retrying at once would only
/// burn the CPU that the live tunnels need.
const PAUSE: Duration = Duration::from_millis(50);
const COMPLAINT: Duration = Duration::from_secs(10);

/// Binds an address for all workers. Options set here are inherited by every accepted socket.
///
/// # Errors
/// When the address is in use or not of this machine.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` are two listeners.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    prepare(&socket)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// How a connection of a listener is served; over TLS a handshake comes first.
pub trait Service: Clone + Send + 'static {
    const LISTENER: Listener;

    fn serve(
        self,
        stream: TcpStream,
        peer: Peer,
        permit: super::admission::Permit,
        gate: Arc<Gate>,
    ) -> impl Future<Output = ()> + Send;
}

/// The plain proxy listener.
#[derive(Clone)]
pub struct Http;

impl Service for Http {
    const LISTENER: Listener = Listener::Http;

    fn serve(
        self,
        stream: TcpStream,
        peer: Peer,
        permit: super::admission::Permit,
        gate: Arc<Gate>,
    ) -> impl Future<Output = ()> + Send {
        session::serve(stream, peer, permit, gate)
    }
}

/// Accepts until `stop`, then what still waits in the queue, then closes.
pub async fn accept_all<S: Service>(
    listener: StdListener,
    service: S,
    gate: Arc<Gate>,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker can't watch its listener"),
    };
    let Ok(local) = listener.local_addr() else { return };
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            // The queue is empty: nobody who connected is left without an answer.
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => admit(stream, address, local, service.clone(), &gate),
            Err(error) => {
                gate.metrics.accept_errors[S::LISTENER as usize].inc();
                if !is_exhaustion(&error) {
                    continue; // the client was gone before it was accepted
                }
                if complained.is_none_or(|at| at.elapsed() > COMPLAINT) {
                    complained = Some(Instant::now());
                    tracing::error!(
                        event = "accept_failed",
                        listener = S::LISTENER.as_str(),
                        %error,
                        "can't accept connections; raise LimitNOFILE or limits.connections is too high"
                    );
                }
                tokio::time::sleep(PAUSE).await;
                if stop.is_cancelled() {
                    return;
                }
            }
        }
    }
}

fn admit<S: Service>(
    stream: TcpStream,
    address: SocketAddr,
    local: SocketAddr,
    service: S,
    gate: &Arc<Gate>,
) {
    beat::stir();
    let client = address::canonical(address.ip());
    let limits = gate.limits();
    let entrance =
        gate.admission.enter(client, limits.connections, limits.connections_per_client, S::LISTENER);
    match entrance {
        Entrance::Admitted(permit, over) => {
            let address = SocketAddr::new(client, address.port());
            let local = if crate::net::dialer::is_unspecified(local.ip()) {
                stream.local_addr().unwrap_or(local)
            } else {
                local
            };
            let peer = Peer { address, local, listener: S::LISTENER, certificate: None, over };
            tokio::spawn(service.serve(stream, peer, permit, gate.clone()));
        }
        Entrance::Shut => gate.metrics.denied(super::refusal::Denial::Overload),
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
