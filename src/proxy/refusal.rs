//! The answers that aren't a tunnel. Status, `Proxy-Status`, body, metric label and log text of a
//! refusal all come from one value, so they can't disagree. No I/O.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::admission::Limit;
use super::proxy_protocol;
use crate::address::{Barred, Special};
use crate::cause::Cause;
use crate::egress::dialer::DialError;
use crate::egress::failure::{Failure, ParentError};
use crate::egress::resolver::ResolveError;
use crate::egress::{Circle, Lead, Loop, Outside, Unreached};
use crate::journal::id::RequestId;
use crate::outcome::{Bound, Denial, Fault, Outcome};
use crate::policy::Reason;
use crate::target::Form;

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
    /// The name has no address that may be dialled.
    PrivateAddress(Barred),
    /// The name has no address within AWS's published ranges.
    OutsideRanges(Outside),
    /// The way to the target leads back to this proxy.
    Own(Loop),
    Malformed(String),
    HeaderSize {
        limit: usize,
    },
    HeaderTimeout,
    Overload(Limit),
    Draining,
    Dns(ResolveError),
    Dial(DialError),
    /// Parent proxies have brought the request back here.
    Circle(Circle),
    /// No tunnel through the parent proxy.
    Parent(Box<ParentError>),
}

impl From<Unreached> for Refusal {
    fn from(why: Unreached) -> Self {
        match why {
            Unreached::Dns(error) => Self::Dns(error),
            Unreached::Barred(barred) => Self::PrivateAddress(barred),
            Unreached::Outside(outside) => Self::OutsideRanges(outside),
            Unreached::Own(way) => Self::Own(way),
            Unreached::Circle(circle) => Self::Circle(circle),
            Unreached::Dial(error) => Self::Dial(error),
            Unreached::Parent(error) => Self::Parent(error),
        }
    }
}

/// What a refusal is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Denied(Denial),
    /// A tunnel that failed before it began.
    Failed(Outcome),
}

impl Refusal {
    pub(super) fn counted(&self) -> Counted {
        Counted::Denied(match self {
            Self::Policy { reason, .. } => (*reason).into(),
            Self::Client(_) | Self::Check(_) => Denial::Client,
            Self::Method { .. } => Denial::Method,
            Self::PrivateAddress(_) | Self::Own(_) => Denial::PrivateAddress,
            Self::OutsideRanges(_) => Denial::OutsideRanges,
            Self::Malformed(_) | Self::ProxyHeader(_) => Denial::Malformed,
            Self::HeaderSize { .. } => Denial::HeaderSize,
            Self::HeaderTimeout => Denial::HeaderTimeout,
            Self::Overload(_) | Self::Dial(DialError::Exhausted(_)) => Denial::Overload,
            Self::Draining => Denial::Draining,
            Self::Dns(_) => return Counted::Failed(Outcome::Dns),
            Self::Dial(_) | Self::Circle(_) => return Counted::Failed(Outcome::Connect),
            Self::Parent(error) => match error.failure {
                Failure::Dns(_) => return Counted::Failed(Outcome::Dns),
                Failure::Dial(DialError::Exhausted(_)) => Denial::Overload,
                _ => return Counted::Failed(Outcome::Connect),
            },
        })
    }

    /// The cause in the table of causes; none where the request, and not the network or this proxy, is
    /// at fault. What no rule allows is judged by how many ask for it, elsewhere.
    pub(super) fn fault(&self) -> Option<Fault> {
        let of = |cause| match cause {
            Cause::Limit => Bound::Descriptors.into(),
            cause => Fault::from(cause),
        };
        Some(match self {
            Self::PrivateAddress(_) => Cause::DnsPrivate.into(),
            Self::OutsideRanges(_) => Cause::OutsideRanges.into(),
            Self::HeaderSize { .. } => Bound::RequestHeader.into(),
            Self::Overload(Limit::Connections(_)) => Bound::Connections.into(),
            Self::Overload(Limit::PerClient(_)) => Bound::ConnectionsPerClient.into(),
            Self::Dns(error) => error.cause().into(),
            Self::Dial(error) => of(error.cause()),
            Self::Parent(error) => of(error.cause()),
            Self::Own(Loop { by: Lead::Name, .. }) => Cause::DnsPrivate.into(),
            Self::Own(Loop { by: Lead::ConnectTo, .. }) => Cause::TcpUnreachable.into(),
            Self::Own(Loop { by: Lead::Parent, .. }) | Self::Circle(_) => Cause::ProxyUnreachable.into(),
            Self::Policy { .. }
            | Self::Client(_)
            | Self::Check(_)
            | Self::ProxyHeader(_)
            | Self::Method { .. }
            | Self::Malformed(_)
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

    /// The HTTP status, and the error type of RFC 9209 §2.3.
    pub fn status(&self) -> Status {
        match self {
            Self::Policy { .. } | Self::Client(_) | Self::Check(_) | Self::Method { .. } => {
                (403, "Forbidden", "http_request_denied")
            }
            Self::PrivateAddress(_) | Self::OutsideRanges(_) | Self::Own(_) => {
                (403, "Forbidden", "destination_ip_prohibited")
            }
            Self::Malformed(_) | Self::ProxyHeader(_) => (400, "Bad Request", "http_request_error"),
            Self::HeaderSize { .. } => (431, "Request Header Fields Too Large", "http_request_error"),
            Self::HeaderTimeout => (408, "Request Timeout", "http_request_error"),
            Self::Overload(_) => EXHAUSTED,
            Self::Draining => (503, "Service Unavailable", "proxy_internal_response"),
            Self::Dns(error) => of_dns(error),
            Self::Dial(error) => of_dial(error),
            // RFC 9209 section 2.3.
            Self::Circle(_) => (502, "Bad Gateway", "proxy_loop_detected"),
            Self::Parent(error) => match &error.failure {
                Failure::Dns(error) => of_dns(error),
                Failure::Dial(error) => of_dial(error),
                Failure::Silent(_) => (504, "Gateway Timeout", "connection_timeout"),
                failure if failure.is_circle() => (502, "Bad Gateway", "proxy_loop_detected"),
                Failure::Refused { .. } => (502, "Bad Gateway", "connection_refused"),
                Failure::Tls { certificate: true, .. } => (502, "Bad Gateway", "tls_certificate_error"),
                Failure::Tls { .. } => (502, "Bad Gateway", "tls_protocol_error"),
                Failure::Lost(_) => (502, "Bad Gateway", "connection_terminated"),
                Failure::Oversized => (502, "Bad Gateway", "http_response_header_section_size"),
                Failure::Foreign(_) => (502, "Bad Gateway", "http_protocol_error"),
            },
        }
    }

    /// The value of `Proxy-Status`; `name` is `proxy.name`.
    pub fn proxy_status(&self, name: &str) -> String {
        let (_, _, error) = self.status();
        let mut field = format!("{}; error={error}; details=\"{}\"", item(name), self.reason());
        let parent = if let Self::Parent(error) = self { Some(&error.failure) } else { None };
        match (self, parent) {
            (Self::Dns(ResolveError::Answer { rcode, .. }), _)
            | (_, Some(Failure::Dns(ResolveError::Answer { rcode, .. }))) => {
                let _ = write!(field, "; rcode=\"{rcode}\"");
            }
            // RFC 9209 section 2.1.4.
            (_, Some(Failure::Refused { status, .. })) => {
                let _ = write!(field, "; received-status={status}");
            }
            _ => {}
        }
        field
    }

    /// Why, in words.
    pub fn why(&self) -> String {
        match self {
            Self::Policy { reason: Reason::NoRule, .. } => {
                "no rule of the allow list matches this host".into()
            }
            Self::Policy { reason: Reason::Port, rule } => match rule {
                Some(rule) => format!("rule {rule} allows this host, but not this port"),
                None => "a rule allows this host, but not this port".into(),
            },
            Self::Policy { reason: Reason::DenyRule, rule } => match rule {
                Some(rule) => format!("policy.deny has {rule}"),
                None => "a pattern of policy.deny matches".into(),
            },
            Self::Policy { reason: Reason::IpLiteral, .. } => {
                "the target is an IP address, and only names are allowed".into()
            }
            Self::Client(client) => format!("proxy.clients does not include {}", client.ip()),
            Self::Check(balancer) => format!(
                "the load balancer {balancer} speaks for itself (PROXY protocol, LOCAL or UNKNOWN), and may ask for GET /readyz alone"
            ),
            Self::ProxyHeader(fault) => fault.to_string(),
            Self::Method { method, form: Form::Authority } if method.eq_ignore_ascii_case("connect") => {
                format!("{method} is not CONNECT: methods have their case")
            }
            Self::Method { method, form: Form::Authority } => {
                format!("{method} of host:port, which only CONNECT may ask for")
            }
            Self::Method { method, form: Form::Asterisk } => {
                format!("{method} of *, which only OPTIONS may ask for")
            }
            Self::Method { method, .. } => {
                format!("{method} of an absolute URL; this proxy only tunnels with CONNECT")
            }
            Self::PrivateAddress(barred) => format!("the name resolves to {barred}"),
            Self::OutsideRanges(outside) => format!("the name resolves to {outside}"),
            Self::Own(Loop { address, by }) => format!(
                "{} to {address}, this proxy itself",
                match by {
                    Lead::Name => "the name resolves",
                    Lead::ConnectTo => "egress.connect_to leads",
                    Lead::Parent => "egress.proxy leads",
                }
            ),
            Self::Malformed(what) => what.clone(),
            Self::HeaderSize { limit } => format!("the request header is larger than {limit} bytes"),
            Self::HeaderTimeout => "the request header did not arrive in time".into(),
            Self::Overload(Limit::Connections(n)) => format!("all {n} connections are in use"),
            Self::Overload(Limit::PerClient(n)) => format!("this address already has {n} connections open"),
            Self::Draining => "this proxy is shutting down".into(),
            Self::Dns(error) => format!("DNS look-up failed: {error}"),
            Self::Dial(error) => error.to_string(),
            Self::Circle(Circle { parent, names }) => {
                let named = names.iter().map(|name| format!("\"{name}\""));
                let named = named.collect::<Vec<_>>().join(", ");
                let by = if named.is_empty() { String::new() } else { format!(" (by way of {named})") };
                format!("egress.proxy leads in a circle: this proxy, {parent}{by}, and this proxy again")
            }
            Self::Parent(error) => error.to_string(),
        }
    }

    /// What an administrator does next. `target` is in normal form.
    pub fn remedy(&self, target: Option<&str>) -> String {
        let explain = |rest: &str| match target {
            Some(target) => format!("run: ccpgate explain {target}{rest}"),
            None => "see docs/denials.md".into(),
        };
        match self {
            Self::Policy { reason: Reason::NoRule | Reason::Port, .. } => {
                explain("  (if agents need it, add it under [[allow]])")
            }
            Self::Policy { reason: Reason::DenyRule, .. } => {
                explain("  (policy.deny wins over every allow rule)")
            }
            Self::Policy { reason: Reason::IpLiteral, .. } => {
                "use the name; if an address is really needed, add exactly it under [[allow]]".into()
            }
            Self::Client(client) => {
                format!("if this client may use the proxy, add {} to proxy.clients", client.ip())
            }
            Self::Check(_) => {
                "for its clients the balancer has to send their addresses (HAProxy: send-proxy-v2)".into()
            }
            Self::ProxyHeader(_) => {
                "let the load balancer send the header (HAProxy: send-proxy-v2); where none is at this address, take it out of proxy.proxy_protocol"
                    .into()
            }
            Self::Method { form: Form::Authority, .. } => {
                "if this client means a tunnel, it has to ask by CONNECT host:port: fix or update it".into()
            }
            Self::Method { form: Form::Asterisk, .. } => {
                "no browser sends this: fix the client, and let health checks ask GET /readyz".into()
            }
            Self::Method { form: Form::Absolute { tls: true }, .. } => {
                "this client asks for https:// without CONNECT: update it, or set it to tunnel https through the proxy".into()
            }
            Self::Method { .. } => {
                "plain http:// is not for this proxy: let the PAC file choose what goes through it".into()
            }
            Self::PrivateAddress(Barred { special: Special::Metadata, address, embedded }) => {
                let metadata = embedded.map_or(*address, Into::into);
                format!(
                    "check the DNS answer: credentials are given out there, so no network in egress.allow_private opens it, only exactly {}",
                    IpNet::from(metadata)
                )
            }
            Self::PrivateAddress(Barred { embedded: Some(inner), .. }) => {
                format!(
                    "check the DNS answer; if it is meant, add the network of {inner} to egress.allow_private"
                )
            }
            Self::Own(Loop { by: Lead::Name, .. }) => {
                "check the DNS answer: a proxy that reaches itself goes round until it has no socket left"
                    .into()
            }
            Self::Own(Loop { by: Lead::Parent, .. }) => {
                "correct egress.proxy: the parent is another proxy, nearer to the internet".into()
            }
            Self::Own(Loop { by: Lead::ConnectTo, .. }) => {
                "correct the address in egress.connect_to: it is one that this proxy listens on".into()
            }
            Self::Malformed(_) => "a client other than a browser sends this: fix or remove it".into(),
            Self::HeaderSize { .. } => "raise limits.request_header if the client is right".into(),
            Self::HeaderTimeout => {
                "look for a broken client or packet loss; the limit is limits.header_timeout".into()
            }
            Self::Overload(Limit::Connections(_)) => {
                "raise limits.connections, or add a replica; look at ccpgate_client_connections".into()
            }
            Self::Overload(Limit::PerClient(_)) => {
                "raise limits.connections_per_client if many agents share this address (NAT, VDI)".into()
            }
            Self::Draining => "use the next proxy of the PAC file".into(),
            Self::Dial(error) if error.cause() == Cause::Limit => {
                "raise LimitNOFILE: this process has no descriptor left".into()
            }
            Self::Circle(_) => {
                "correct egress.proxy here or at a parent: the last proxy of a chain has none, and leads to the internet"
                    .into()
            }
            // In the words of the table of causes, as everywhere.
            Self::PrivateAddress(_) => Cause::DnsPrivate.about().remedy.into(),
            Self::OutsideRanges(_) => Cause::OutsideRanges.about().remedy.into(),
            Self::Dns(error) => error.cause().about().remedy.into(),
            Self::Dial(error) => error.cause().about().remedy.into(),
            Self::Parent(error) => error.remedy().into(),
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

type Status = (u16, &'static str, &'static str);

const EXHAUSTED: Status = (503, "Service Unavailable", "connection_limit_reached");

fn of_dns(error: &ResolveError) -> Status {
    match error {
        ResolveError::Timeout => (504, "Gateway Timeout", "dns_timeout"),
        _ => (502, "Bad Gateway", "dns_error"),
    }
}

fn of_dial(error: &DialError) -> Status {
    match error {
        DialError::Exhausted(_) => EXHAUSTED,
        DialError::Timeout(_) => (504, "Gateway Timeout", "connection_timeout"),
        DialError::Refused(_) => (502, "Bad Gateway", "connection_refused"),
        DialError::Reset(_) => (502, "Bad Gateway", "connection_terminated"),
        DialError::Unreachable(..) => (502, "Bad Gateway", "destination_ip_unroutable"),
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
    use crate::egress::failure::Told;

    /// Whoever reads the answer of this proxy comes to the cause that the proxy itself tells.
    #[test]
    fn a_failed_dial_is_one_cause_on_both_sides() {
        let (address, errno) = (([127, 0, 0, 1], 443).into(), io::Error::from_raw_os_error);
        for (error, cause) in [
            (DialError::Timeout(Duration::from_secs(5)), Cause::TcpTimeout),
            (DialError::Refused(address), Cause::TcpRefused),
            (DialError::Reset(address), Cause::TcpReset),
            (DialError::Unreachable(address, errno(libc::EHOSTUNREACH)), Cause::TcpUnreachable),
        ] {
            assert_eq!(error.cause(), cause);
            let refusal = Refusal::Dial(error);
            let (status, _, error) = refusal.status();
            let told = Told { error: error.to_owned(), ..Told::default() };
            assert_eq!(of_status(status, Some(&told)), cause, "{}", refusal.proxy_status("p"));
        }
        // A limit of this machine is told as one of the proxy's, whichever it is.
        for errno in [libc::EMFILE, libc::EADDRNOTAVAIL] {
            let refusal = Refusal::Dial(DialError::Exhausted(io::Error::from_raw_os_error(errno)));
            let (status, ..) = refusal.status();
            assert_eq!(of_status(status, None), Cause::ProxyLimit);
        }
    }
}
