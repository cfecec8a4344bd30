//! Accepting connections: one socket for each address, shared by all workers, so that its queue
//! outlives none of them; one event loop for each core, so that a tunnel never changes threads.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::admission::{Arrival, Ends, Peer};
use super::balanced::{self, Introduced};
use super::shared::Shared;
use super::snapshot::Limits;
use super::{h1, https, timer};
use crate::net::accept::{BACKLOG, Setbacks, is_one_clients};
use crate::net::entrance::Entrance;
use crate::net::sockopt::prepare;
use crate::outcome::Bound;
use crate::tls::material::Serving;

/// Binds an address for all workers. Options set here are inherited by every accepted socket.
///
/// Binds an address that this machine doesn't have (yet) all the same, with a warning: at boot an interface
/// may come up after us, and the standby node of a VRRP pair gets its address only when the other one
/// fails.
///
/// # Errors
/// When the address is in use, or its port below 1024 without the right to it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdListener> {
    bind_shared(address, false)
}

/// Binds an address that overlaps with those of `others`, which are about to close: `0.0.0.0:3128` beside
/// `127.0.0.1:3128`. Both accept until the others close, so no connection is lost between them; where
/// something else fails, the others still accept.
///
/// For the moment of the bind all of them share the port (`SO_REUSEPORT`, which the kernel grants
/// among sockets of one user); nothing reads the flag of a socket that listens already.
///
/// # Errors
/// As of [`bind`].
pub(crate) fn bind_beside(address: SocketAddr, others: &[&StdListener]) -> io::Result<StdListener> {
    let share = |shared| others.iter().try_for_each(|other| sockopt::set_socket_reuseport(other, shared));
    let bound = share(true).map_err(io::Error::from).and_then(|()| bind_shared(address, true));
    share(false)?;
    bound
}

fn bind_shared(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` are two listeners.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind_early(&socket, address).map_err(|error| explain(error, address))?;
    prepare(&socket)?;
    rustix::net::listen(&socket, BACKLOG)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, false)?;
    }
    Ok(StdListener::from(socket))
}

/// Binds, also before the machine has the address.
fn bind_early(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRNOTAVAIL) => {}
        bound => return Ok(bound?),
    }
    // Tried without IP_FREEBIND first: with it the kernel doesn't say that the address is missing, and a
    // mistyped address would go unnoticed.
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

/// Ends the tasks that accept from one listener.
pub(crate) struct Stopper {
    told: CancellationToken,
    leave: Arc<AtomicBool>,
    gone: Receiver<Infallible>,
}

/// What each of these tasks holds until it has ended.
#[derive(Clone)]
pub(crate) struct Stop {
    told: CancellationToken,
    leave: Arc<AtomicBool>,
    /// Dropped with the task; when the last one goes, the stopper's channel closes.
    _here: Sender<Infallible>,
}

impl Stopper {
    /// A stopper, and what its tasks hold.
    pub(crate) fn new() -> (Self, Stop) {
        let (here, gone) = channel(1);
        let (told, leave) = (CancellationToken::new(), Arc::default());
        let stop = Stop { told, leave, _here: here };
        (Self { told: stop.told.clone(), leave: stop.leave.clone(), gone }, stop)
    }

    /// Ends them once they have accepted what waits in the queue: the socket closes with them.
    pub(crate) fn close(&self) {
        self.told.cancel();
    }

    /// Ends them at once: the socket stays, and others accept what waits in its queue.
    pub(crate) fn leave(&self) {
        self.leave.store(true, Ordering::Release);
        self.told.cancel();
    }

    /// Waits until all of them have ended.
    pub(crate) async fn ended(&mut self) {
        while self.gone.recv().await.is_some() {}
    }
}

impl Stop {
    /// Waits until the stopper ends this task.
    pub(crate) async fn told(&self) {
        self.told.cancelled().await;
    }

    /// The same for what such a task has begun, and need not wait for.
    pub(crate) fn ending(&self) -> CancellationToken {
        self.told.clone()
    }

    /// Whether the stopper ends this task.
    pub(crate) fn is_told(&self) -> bool {
        self.told.is_cancelled()
    }

    /// Whether others accept what waits in the queue.
    pub(crate) fn leaves(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }
}

/// How the connections of a proxy listener are served.
#[derive(Clone)]
pub(crate) enum Service {
    Http,
    /// A TLS handshake comes first; a reload swaps what it is made with.
    Https(Arc<ArcSwap<Serving>>),
}

impl Service {
    const fn entrance(&self) -> Entrance {
        match self {
            Self::Http => Entrance::Http,
            Self::Https(_) => Entrance::Https,
        }
    }
}

/// Accepts until `stop`, then what still waits in the queue, unless others accept that.
pub(crate) async fn accept_all(listener: StdListener, service: Service, shared: Arc<Shared>, stop: Stop) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker can't watch its listener"),
    };
    let Ok(local) = listener.local_addr() else { return };
    let mut setbacks = Setbacks::default();
    while !stop.leaves() {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.told() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                setbacks.over();
                start(stream, address, local, &service, &shared);
            }
            Err(error) => {
                shared.journal.metrics.accept_errors[service.entrance() as usize].inc();
                if setbacks.pause(&error, service.entrance().into_str()).await && stop.is_told() {
                    break;
                }
            }
        }
    }
    if !stop.leaves() {
        accept_the_rest(listener, local, &service, &shared);
    }
}

/// Accepts what waits in the queue of a listener that is about to close, so that every client that
/// connected gets an answer. We ask the kernel: the event loop may not know yet of the last clients, and a
/// close would reset their connections.
fn accept_the_rest(listener: TcpListener, local: SocketAddr, service: &Service, shared: &Arc<Shared>) {
    let Ok(listener) = listener.into_std() else { return };
    // Bounded: under load the queue is never empty, and the other workers wait for their turn.
    for _ in 0..2 * BACKLOG {
        match listener.accept() {
            Ok((stream, address)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                match stream {
                    Ok(stream) => start(stream, address, local, service, shared),
                    Err(_) => shared.journal.metrics.accept_errors[service.entrance() as usize].inc(),
                }
            }
            Err(error) if is_one_clients(&error) => {}
            Err(_) => return,
        }
    }
}

/// Counts a connection, and starts to serve it; closes one that is far over a limit.
fn start(stream: TcpStream, address: SocketAddr, local: SocketAddr, service: &Service, shared: &Arc<Shared>) {
    timer::arm();
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let (limits, balanced) = shared.entry(address.ip());
    let arrival = shared.admission.accept(service.entrance(), &limits);
    let Some(arrival) = arrival else {
        return shared.journal.turned_away(address.ip(), Bound::Connections);
    };
    let local = if local.ip().is_unspecified() { stream.local_addr().unwrap_or(local) } else { local };
    let ends = Ends { address, local };
    if !balanced {
        return begin(Introduced { stream, ends, check: false }, service, arrival, &limits, shared);
    }
    let (service, shared) = (service.clone(), shared.clone());
    tokio::spawn(async move {
        let entrance = service.entrance();
        if let Some(who) = balanced::introduced(stream, ends, entrance, &shared).await {
            timer::arm();
            begin(who, &service, arrival, &shared.limits(), &shared);
        }
    });
}

/// Counts the client of a connection, and serves it; closes one that is far over a limit.
fn begin(who: Introduced, service: &Service, arrival: Arrival, limits: &Limits, shared: &Arc<Shared>) {
    let Introduced { stream, ends: Ends { address, local }, check } = who;
    let Some((permit, over)) = arrival.of(address.ip(), limits) else {
        return shared.journal.turned_away(address.ip(), Bound::ConnectionsPerClient);
    };
    let peer = Peer { address, local, certificate: None, check, over };
    let shared = shared.clone();
    // Two spawns: a task that could be either would take as much memory as the larger.
    match service {
        Service::Http => tokio::spawn(h1::serve(stream, peer, permit, shared)),
        Service::Https(serving) => tokio::spawn(https::serve(stream, serving.clone(), peer, permit, shared)),
    };
}
