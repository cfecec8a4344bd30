//! Why a target isn't reached, as a cause: the one place where an error of this room becomes a word
//! of the table, for findings and probes alike. No I/O.

use std::net::SocketAddr;

use super::dialer::DialError;
use super::dns::{NO_ADDRESS, ResolveError};
use super::failure::{Failure, ParentError, Told};
use super::sinkhole::Sinkhole;
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

    /// The known sinkhole among the addresses that it tells of. Another address that answered is more
    /// telling, and then it tells of that one alone.
    pub(crate) fn sinkhole(&self) -> Option<Sinkhole> {
        Sinkhole::among(self.addresses().iter().map(SocketAddr::ip))
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
            // A firewall that is opened towards a sinkhole helps nobody: the answer of DNS is wrong.
            Self::Dial(error) if error.sinkhole().is_some() => Cause::DnsPrivate,
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
        // A server that was spoken to without the TLS that it wants. A proxy says what it found malformed.
        400 if told.is_none() => Cause::ProxyUnreachable,
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::egress::url::ParentUrl;

    fn at(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 443)
    }

    fn silent(addresses: &[SocketAddr]) -> DialError {
        DialError::timeout(Duration::from_secs(5), addresses)
    }

    #[test]
    fn a_sinkhole_that_is_dialled_in_vain_is_of_dns() {
        let (sinkhole, mapped, other) = (at("72.5.65.111"), at("::ffff:146.112.61.106"), at("192.0.2.1"));
        let errno = io::Error::from_raw_os_error;
        for (error, cause) in [
            (silent(&[sinkhole]), Cause::DnsPrivate),
            (silent(&[mapped]), Cause::DnsPrivate),
            (silent(&[other, sinkhole]), Cause::DnsPrivate),
            (DialError::Refused(sinkhole), Cause::DnsPrivate),
            (DialError::Reset(sinkhole), Cause::DnsPrivate),
            (DialError::Unreachable(sinkhole, errno(libc::EHOSTUNREACH)), Cause::DnsPrivate),
            // Another address answered.
            (silent(&[sinkhole]).or_better(DialError::Refused(other)), Cause::TcpRefused),
            (silent(&[other]), Cause::TcpTimeout),
            (silent(&[]), Cause::TcpTimeout),
            (DialError::Unreachable(other, errno(libc::EHOSTUNREACH)), Cause::TcpUnreachable),
            (DialError::Exhausted(errno(libc::EMFILE)), Cause::Limit),
        ] {
            let unreached = Unreached::Dial(error);
            assert_eq!(unreached.cause(), cause, "{unreached:?}");
        }
    }

    /// Its name is egress.proxy's, and the remedy is that of a proxy on the way.
    #[test]
    fn a_parent_at_a_sinkhole_is_not_reached() {
        let url = ParentUrl::parse("http://proxy.corp:3128").unwrap();
        let failure = Failure::Dial(silent(&[at("72.5.65.111")]));
        let error = ParentError { url, authenticated: false, failure };
        assert_eq!(Unreached::Parent(Box::new(error)).cause(), Cause::ProxyUnreachable);
    }
}
