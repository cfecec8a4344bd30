//! DNS as a stub resolver speaks it. The servers are asked in the order in which they are written,
//! one at a time; the C library is the yardstick, and `tests/it/dns_yardstick.rs` compares the two.
//!
//! Messages are read and written with hickory-proto. Its resolver is not used: its pool asks two servers at
//! once, prefers them by statistics, takes the first error from whichever server sends it, joins both
//! address families, and has no way back from EDNS. Those are a full resolver's habits; administrators who
//! configure two servers, or whose firewall drops some queries, expect those of a stub.
//!
//! - [`system`]: what the machine says, resolv.conf and the hosts file. No I/O but reading them.
//! - [`answer`]: one message, pure.
//! - [`server`]: what is remembered of a server.
//! - [`exchange`]: one question to one server: UDP, without EDNS where that is needed, then TCP.
//! - [`stub`]: the order of servers, and the two families.

pub mod answer;
pub mod exchange;
pub mod server;
pub mod stub;
pub mod system;

use std::net::SocketAddr;

use answer::Rcode;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Those that were asked.
    #[error("no DNS server answered in time{}", of(.0))]
    Timeout(Vec<SocketAddr>),
    /// Its answer over UDP was cut, so that it was asked over TCP.
    #[error("the DNS server {0} cut its answer over UDP, and gives none over TCP in time")]
    Cut(SocketAddr),
    /// The response code as RFC 9209 wants it in `rcode`, for example `NXDOMAIN`.
    #[error("{rcode}: {why}")]
    Answer { rcode: &'static str, why: String },
    #[error("the DNS servers can't be reached: {0}")]
    Transport(String),
    /// This machine has no descriptor or port left to ask with, by the kernel's number of the error; not
    /// the network's fault.
    #[error("no DNS server can be asked: {}", std::io::Error::from_raw_os_error(*.0))]
    Exhausted(i32),
}

/// Who didn't answer, as the end of a sentence.
fn of(servers: &[SocketAddr]) -> String {
    let named: Vec<String> = servers.iter().map(ToString::to_string).collect();
    if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) }
}

/// The `why` of an answer without an address, whose name exists.
pub(crate) const NO_ADDRESS: &str = "the name has no address";

/// Why one server gave no usable answer; another may give one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Silence, or nothing that was an answer to the question.
    Timeout,
    /// It answers over UDP in part, and over TCP not in time.
    Cut,
    /// No packet or connection gets there.
    Unreachable(String),
    /// No descriptor or port is left, by the kernel's number of the error.
    Exhausted(i32),
    /// Any code but NOERROR and NXDOMAIN.
    Code(Rcode),
    /// It refers to another server instead of asking that server itself.
    Lame,
    /// An answer to the question, broken inside.
    Unreadable,
    /// Aliases that lead in a circle, or on and on.
    Circle,
}

impl Failure {
    /// Which of two failures says more: an answer beats silence.
    fn rank(&self) -> u8 {
        match self {
            Self::Code(_) => 5,
            Self::Exhausted(_) => 4,
            Self::Circle => 3,
            Self::Lame | Self::Unreadable | Self::Cut => 2,
            Self::Timeout => 1,
            Self::Unreachable(_) => 0,
        }
    }

    /// The more telling of two; the first one where they are equal, for its server comes first.
    fn or_better(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

impl Failure {
    /// The error of a look-up that ends so at a server, after all of `asked` were asked.
    fn of(self, server: SocketAddr, asked: Vec<SocketAddr>) -> ResolveError {
        let answer =
            |rcode, why: &str| ResolveError::Answer { rcode, why: format!("the DNS server {server} {why}") };
        match self {
            Self::Timeout => ResolveError::Timeout(asked),
            Self::Cut => ResolveError::Cut(server),
            Self::Unreachable(why) => ResolveError::Transport(why),
            Self::Exhausted(number) => ResolveError::Exhausted(number),
            Self::Code(rcode) => answer(rcode.name(), "could not answer"),
            Self::Lame => answer("NOERROR", "points elsewhere instead of resolving the name"),
            Self::Unreadable => answer("NOERROR", "gave an answer that can't be read"),
            Self::Circle => {
                answer("NOERROR", "has aliases of the name that lead in a circle, or are too many")
            }
        }
    }
}
