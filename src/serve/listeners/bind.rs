//! Binding an address that others may still have: listeners of our own that leave, or those of a process that was
//! told to end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use crate::config::collide;
use crate::proxy::listener;

/// How long a process that leaves its ports may take to close them.
const VACATING: Duration = Duration::from_secs(5);

/// Binds an address, as soon as a process has closed it that `leaves` it to one that starts.
pub(super) fn bind(
    address: SocketAddr,
    leaving: &[(SocketAddr, &StdListener)],
    leaves: impl FnOnce() -> bool,
) -> io::Result<StdListener> {
    let mut bound = bind_over(address, leaving);
    let is_taken = |bound: &io::Result<_>| {
        bound.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::AddrInUse)
    };
    if is_taken(&bound) && leaves() {
        let begun = Instant::now();
        while is_taken(&bound) && begun.elapsed() < VACATING {
            std::thread::sleep(Duration::from_millis(10));
            bound = bind_over(address, leaving);
        }
    }
    bound
}

/// Binds an address, beside listeners that leave where only those are in its way.
fn bind_over(address: SocketAddr, leaving: &[(SocketAddr, &StdListener)]) -> io::Result<StdListener> {
    listener::bind(address).or_else(|error| {
        let in_the_way = leaving.iter().filter(|(other, _)| collide(*other, address));
        let sockets: Vec<&StdListener> = in_the_way.map(|(_, socket)| *socket).collect();
        match error.kind() {
            io::ErrorKind::AddrInUse if !sockets.is_empty() => listener::bind_beside(address, &sockets),
            _ => Err(error),
        }
    })
}
