//! Connects to one of several addresses: one attempt for one address, Happy Eyeballs (RFC 8305) for
//! several. The caller has judged the addresses; exactly these are dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::dns::ResolveError;
use crate::net::resources::are_used_up;
use crate::net::sockopt;
use crate::wording::first;

/// RFC 8305 §5: the next address is tried this long after the last.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why no address took the connection. The most telling of all attempts' errors.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// None of these answered.
    #[error("connect timed out after {limit:?}{}", of(.addresses))]
    Timeout { limit: Duration, addresses: Vec<SocketAddr> },
    #[error("connection refused by {0}")]
    Refused(SocketAddr),
    /// It took the first packet and answered the connection with a reset.
    #[error("connection reset by {0}")]
    Reset(SocketAddr),
    #[error("{0} is unreachable: {1}")]
    Unreachable(SocketAddr, io::Error),
    /// This machine has no descriptor or port left; not the upstream's fault.
    #[error("this machine has no socket to spare: {0}")]
    Exhausted(io::Error),
}

impl DialError {
    fn of(address: SocketAddr, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused(address),
            Some(libc::ECONNRESET) => Self::Reset(address),
            // A machine whose IPv6 is switched off says that it has no address left; so would one
            // without a free port.
            Some(libc::EADDRNOTAVAIL) if !has_way_to(address) => Self::Unreachable(address, error),
            Some(number) if are_used_up(number) || number == libc::EADDRNOTAVAIL => Self::Exhausted(error),
            _ => Self::Unreachable(address, error),
        }
    }

    pub(super) fn timeout(limit: Duration, addresses: &[SocketAddr]) -> Self {
        Self::Timeout { limit, addresses: addresses.to_vec() }
    }

    /// Without a descriptor to ask DNS with a target fails as without one to dial with.
    ///
    /// # Errors
    /// With any other error of a look-up.
    pub(super) fn instead_of(error: ResolveError) -> Result<Self, ResolveError> {
        match error {
            ResolveError::Exhausted(number) => Ok(Self::Exhausted(io::Error::from_raw_os_error(number))),
            error => Err(error),
        }
    }

    /// The addresses that it tells of: those that were silent, or the one that answered or can't be
    /// reached. None where this machine is to blame.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Timeout { addresses, .. } => addresses,
            Self::Refused(address) | Self::Reset(address) | Self::Unreachable(address, _) => {
                std::slice::from_ref(address)
            }
            Self::Exhausted(_) => &[],
        }
    }

    /// Whether it was this machine that had no way to the address: no route, or nothing of that family.
    pub(super) fn is_of_this_machine(&self) -> bool {
        const NO_WAY: [i32; 3] = [libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT];
        matches!(self, Self::Unreachable(_, error) if error.raw_os_error().is_some_and(|code| NO_WAY.contains(&code)))
    }

    /// The more telling of two; the first one where they are equal.
    pub fn or_better(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Which of two attempts says more: an answer of the far side beats silence of the network.
    fn rank(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Reset(_) => 3,
            Self::Timeout { .. } => 2,
            Self::Unreachable(..) => 1,
            Self::Exhausted(_) => 0,
        }
    }
}

/// Who didn't answer, as the end of a sentence: what a firewall's administrator searches the log for.
fn of(addresses: &[SocketAddr]) -> String {
    const NAMED: usize = 4;
    if addresses.is_empty() { String::new() } else { format!(": no answer from {}", first(addresses, NAMED)) }
}

/// Connects to the first of `addresses` that answers, within `limit` for all of them together.
///
/// # Errors
/// The most telling error when none answered, or [`DialError::Timeout`].
///
/// # Panics
/// When `addresses` is empty: the caller has refused such a name already.
pub async fn dial(
    addresses: &[SocketAddr],
    sources: &[IpAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let attempt = async {
        match addresses {
            [only] => connect(*only, sources, None).await,
            several => race(several, sources).await,
        }
    };
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(DialError::timeout(limit, addresses)))
}

/// Connects to one address, in `segments` of at most so many bytes both ways; none: as large as any.
///
/// # Errors
/// See [`DialError`]; also when the kernel doesn't take the size.
pub(super) async fn dial_again(
    address: SocketAddr,
    sources: &[IpAddr],
    limit: Duration,
    segments: Option<u16>,
) -> Result<TcpStream, DialError> {
    let attempt = timeout(limit, connect(address, sources, segments)).await;
    attempt.unwrap_or_else(|_| Err(DialError::timeout(limit, &[address]))).map(|(stream, _)| stream)
}

async fn race(addresses: &[SocketAddr], sources: &[IpAddr]) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut waiting = interleaved(addresses).into_iter();
    let mut running = FuturesUnordered::new();
    let mut telling: Option<DialError> = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(connect(address, sources, None)),
            None if running.is_empty() => break,
            None => {}
        }
        // While addresses wait, a pause starts the next one; a failure starts it at once.
        let pause = sleep(if waiting.len() > 0 { ATTEMPT_DELAY } else { Duration::MAX });
        tokio::select! {
            Some(result) = running.next() => match result {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    telling = Some(match telling {
                        None => error,
                        Some(before) => before.or_better(error),
                    });
                }
            },
            () = pause => {}
        }
    }
    Err(telling.expect("dial is called with at least one address"))
}

/// RFC 8305 §4: the families alternate, so that a broken one costs a single pause.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.iter().partition(|a| a.is_ipv6());
    let mut order = Vec::with_capacity(addresses.len());
    for i in 0..six.len().max(four.len()) {
        order.extend(six.get(i));
        order.extend(four.get(i));
    }
    order
}

async fn connect(
    address: SocketAddr,
    sources: &[IpAddr],
    segments: Option<u16>,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let begun = Instant::now();
    let mut candidates = candidates(address, sources);
    let mut source = candidates.next();
    loop {
        match connect_from(address, source, segments).await {
            Ok(stream) => return Ok((stream, address)),
            // The kernel gave up before our own limit (`net.ipv4.tcp_syn_retries`).
            Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
                let after = Duration::from_secs(begun.elapsed().as_secs());
                return Err(DialError::timeout(after, &[address]));
            }
            Err(error) => source = Some(another(&mut candidates, address, error)?),
        }
    }
}

/// A socket for datagrams to one address, and for those that come from there.
///
/// # Errors
/// When this machine has no way there, or no socket.
pub(super) fn datagrams(address: SocketAddr, sources: &[IpAddr]) -> Result<tokio::net::UdpSocket, DialError> {
    let mut candidates = candidates(address, sources);
    let mut source = candidates.next();
    loop {
        match datagrams_from(address, source) {
            Ok(socket) => return Ok(socket),
            Err(error) => source = Some(another(&mut candidates, address, error)?),
        }
    }
}

fn datagrams_from(address: SocketAddr, source: Option<IpAddr>) -> io::Result<tokio::net::UdpSocket> {
    let socket = UdpSocket::bind((source.unwrap_or(any(address)), 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

/// The local addresses from which an address can be reached.
fn candidates(address: SocketAddr, sources: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    sources.iter().copied().filter(move |source| source.is_ipv4() == address.is_ipv4())
}

/// The local address to go on with where the last one has no port left: the next one has its own ports.
fn another(
    candidates: &mut impl Iterator<Item = IpAddr>,
    address: SocketAddr,
    error: io::Error,
) -> Result<IpAddr, DialError> {
    match candidates.next() {
        Some(next) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(next),
        _ => Err(DialError::of(address, error)),
    }
}

/// Any local address of the family.
fn any(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether this machine has a route and an address of its own for this one. Nothing is sent.
fn has_way_to(address: SocketAddr) -> bool {
    UdpSocket::bind((any(address), 0)).and_then(|socket| socket.connect(address)).is_ok()
}

async fn connect_from(
    address: SocketAddr,
    source: Option<IpAddr>,
    segments: Option<u16>,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let _ = sockopt::prepare(&socket);
    if let Some(bytes) = segments {
        sockopt::limit_segments(&socket, bytes)?;
    }
    if let Some(source) = source {
        let _ = sockopt::bind_address_no_port(&socket);
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    // A connect to an ephemeral port of this machine can connect to itself (simultaneous open). None of
    // those is below 1024: the kernel keeps the local port range off the privileged ports.
    if address.port() >= 1024 && stream.local_addr()? == address {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(stream)
}
