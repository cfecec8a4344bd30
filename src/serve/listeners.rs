//! The listeners of the process: their addresses, what each of them serves, and how a changed configuration
//! turns one set into the next. Binding is the only effect here; workers and the admin room accept.
//!
//! A listener is known by its address. What it serves may change over the same socket, so each keeps a
//! descriptor of its own and hands out copies. An address whose socket was passed to this process is not
//! bound: it is taken over.

mod bind;
mod fit;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};

use rustix::net::sockopt::ipv6_v6only;

use self::bind::{bind, bind_once_left, is_taken};
use self::fit::{all_fit, shares};
use super::error::ServeError;
use super::takeover::Offered;
use crate::admin::vacate;
use crate::config::{Config, collide};
use crate::net::entrance::Entrance;
use crate::net::passed::Passed;
use crate::proxy::listener::{Stop, Stopper};

/// A bound address.
struct Bound {
    kind: Entrance,
    /// The address as configured; may have port 0.
    configured: SocketAddr,
    /// The address with the port that the kernel chose.
    actual: SocketAddr,
    socket: StdListener,
    stopper: Stopper,
}

impl Bound {
    /// Whether IPv4 comes in over IPv6, which is never so over a socket of our own.
    fn has_both_families(&self) -> bool {
        self.actual.ip() == Ipv6Addr::UNSPECIFIED && ipv6_v6only(&self.socket).is_ok_and(|alone| !alone)
    }
}

/// A listener to accept from: a copy of its socket for each accept loop.
pub(super) struct Opened {
    pub kind: Entrance,
    pub address: SocketAddr,
    pub sockets: Vec<StdListener>,
    pub stop: Stop,
}

/// A listener that accepts no more once its accept loops have ended.
pub(super) struct Closed {
    pub kind: Entrance,
    pub address: SocketAddr,
    pub stopper: Stopper,
}

/// What [`Listeners::change`] has changed.
pub(super) struct Changed {
    pub opened: Vec<Opened>,
    pub closed: Vec<Closed>,
}

/// What a configuration will make of the listeners. Dropped unused, it leaves nothing behind.
pub(super) struct Change {
    steps: Vec<Step>,
}

struct Step {
    kind: Entrance,
    configured: SocketAddr,
    actual: SocketAddr,
    what: What,
}

enum What {
    /// The listener at this place goes on as it is.
    Keep(usize),
    /// Its socket serves something else from now on; copies for the new accept loops.
    Turn(usize, Vec<StdListener>),
    /// A new listener, with copies for its accept loops.
    Open(StdListener, Vec<StdListener>),
}

impl What {
    fn place(&self) -> Option<usize> {
        match self {
            Self::Keep(at) | Self::Turn(at, _) => Some(*at),
            Self::Open(..) => None,
        }
    }
}

impl Change {
    /// The addresses as they will be, in the order of the configuration.
    pub(super) fn addresses(&self) -> Vec<(Entrance, SocketAddr)> {
        self.steps.iter().map(|step| (step.kind, step.actual)).collect()
    }
}

/// What there is for an address of a configuration.
enum Found {
    /// The listener at this place.
    Here(usize),
    /// A socket, or why there is none.
    Socket(io::Result<StdListener>),
}

/// All listeners, in the order of the configuration.
pub(super) struct Listeners {
    bound: Vec<Bound>,
    /// Sockets of the service manager, which outlive this process: each has its address here.
    passed: Vec<Passed>,
    /// Sockets of the process before this one, until this one accepts.
    offered: Vec<Offered>,
    /// How many workers accept from each proxy listener.
    workers: usize,
}

impl Listeners {
    pub(super) fn new(workers: usize, passed: Vec<Passed>, offered: Vec<Offered>) -> Self {
        Self { bound: Vec::new(), passed, offered, workers }
    }

    /// The kind and address of each; two addresses where the service manager opened a socket for both families.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (Entrance, SocketAddr)> {
        self.bound.iter().flat_map(|bound| {
            let all_of_ipv4 = bound.has_both_families().then(|| (Ipv4Addr::UNSPECIFIED, bound.actual.port()));
            let addresses = std::iter::once(bound.actual).chain(all_of_ipv4.map(SocketAddr::from));
            addresses.map(|address| (bound.kind, address))
        })
    }

    /// Finds or binds a socket for each address of `config`. Leaves the listeners as they are.
    ///
    /// # Errors
    /// When one of them can't be bound, or a socket that was passed has no address there; then none is.
    pub(super) fn prepare(&self, config: &Config) -> Result<Change, ServeError> {
        let wanted = wanted(config);
        all_fit(&self.passed, &wanted)?;
        shares(&self.offered, &wanted)?;
        let places = self.places(&wanted);
        let mut leaving: Vec<(SocketAddr, &StdListener)> = self
            .bound
            .iter()
            .enumerate()
            .filter(|(at, _)| !places.contains(&Some(*at)))
            .map(|(_, bound)| (bound.actual, &bound.socket))
            .collect();
        // The process before this one leaves all its listeners.
        leaving.extend(self.offered.iter().map(|offered| (offered.passed.address, &offered.passed.socket)));
        let mut found: Vec<Found> = wanted
            .iter()
            .zip(places)
            .map(|((kind, address), place)| match (place, self.given(*kind, *address)) {
                (Some(at), _) => Found::Here(at),
                (None, Some(given)) => Found::Socket(given.try_clone()),
                (None, None) => Found::Socket(bind(*address, &leaving)),
            })
            .collect();
        if self.bound.is_empty() {
            ask_for_taken(config.admin.listen, &wanted, &leaving, &mut found);
        }
        let steps = wanted.into_iter().zip(found).map(|((kind, configured), found)| {
            let failed = |error| self.failure(kind, configured, error);
            let (actual, what) = match found {
                Found::Here(at) if self.bound[at].kind == kind => (self.bound[at].actual, What::Keep(at)),
                Found::Here(at) => {
                    let Bound { actual, socket, .. } = &self.bound[at];
                    (*actual, What::Turn(at, self.copies(kind, socket).map_err(failed)?))
                }
                Found::Socket(socket) => {
                    let socket = socket.map_err(failed)?;
                    let copies = self.copies(kind, &socket).map_err(failed)?;
                    (socket.local_addr().map_err(failed)?, What::Open(socket, copies))
                }
            };
            Ok(Step { kind, configured, actual, what })
        });
        Ok(Change { steps: steps.collect::<Result<_, ServeError>>()? })
    }

    /// For each address the place of the listener that has it already: one of the same kind if possible,
    /// else of another. A configured port 0 means any port, but keeps the one that it has.
    fn places(&self, wanted: &[(Entrance, SocketAddr)]) -> Vec<Option<usize>> {
        let fits: [fn(&Bound, Entrance, SocketAddr) -> bool; 3] = [
            |bound, kind, address| bound.actual == address && bound.kind == kind,
            |bound, _, address| bound.actual == address,
            |bound, kind, address| bound.configured == address && bound.kind == kind,
        ];
        let mut places = vec![None; wanted.len()];
        for fits in fits {
            for (at, (kind, address)) in wanted.iter().enumerate() {
                if places[at].is_none() {
                    let free = |place: &usize| !places.contains(&Some(*place));
                    places[at] =
                        (0..self.bound.len()).filter(free).find(|p| fits(&self.bound[*p], *kind, *address));
                }
            }
        }
        places
    }

    /// The socket for an address that came from elsewhere, if one did.
    fn given(&self, kind: Entrance, address: SocketAddr) -> Option<&StdListener> {
        let passed = self.passed.iter().find(|passed| passed.address == address);
        let same = |offered: &&Offered| offered.passed.address == address;
        let meant = |offered: &&Offered| offered.kind == kind && offered.configured == address;
        let offered = || self.offered.iter().find(same).or_else(|| self.offered.iter().find(meant));
        passed.or_else(|| offered().map(|offered| &offered.passed)).map(|given| &given.socket)
    }

    /// Each listener: what it serves, its address as configured, and its socket.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (Entrance, SocketAddr, &StdListener)> {
        self.bound.iter().map(|bound| (bound.kind, bound.configured, &bound.socket))
    }

    /// Ends all accept loops; the sockets stay open, and their queues with them.
    pub(super) fn leave(&mut self) -> Vec<Closed> {
        let leave = |bound: &mut Bound| {
            let stopper = std::mem::replace(&mut bound.stopper, Stopper::new().0);
            stopper.leave();
            Closed { kind: bound.kind, address: bound.actual, stopper }
        };
        self.bound.iter_mut().map(leave).collect()
    }

    /// What [`Listeners::accept_again`] needs: copies of each listener's socket.
    ///
    /// # Errors
    /// When descriptors are scarce.
    pub(super) fn spare(&self) -> io::Result<Vec<Vec<StdListener>>> {
        self.bound.iter().map(|bound| self.copies(bound.kind, &bound.socket)).collect()
    }

    /// The listeners to accept from once more, after [`Listeners::leave`].
    pub(super) fn accept_again(&mut self, spare: Vec<Vec<StdListener>>) -> Vec<Opened> {
        let open = |(bound, sockets): (&mut Bound, Vec<StdListener>)| {
            let (stopper, stop) = Stopper::new();
            bound.stopper = stopper;
            Opened { kind: bound.kind, address: bound.actual, sockets, stop }
        };
        self.bound.iter_mut().zip(spare).map(open).collect()
    }

    /// Closes this process's descriptors of all listeners: a successor has its own.
    pub(super) fn hand_over(&mut self) {
        self.bound.clear();
        self.passed.clear();
    }

    fn copies(&self, kind: Entrance, socket: &StdListener) -> io::Result<Vec<StdListener>> {
        let accepting = if matches!(kind, Entrance::Admin | Entrance::Edl) { 1 } else { self.workers };
        (0..accepting).map(|_| socket.try_clone()).collect()
    }

    fn failure(&self, kind: Entrance, address: SocketAddr, error: io::Error) -> ServeError {
        let in_the_way = || self.passed.iter().find(|passed| collide(passed.address, address));
        let hint = if error.kind() != io::ErrorKind::AddrInUse {
            String::new()
        } else if let Some(Passed { address, name, .. }) = in_the_way() {
            format!(": the service manager passed {address} ({name}); write the same address in both")
        } else {
            match self.bound.iter().find(|bound| collide(bound.actual, address)) {
                Some(Bound { kind, actual, .. }) => {
                    format!(": held by this process, which listens on {actual} for {}", kind.key())
                }
                None => {
                    format!(": another process has it, `ss -ltnp 'sport = :{}'` shows which", address.port())
                }
            }
        };
        ServeError::Bind { key: kind.key(), address, error, hint }
    }

    /// Puts a change in force. Ends the accept loops of listeners that are gone or serve something else.
    pub(super) fn change(&mut self, change: Change) -> Changed {
        self.offered.clear();
        let mut old: Vec<Option<Bound>> = std::mem::take(&mut self.bound).into_iter().map(Some).collect();
        let mut opened = Vec::new();
        for Step { kind, configured, actual, what } in change.steps {
            let before = what.place().and_then(|at| old[at].take());
            let (socket, sockets) = match (what, before) {
                (What::Keep(_), Some(bound)) => {
                    self.bound.push(Bound { configured, ..bound });
                    continue;
                }
                (What::Turn(_, sockets), Some(bound)) => {
                    bound.stopper.leave();
                    (bound.socket, sockets)
                }
                (What::Open(socket, sockets), _) => (socket, sockets),
                // Never: `places` names existing listeners, each once.
                (What::Keep(_) | What::Turn(..), None) => continue,
            };
            let (stopper, stop) = Stopper::new();
            opened.push(Opened { kind, address: actual, sockets, stop });
            self.bound.push(Bound { kind, configured, actual, socket, stopper });
        }
        Changed { opened, closed: old.into_iter().flatten().map(close).collect() }
    }

    /// Closes all listeners but that for the admin, and gives that away. Firewalls keep a list that they can't
    /// fetch. What waits in the queues of the others has been accepted once their stoppers have ended.
    pub(super) fn close_proxies(&mut self) -> Leaving {
        let (admins, proxies): (Vec<Bound>, Vec<Bound>) =
            std::mem::take(&mut self.bound).into_iter().partition(|bound| bound.kind == Entrance::Admin);
        let mut passed = std::mem::take(&mut self.passed);
        passed.retain(|passed| proxies.iter().any(|bound| bound.actual == passed.address));
        Leaving {
            admins: admins.into_iter().map(Admins).collect(),
            closed: proxies.into_iter().map(close).collect(),
            passed,
        }
    }

    /// Lets sockets of the service manager listen that a process shut which drains beside this one. A start that
    /// fails before leaves them as they are: nobody would accept from them.
    pub(super) fn listen_again(&self) {
        for passed in &self.passed {
            if let Err(error) = passed.listen() {
                let bound = self.bound.iter().find(|bound| bound.actual == passed.address);
                let listener = bound.map(|bound| bound.kind.into_str());
                tracing::error!(event = "accept_failed", listener, %error, "can't listen on {}", passed.address);
            }
        }
    }
}

/// Binds the addresses that are taken once a process has left them that was told to end, if one has them all. It leaves
/// whatever it has, so it is asked only by a start that would succeed then.
fn ask_for_taken(
    admin: SocketAddr,
    wanted: &[(Entrance, SocketAddr)],
    leaving: &[(SocketAddr, &StdListener)],
    found: &mut [Found],
) {
    let mut taken = Vec::new();
    for (at, found) in found.iter().enumerate() {
        match found {
            Found::Socket(bound) if is_taken(bound) => taken.push(at),
            Found::Socket(Err(_)) => return,
            Found::Socket(Ok(_)) | Found::Here(_) => {}
        }
    }
    let addresses: Vec<SocketAddr> = taken.iter().map(|at| wanted[*at].1).collect();
    if !taken.is_empty() && vacate::ask(admin, &addresses).unwrap_or(false) {
        for at in taken {
            found[at] = Found::Socket(bind_once_left(wanted[at].1, leaving));
        }
    }
}

/// The listeners of a process that drains.
pub(super) struct Leaving {
    pub admins: Vec<Admins>,
    /// The others.
    pub closed: Vec<Closed>,
    /// Those of the others that the service manager keeps open.
    pub passed: Vec<Passed>,
}

/// The listener for the admin of a process that drains.
pub(super) struct Admins(Bound);

impl Admins {
    pub(super) fn close(self) {
        close(self.0);
    }
}

fn close(bound: Bound) -> Closed {
    // This descriptor closes here; the port closes when the last accept loop has ended.
    let Bound { kind, actual, socket, stopper, .. } = bound;
    drop(socket);
    stopper.close();
    Closed { kind, address: actual, stopper }
}

fn wanted(config: &Config) -> Vec<(Entrance, SocketAddr)> {
    let http = config.proxy.listen.iter().map(|a| (Entrance::Http, *a));
    let https = config.tls.listen.iter().map(|a| (Entrance::Https, *a));
    let edl = config.edl.listen.iter().map(|a| (Entrance::Edl, *a));
    http.chain(https).chain([(Entrance::Admin, config.admin.listen)]).chain(edl).collect()
}
