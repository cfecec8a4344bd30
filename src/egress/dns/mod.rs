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

use answer::Rcode;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("no DNS server answered in time")]
    Timeout,
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

/// The `why` of an answer without an address, whose name exists.
pub(crate) const NO_ADDRESS: &str = "the name has no address";

/// Why one server gave no usable answer; another may give one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Silence, or nothing that was an answer to the question.
    Timeout,
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
            Self::Lame | Self::Unreadable => 2,
            Self::Timeout => 1,
            Self::Unreachable(_) => 0,
        }
    }

    /// The more telling of two; the first one where they are equal, for its server comes first.
    fn or_better(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

impl From<Failure> for ResolveError {
    fn from(failure: Failure) -> Self {
        let answer = |rcode, why: &str| Self::Answer { rcode, why: why.into() };
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Unreachable(why) => Self::Transport(why),
            Failure::Exhausted(number) => Self::Exhausted(number),
            Failure::Code(rcode) => answer(rcode.name(), "the DNS server could not answer"),
            Failure::Lame => {
                answer("NOERROR", "the DNS server points elsewhere instead of resolving the name")
            }
            Failure::Unreadable => answer("NOERROR", "the DNS server's answer can't be read"),
            Failure::Circle => answer("NOERROR", "the name's aliases lead in a circle, or are too many"),
        }
    }
}
