//! Why a target isn't reached, as a cause: the one place where an error of this room becomes a word
//! of the table, for findings and probes alike. No I/O.

use super::dialer::DialError;
use super::dns::{NO_ADDRESS, ResolveError};
use super::failure::{Failure, ParentError, Told};
use super::{Lead, Loop, Unreached};
use crate::cause::Cause;

impl ResolveError {
    /// The cause that it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Answer { rcode: "NXDOMAIN", .. } => Cause::DnsNxdomain,
            // It exists and has no address: for a client that is the same.
            Self::Answer { rcode: "NOERROR", why } if why.starts_with(NO_ADDRESS) => Cause::DnsNxdomain,
            Self::Answer { .. } => Cause::DnsServfail,
            Self::Timeout(_) | Self::Cut(_) | Self::Transport(_) => Cause::DnsTimeout,
            Self::Exhausted(_) => Cause::Limit,
        }
    }
}

impl DialError {
    /// The cause that it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Timeout { .. } => Cause::TcpTimeout,
            Self::Refused(_) => Cause::TcpRefused,
            Self::Reset(_) => Cause::TcpReset,
            Self::Unreachable(..) => Cause::TcpUnreachable,
            // No local port is left.
            Self::Exhausted(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                Cause::SourceAddress
            }
            Self::Exhausted(_) => Cause::Limit,
        }
    }
}

impl ParentError {
    /// The cause that it is: that of a proxy on the way.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match &self.failure {
            Failure::Dial(error @ DialError::Exhausted(_)) => error.cause(),
            Failure::Refused { status, told, .. } => of_status(*status, told.as_ref()),
            _ => Cause::ProxyUnreachable,
        }
    }
}

impl Unreached {
    /// The cause that it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Dns(error) => error.cause(),
            Self::Barred(..) => Cause::DnsPrivate,
            Self::Outside(_) => Cause::OutsideRanges,
            Self::Own(Loop { by: Lead::Name, .. }) => Cause::DnsPrivate,
            Self::Own(Loop { by: Lead::ConnectTo, .. }) => Cause::TcpUnreachable,
            Self::Own(Loop { by: Lead::Parent, .. }) | Self::Circle(_) => Cause::ProxyUnreachable,
            Self::Dial(error) => error.cause(),
            Self::Parent(error) => error.cause(),
        }
    }
}

/// What a proxy on the way means by its status. What it says of the far side counts as seen there; by its
/// status alone it is the proxy's own.
pub(crate) fn of_status(status: u16, told: Option<&Told>) -> Cause {
    let far = told.and_then(of_far_side);
    match status {
        407 => Cause::ProxyAuth,
        // ccpgate's word for a name that leads to addresses which it never dials.
        403 if told.is_some_and(|told| told.details.as_deref() == Some("private_address")) => {
            Cause::DnsPrivate
        }
        403 if told.is_some_and(|told| told.details.as_deref() == Some("outside_ranges")) => {
            Cause::OutsideRanges
        }
        403 => Cause::ProxyDenied,
        429 => Cause::ProxyLimit,
        503 => far.unwrap_or(Cause::ProxyLimit),
        // A portal in the proxy's place.
        300..=399 | 511 => Cause::HttpUnexpected,
        // A server that knows no CONNECT.
        405 | 501 | 505 => Cause::ProxyUnreachable,
        400..=499 => Cause::ProxyDenied,
        502 => far.unwrap_or(Cause::TcpUnreachable),
        504 => far.unwrap_or(Cause::TcpTimeout),
        // It failed by itself.
        _ => far.unwrap_or(Cause::ProxyUnreachable),
    }
}

/// The cause that a proxy names for not reaching the far side.
fn of_far_side(told: &Told) -> Option<Cause> {
    Some(match told.error.as_str() {
        "dns_error" => match told.rcode.as_deref() {
            Some("NXDOMAIN" | "NOERROR") => Cause::DnsNxdomain,
            _ => Cause::DnsServfail,
        },
        "dns_timeout" => Cause::DnsTimeout,
        "connection_refused" => Cause::TcpRefused,
        "connection_timeout" => Cause::TcpTimeout,
        "connection_terminated" => Cause::TcpReset,
        "destination_ip_unroutable" | "destination_unavailable" => Cause::TcpUnreachable,
        "connection_limit_reached" => Cause::ProxyLimit,
        "proxy_loop_detected" => Cause::ProxyUnreachable,
        _ => return None,
    })
}
