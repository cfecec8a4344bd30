//! Socket options of a tunnel's two ends, and why each is set.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::net::sockopt;

/// Keepalive: the first probe after this silence. AWS's NAT gateways forget a flow after 350 s,
/// many firewalls after 300 s; an idle WebSocket must not look dead to either.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A peer that vanished while idle is noticed after 45 + 6 * 10 = 105 s.
const KEEPALIVE_PROBES: u32 = 6;
/// Longest pause between retransmissions. The kernel gives up after 15 of them: with the default
/// cap of 120 s that is a quarter of an hour, with this one about 80 s.
const RTO_MAX_MS: libc::c_int = 7_000;
/// The stand-in where the kernel has no `TCP_RTO_MAX_MS` (before Linux 6.15).
const USER_TIMEOUT_MS: u32 = 105_000;

const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Prepares an end of a tunnel: no Nagle delay, and a vanished peer noticed within two minutes.
///
/// `TCP_USER_TIMEOUT` would also end a peer that is there but does not read, since it counts the
/// time behind a closed window. `TCP_RTO_MAX_MS` does not: a peer that acknowledges window probes
/// lives, one that is gone is given up. On older kernels the user timeout has to do.
///
/// Set on a listener, accepted sockets inherit all of it, so a client costs no system call here.
///
/// # Errors
/// When the kernel refuses an option; the socket works without it.
pub(crate) fn prepare(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd();
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(fd, true)?;
    if set_int(fd, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, RTO_MAX_MS).is_err() {
        sockopt::set_tcp_user_timeout(fd, USER_TIMEOUT_MS)?;
    }
    Ok(())
}

/// Ends a connection whose other side takes nothing for so long: it is gone, or there and doesn't read.
///
/// # Errors
/// When the kernel refuses the option; the socket works without it.
pub(crate) fn give_up_after(socket: impl AsFd, time: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket.as_fd(), milliseconds)?)
}

/// Lets `connect` choose the local port, so that a bound source address has 28,232 ports for each
/// destination instead of for all of them together.
///
/// # Errors
/// When the kernel refuses the option; ports are scarcer then.
pub(crate) fn bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Before a connect: neither side sends more than so many bytes in one packet, TCP's options among them.
///
/// # Errors
/// When the kernel refuses the option; packets are as large as ever then.
pub(crate) fn limit_segments(socket: impl AsFd, bytes: u16) -> io::Result<()> {
    set_int(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes.into())
}

/// Makes the next close of this socket a reset instead of an orderly end.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    // On a socket that is already dead there is nothing left to reset.
    let _ = sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO));
}

/// Bytes that have come in on this connection, read or not; the other side's FIN counts as one.
pub(crate) fn received(socket: impl AsFd) -> Option<u64> {
    // Older kernels give less of `struct tcp_info` (linux/tcp.h), whose layout only ever grows.
    const OFFSET: usize = offset_of!(libc::tcp_info, tcpi_bytes_received);
    let info: [u8; OFFSET + size_of::<u64>()] = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    info.last_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// Whether bytes written to this connection have not reached the other side's kernel yet.
pub(crate) fn undelivered(socket: impl AsFd) -> bool {
    /// In segments.
    const UNACKED: usize = offset_of!(libc::tcp_info, tcpi_unacked);
    /// In bytes.
    const NOT_SENT: usize = offset_of!(libc::tcp_info, tcpi_notsent_bytes);
    let Some(info) = get::<{ NOT_SENT + 4 }>(socket, libc::IPPROTO_TCP, libc::TCP_INFO) else { return false };
    [UNACKED, NOT_SENT].iter().any(|at| info[*at..at + 4] != [0; 4])
}

/// An option of exactly so many bytes; none when the kernel has it shorter or not at all.
#[allow(unsafe_code, reason = "rustix lacks TCP_INFO")]
fn get<const N: usize>(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> Option<[u8; N]> {
    let mut value = [0; N];
    let mut length = N as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as the borrow lives; the kernel writes at most
    // `length` bytes, which is the size of the array, and every pattern of bytes is a valid array.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length)
    };
    (result == 0 && length as usize == N).then_some(value)
}

/// Sets an option that is a number.
///
/// # Errors
/// When the kernel refuses it, or doesn't have it.
#[allow(unsafe_code, reason = "rustix lacks these options")]
pub(super) fn set_int(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as the borrow lives, and the pointer is to a local
    // of exactly the length that is given; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
