//! What the network reports about the datagrams of a socket: ICMP errors, with the address of who
//! sent them. Linux keeps them in the socket's error queue (ip(7), `IP_RECVERR`); no privilege is
//! needed, since they are about the socket's own packets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::{AddressFamily, sockopt};

use super::sockopt::set_int;

/// `struct cmsghdr` before its data; its length is a multiple of the alignment.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// `struct sock_extended_err`, then the offender's address, the longer of both kinds.
const CONTROL: usize = HEADER + size_of::<libc::sock_extended_err>() + size_of::<libc::sockaddr_in6>();

/// One error, as it was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub what: What,
    /// Who sent the ICMP error; none where this machine itself said so.
    pub by: Option<IpAddr>,
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Its hops were used up on the way.
    Expired,
    /// A filter forbids it.
    Prohibited,
    /// What it means for the socket, such as `ECONNREFUSED`.
    Errno(i32),
}

/// Lets the kernel keep what is reported about a socket's packets.
///
/// # Errors
/// When the kernel refuses the option; then [`next`] finds nothing.
pub(crate) fn keep(socket: impl AsFd) -> io::Result<()> {
    match sockopt::socket_domain(socket.as_fd())? {
        AddressFamily::INET6 => set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
        _ => set_int(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
    }
}

/// Lets packets of a socket pass so many hops.
///
/// # Errors
/// When the kernel refuses the option.
pub(crate) fn set_hops(socket: impl AsFd, hops: u8) -> io::Result<()> {
    match sockopt::socket_domain(socket.as_fd())? {
        AddressFamily::INET6 => sockopt::set_ipv6_unicast_hops(socket, Some(hops))?,
        _ => sockopt::set_ip_ttl(socket, hops.into())?,
    }
    Ok(())
}

/// Takes the oldest report off the queue. Doesn't wait.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when there is none.
pub(crate) fn next(socket: impl AsFd) -> io::Result<Report> {
    loop {
        let mut control = [0; CONTROL];
        let length = receive(socket.as_fd(), &mut control)?;
        // What can't be read is left out: it is off the queue in any case.
        if let Some(report) = control.get(..length).and_then(read) {
            return Ok(report);
        }
    }
}

/// Takes one message off the error queue; returns how much of `control` was filled.
#[allow(unsafe_code, reason = "rustix doesn't read these messages")]
fn receive(socket: impl AsFd, control: &mut [u8; CONTROL]) -> io::Result<usize> {
    // SAFETY: `msghdr` is plain data, for which zeros are valid: no name, no buffers, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: the descriptor is open for as long as the borrow lives; the kernel writes at most
    // `msg_controllen` bytes to `control`, which outlives the call, and nothing else, since no other
    // buffer is given; every pattern of bytes is a valid array.
    let result = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((message.msg_controllen as usize).min(CONTROL))
    }
}

/// Reads a control message as `struct sock_extended_err` and the address behind it
/// (linux/errqueue.h); none for another kind.
fn read(control: &[u8]) -> Option<Report> {
    let word = |at: usize| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
    let (level, kind) = (word(HEADER - 8)?, word(HEADER - 4)?);
    let of_ours = [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)];
    if !of_ours.contains(&(level, kind)) {
        return None;
    }
    let errno = word(HEADER)?;
    let [origin, type_, code, _] = *control.get(HEADER + 4..)?.first_chunk::<4>()?;
    // RFC 792 and RFC 1812 section 5.2.7.1; RFC 4443.
    let what = match (origin, type_, code) {
        (libc::SO_EE_ORIGIN_ICMP, 11, _) | (libc::SO_EE_ORIGIN_ICMP6, 3, _) => What::Expired,
        (libc::SO_EE_ORIGIN_ICMP, 3, 9 | 10 | 13) | (libc::SO_EE_ORIGIN_ICMP6, 1, 1 | 5 | 6) => {
            What::Prohibited
        }
        _ => What::Errno(errno),
    };
    let by = match origin {
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
            address(control.get(HEADER + size_of::<libc::sock_extended_err>()..)?)
        }
        _ => None,
    };
    Some(Report { what, by })
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6`; none for another kind.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)) {
        libc::AF_INET => Some(Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?))
            .map(|six| IpAddr::from(six).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_refusal_is_reported_with_who_refused() {
        for loopback in ["127.0.0.1", "::1"] {
            let loopback: IpAddr = loopback.parse().unwrap();
            let Ok(closed) = UdpSocket::bind((loopback, 0)) else { continue };
            let address = closed.local_addr().unwrap();
            let socket = UdpSocket::bind((loopback, 0)).unwrap();
            keep(&socket).unwrap();
            socket.connect(address).unwrap();
            assert_eq!(next(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(closed);
            socket.send(b"hello").unwrap();
            // Loopback answers before `send` returns.
            let report = next(&socket).unwrap();
            assert_eq!(report, Report { what: What::Errno(libc::ECONNREFUSED), by: Some(loopback) });
            assert_eq!(next(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn other_and_cut_messages_are_none() {
        let mut control = [0; CONTROL];
        assert_eq!(read(&control), None);
        control[HEADER - 4..HEADER].copy_from_slice(&libc::IP_RECVERR.to_ne_bytes());
        control[HEADER + 4] = libc::SO_EE_ORIGIN_ICMP;
        control[HEADER + 5] = 11;
        // An address of no family.
        assert_eq!(read(&control), Some(Report { what: What::Expired, by: None }));
        for cut in 0..HEADER + size_of::<libc::sock_extended_err>() {
            assert_eq!(read(&control[..cut]), None, "{cut}");
        }
    }
}
