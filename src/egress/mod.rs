//! How a target is reached: connect_to, else through a parent proxy, else resolve, judge, dial. Knows
//! nothing of clients, of answers to them or of the log, so that other parts of the program can use the
//! proxy's own way.
//!
//! - `reach`: the way of a tunnel. `straight`: what goes past a parent proxy.
//! - `lead`: what leads to a target. `vet`: which of its addresses may be dialled.
//! - [`resolver`], [`dialer`], `parent`: a look-up, a dial, a CONNECT to a parent proxy.

mod answer;
pub(crate) mod cause;
pub(crate) mod certificate;
pub mod connect_to;
pub mod dialer;
pub mod dns;
pub mod failure;
pub(crate) mod fetch;
mod lead;
pub(crate) mod own;
pub(crate) mod parent;
mod reach;
pub mod resolver;
pub(crate) mod sinkhole;
mod straight;
mod unreached;
pub mod url;
mod vet;
mod via;
pub(crate) mod within;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::outcome::Stage;
use crate::tunnel::wire::tls::TlsWire;
pub(crate) use answer::{REFUSAL, REFUSAL_TIME, dechunked, printable, without_tags};
use connect_to::ConnectTo;
use parent::Parent;
use resolver::Resolver;
pub(crate) use unreached::leads_to;
pub use unreached::{Circle, Lead, Loop, Outside, Unreached};
use within::Guard;

/// The section `[egress]` in force, with the resolver.
pub(crate) struct Egress {
    pub resolver: Resolver,
    pub connect_timeout: Duration,
    pub source_address: Vec<IpAddr>,
    pub allow_private: Vec<IpNet>,
    pub connect_to: ConnectTo,
    pub(crate) parent: Option<Parent>,
    pub(crate) ranges: Guard,
}

/// A connection that leads to a target.
pub(crate) enum Upstream {
    /// To the target itself, or through a parent proxy.
    Tcp(TcpStream),
    /// Through a parent proxy that is spoken to over TLS.
    Tls(TlsWire),
}

/// How far an attempt has come, and how long its steps took. Filled in on the way, so that it also
/// describes an attempt that was given up.
#[derive(Debug)]
pub struct Trace {
    /// `Decide`, `Dns` or `Connect`.
    pub stage: Stage,
    /// Zero where the answer was known without asking; none where no name was looked up.
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    /// The address that took the connection; a parent's, where one is gone through.
    pub address: Option<SocketAddr>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { stage: Stage::Decide, dns: None, connect: None, address: None }
    }
}
