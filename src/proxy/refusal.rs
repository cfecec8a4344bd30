//! The answers that aren't a tunnel. Status, `Proxy-Status`, body, metric label and log text of a
//! refusal all come from one value, so they can't disagree. No I/O.

mod unreached;
mod words;

use std::net::{IpAddr, SocketAddr};

use super::admission::Limit;
use super::proxy_protocol;
use crate::address::Barred;
use crate::cause::Cause;
use crate::egress::Unreached;
use crate::journal::id::RequestId;
use crate::outcome::{Bound, Denial, Fault, Outcome};
use crate::policy::Reason;
use crate::target::{Form, Host};

/// A request that gets no tunnel, with what its answer needs to know.
#[derive(Debug)]
pub enum Refusal {
    /// By the policy. The rule is the deny pattern, or the rule that allows the host on another port.
    Policy {
        reason: Reason,
        rule: Option<String>,
    },
    Client(SocketAddr),
    /// A load balancer speaks for itself, and asks for more than whether this proxy is ready.
    Check(IpAddr),
    /// A load balancer doesn't say for whom it speaks, or not so that it can be believed.
    ProxyHeader(proxy_protocol::Fault),
    /// A request in a form that this method hasn't, or that only CONNECT has here.
    Method {
        method: String,
        form: Form,
    },
    Malformed(String),
    HeaderSize {
        limit: usize,
    },
    /// A header of too many fields. No key raises that bound.
    TooManyFields,
    HeaderTimeout,
    Overload(Limit),
    Draining,
    /// The target is itself an address that may not be dialled.
    PrivateTarget(Barred),
    /// The policy lets it through, and the target is not reached.
    Unreached(Unreached),
}

/// What a refusal is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Denied(Denial),
    /// A tunnel that failed before it began.
    Failed(Outcome),
}

/// Status, reason phrase, and the error type of RFC 9209 section 2.3.
type Status = (u16, &'static str, &'static str);

const EXHAUSTED: Status = (503, "Service Unavailable", "connection_limit_reached");

impl Refusal {
    /// That a target at this host is not reached. To a target that is an address no name has led.
    pub(super) fn of(why: Unreached, host: &Host) -> Self {
        match why {
            Unreached::Barred(barred, _) if matches!(host, Host::Ip(_)) => Self::PrivateTarget(barred),
            why => Self::Unreached(why),
        }
    }

    pub(super) fn counted(&self) -> Counted {
        Counted::Denied(match self {
            Self::Policy { reason, .. } => (*reason).into(),
            Self::Client(_) | Self::Check(_) => Denial::Client,
            Self::Method { .. } => Denial::Method,
            Self::Malformed(_) | Self::ProxyHeader(_) => Denial::Malformed,
            Self::HeaderSize { .. } | Self::TooManyFields => Denial::HeaderSize,
            Self::HeaderTimeout => Denial::HeaderTimeout,
            Self::Overload(_) => Denial::Overload,
            Self::Draining => Denial::Draining,
            Self::PrivateTarget(_) => Denial::PrivateAddress,
            Self::Unreached(why) => return unreached::counted(why),
        })
    }

    /// The cause in the table of causes; none where the request, and not the network or this proxy, is
    /// at fault. What no rule allows is judged by how many ask for it, elsewhere.
    pub(super) fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::HeaderSize { .. } => Bound::RequestHeader.into(),
            Self::Overload(Limit::Connections(_)) => Bound::Connections.into(),
            Self::Overload(Limit::PerClient(_)) => Bound::ConnectionsPerClient.into(),
            Self::Unreached(why) => match why.cause() {
                Cause::Limit => Bound::Descriptors.into(),
                cause => cause.into(),
            },
            Self::Policy { .. }
            | Self::PrivateTarget(_)
            | Self::Client(_)
            | Self::Check(_)
            | Self::ProxyHeader(_)
            | Self::Method { .. }
            | Self::Malformed(_)
            | Self::TooManyFields
            | Self::HeaderTimeout
            | Self::Draining => return None,
        })
    }

    /// The stable word for `details`, logs and `explain`.
    pub fn reason(&self) -> &'static str {
        match self.counted() {
            Counted::Denied(denial) => denial.into_str(),
            Counted::Failed(outcome) => outcome.into_str(),
        }
    }

    /// The HTTP status with its reason phrase, and the error type of RFC 9209 section 2.3.
    pub fn status(&self) -> Status {
        match self {
            Self::Policy { .. } | Self::Client(_) | Self::Check(_) | Self::Method { .. } => {
                (403, "Forbidden", "http_request_denied")
            }
            Self::Malformed(_) | Self::ProxyHeader(_) => (400, "Bad Request", "http_request_error"),
            Self::HeaderSize { .. } | Self::TooManyFields => {
                (431, "Request Header Fields Too Large", "http_request_error")
            }
            Self::HeaderTimeout => (408, "Request Timeout", "http_request_error"),
            Self::Overload(_) => EXHAUSTED,
            Self::Draining => (503, "Service Unavailable", "proxy_internal_response"),
            Self::PrivateTarget(_) => unreached::PROHIBITED,
            Self::Unreached(why) => unreached::status(why),
        }
    }

    /// The value of `Proxy-Status`; `name` is `proxy.name`.
    pub fn proxy_status(&self, name: &str) -> String {
        let (_, _, error) = self.status();
        let field = format!("{}; error={error}; details=\"{}\"", item(name), self.reason());
        match self {
            Self::Unreached(why) => match unreached::parameter(why) {
                Some(parameter) => format!("{field}; {parameter}"),
                None => field,
            },
            _ => field,
        }
    }

    /// The three lines that say what, why, and what to do.
    pub(crate) fn body(&self, target: Option<&str>, id: RequestId) -> String {
        let what = target.unwrap_or("the request");
        format!(
            "ccpgate refused {what}\nreason: {} - {} (request {id})\n{}\n",
            self.reason(),
            self.why(),
            self.remedy(target)
        )
    }
}

/// A value from the wire as it may be shown: escaped and cut short.
pub fn escaped(raw: &str) -> String {
    let cut: String = raw.chars().take(120).collect();
    cut.escape_default().to_string()
}

/// A structured-field item (RFC 8941 §3.3): a token where the name is one, else a string.
pub(super) fn item(name: &str) -> String {
    let token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'*');
    if starts && name.bytes().all(token_byte) {
        return name.to_owned();
    }
    let plain: String = name.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::cause::Cause;
    use crate::egress::cause::of_status;
    use crate::egress::dialer::DialError;
    use crate::egress::failure::Told;

    /// Nobody is sent to a key that doesn't help: the fields have a bound of their own.
    #[test]
    fn many_fields_are_not_told_as_many_bytes() {
        let (bytes, fields) = (Refusal::HeaderSize { limit: 16384 }, Refusal::TooManyFields);
        assert_eq!((bytes.reason(), bytes.status()), (fields.reason(), fields.status()));
        assert!(bytes.fault().is_some() && fields.fault().is_none());
        let told = fields.body(None, RequestId::for_tests(1));
        assert!(told.contains("more than 100 header fields") && !told.contains("limits."), "{told}");
    }

    /// A client that reads the answer of this proxy comes to the cause that the proxy itself tells.
    #[test]
    fn a_failed_dial_is_one_cause_on_both_sides() {
        let (address, errno) = (([127, 0, 0, 1], 443).into(), io::Error::from_raw_os_error);
        for (error, cause) in [
            (
                DialError::Timeout { limit: Duration::from_secs(5), addresses: vec![address] },
                Cause::TcpTimeout,
            ),
            (DialError::Refused(address), Cause::TcpRefused),
            (DialError::Reset(address), Cause::TcpReset),
            (DialError::Unreachable(address, errno(libc::EHOSTUNREACH)), Cause::TcpUnreachable),
        ] {
            assert_eq!(error.cause(), cause);
            let refusal = Refusal::Unreached(Unreached::Dial(error));
            let (status, _, error) = refusal.status();
            let told = Told { error: error.to_owned(), ..Told::default() };
            assert_eq!(of_status(status, Some(&told)), cause, "{}", refusal.proxy_status("p"));
        }
        // A limit of this machine is told as one of the proxy's, whichever it is.
        for errno in [libc::EMFILE, libc::EADDRNOTAVAIL] {
            let refusal = Refusal::Unreached(Unreached::Dial(DialError::Exhausted(
                io::Error::from_raw_os_error(errno),
            )));
            let (status, ..) = refusal.status();
            assert_eq!(of_status(status, None), Cause::ProxyLimit);
        }
    }
}
