//! Listening sockets that the service manager opened for this process (sd_listen_fds(3)): `LISTEN_FDS`,
//! `LISTEN_FDNAMES`, and `LISTEN_PID`, which says whom they are for.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{Shutdown, SocketType, getpeername, getsockname, listen, shutdown};

use super::accept::BACKLOG;
use super::sockopt::prepare;

/// They are taken once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A listening socket that came from elsewhere.
#[derive(Debug)]
pub(crate) struct Passed {
    pub socket: StdListener,
    pub address: SocketAddr,
    /// Where it came from: the name of its unit, or what stands for that.
    pub name: String,
    /// Nobody could wait for it without blocking, in this process or another that has it.
    pub was_blocking: bool,
}

impl Passed {
    /// Judges a descriptor. Accepted sockets inherit the options that are set here. One that a process before this one
    /// has [shut](Self::shut) is as good as one that listens.
    ///
    /// # Errors
    /// When it is no listening TCP socket, in words.
    pub(crate) fn new(fd: OwnedFd, name: String) -> Result<Self, String> {
        let is_listening = || -> io::Result<Option<SocketAddr>> {
            let is_shut = || getpeername(fd.as_fd()).is_err_and(|error| error == Errno::NOTCONN);
            if socket_type(fd.as_fd())? != SocketType::STREAM
                || !(socket_acceptconn(fd.as_fd())? || is_shut())
            {
                return Ok(None);
            }
            Ok(SocketAddr::try_from(getsockname(fd.as_fd())?).ok())
        };
        let address = is_listening().ok().flatten().ok_or_else(|| {
            format!("{name} is no listening TCP socket: ListenStream= with an IP address and a port is one")
        })?;
        let socket = StdListener::from(fd);
        let was_blocking = fcntl_getfl(&socket).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
        socket
            .set_nonblocking(true)
            .and_then(|()| prepare(&socket))
            .map_err(|error: io::Error| format!("{name} ({address}) can't be used: {error}"))?;
        Ok(Self { socket, address, name, was_blocking })
    }

    /// Refuses connections from now on, for all who have this socket: it stays open elsewhere, and they would wait in
    /// its queue.
    ///
    /// # Errors
    /// When it is shut already.
    pub(crate) fn shut(&self) -> io::Result<()> {
        Ok(shutdown(&self.socket, Shutdown::Read)?)
    }

    /// Listens again after [`Self::shut`], whoever did that.
    ///
    /// # Errors
    /// When another socket has the address by now.
    pub(crate) fn listen(&self) -> io::Result<()> {
        if !socket_acceptconn(&self.socket)? {
            listen(&self.socket, BACKLOG)?;
        }
        Ok(())
    }
}

/// The sockets that are for this process; none after the first call.
///
/// # Errors
/// When the variables make no sense, or a socket can't be used: in words, with its name.
pub(crate) fn from_manager() -> Result<Vec<Passed>, String> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let wrong = |error: io::Error| format!("LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID: {error}");
    // Names that are for another process don't count either.
    if sd_notify::listen_fds().map_err(wrong)?.len() == 0 {
        return Ok(Vec::new());
    }
    let named = sd_notify::listen_fds_with_names().map_err(wrong)?;
    named.map(|(fd, name)| Passed::new(adopt(fd), format!("{name}, descriptor {fd}"))).collect()
}

/// Owns a descriptor that the service manager passed.
#[allow(unsafe_code, reason = "the number is all that the environment gives")]
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the manager opened these numbers, from 3 on, for this very process (LISTEN_PID) before it began;
    // `from_manager` is their only reader and reads them once, so nothing else owns or closes them.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
