//! Binding an address that others may still have: listeners of our own that leave, or those of a process that was
//! told to end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use crate::config::collide;
use crate::proxy::listener;

/// How long a process that leaves its ports may take to close them.
const VACATING: Duration = Duration::from_secs(5);

/// Whether an address couldn't be bound because it is bound already.
pub(super) fn is_taken(bound: &io::Result<StdListener>) -> bool {
    bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Binds an address as soon as a process has closed it that leaves it to this one.
pub(super) fn bind_once_left(
    address: SocketAddr,
    leaving: &[(SocketAddr, &StdListener)],
) -> io::Result<StdListener> {
    let begun = Instant::now();
    loop {
        let bound = bind(address, leaving);
        if !is_taken(&bound) || begun.elapsed() >= VACATING {
            return bound;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Binds an address, beside listeners that leave where only those are in its way.
pub(super) fn bind(address: SocketAddr, leaving: &[(SocketAddr, &StdListener)]) -> io::Result<StdListener> {
    listener::bind(address).or_else(|error| {
        let in_the_way = leaving.iter().filter(|(other, _)| collide(*other, address));
        let sockets: Vec<&StdListener> = in_the_way.map(|(_, socket)| *socket).collect();
        match error.kind() {
            io::ErrorKind::AddrInUse if !sockets.is_empty() => listener::bind_beside(address, &sockets),
            _ => Err(error),
        }
    })
}
