//! Accepting connections: one socket for each address, shared by all workers, so that its queue
//! outlives none of them; one event loop for each core, so that a tunnel never changes threads.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
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
/// An address that this machine doesn't have (yet) is bound all the same, with a warning: at boot an
/// interface may come up after us, and the standby node of a VRRP pair gets its address only when
/// the other one fails.
///
/// # Errors
/// When the address is in use, or its port below 1024 without the right to it.
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
    bind_early(&socket, address).map_err(|error| explain(error, address))?;
    prepare(&socket)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// Binds, also before the machine has the address.
fn bind_early(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRNOTAVAIL) => {}
        bound => return Ok(bound?),
    }
    // Tried without it first: with IP_FREEBIND the kernel doesn't say that the address is missing, and
    // a typing error would listen in silence.
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_freebind(socket, true)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_freebind(socket, true)?,
    }
    rustix::net::bind(socket, &address)?;
    tracing::warn!(
        event = "address_missing",
        %address,
        "listening on an address that this machine doesn't have yet; connections come once it has"
    );
    Ok(())
}

/// Adds the remedy that the kernel's words lack.
fn explain(error: io::Error, address: SocketAddr) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied || address.port() >= 1024 {
        return error;
    }
    let told = format!(
        "{error}: a port below 1024 needs the capability CAP_NET_BIND_SERVICE, which a drop-in gives \
         (deploy/README.md, \"Ports below 1024\"); or use a port from 1024 up"
    );
    io::Error::new(error.kind(), told)
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
