//! A target that is not reached, as an answer: what it counts as, its status, its words. No I/O.

use ipnet::IpNet;

use super::{Counted, EXHAUSTED, Status};
use crate::address::{Barred, Special};
use crate::cause::Cause;
use crate::egress::dialer::DialError;
use crate::egress::failure::Failure;
use crate::egress::resolver::ResolveError;
use crate::egress::{Circle, Lead, Loop, Unreached, leads_to};
use crate::outcome::{Denial, Outcome};

/// An address that may not be dialled.
pub(super) const PROHIBITED: Status = (403, "Forbidden", "destination_ip_prohibited");

pub(super) fn counted(unreached: &Unreached) -> Counted {
    match unreached {
        Unreached::Barred(..) | Unreached::Own(_) => Counted::Denied(Denial::PrivateAddress),
        Unreached::Outside(_) => Counted::Denied(Denial::OutsideRanges),
        Unreached::Dns(_) => Counted::Failed(Outcome::Dns),
        Unreached::Dial(error) => of_dial(error).0,
        Unreached::Circle(_) => Counted::Failed(Outcome::Connect),
        Unreached::Parent(error) => match &error.failure {
            Failure::Dns(_) => Counted::Failed(Outcome::Dns),
            Failure::Dial(error) => of_dial(error).0,
            _ => Counted::Failed(Outcome::Connect),
        },
    }
}

pub(super) fn status(unreached: &Unreached) -> Status {
    match unreached {
        Unreached::Barred(..) | Unreached::Outside(_) | Unreached::Own(_) => PROHIBITED,
        Unreached::Dns(error) => of_dns(error),
        Unreached::Dial(error) => of_dial(error).1,
        // RFC 9209 section 2.3.
        Unreached::Circle(_) => (502, "Bad Gateway", "proxy_loop_detected"),
        Unreached::Parent(error) => match &error.failure {
            Failure::Dns(error) => of_dns(error),
            Failure::Dial(error) => of_dial(error).1,
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

/// What `Proxy-Status` says beside the error, if anything.
pub(super) fn parameter(unreached: &Unreached) -> Option<String> {
    let failure = if let Unreached::Parent(error) = unreached { Some(&error.failure) } else { None };
    match (unreached, failure) {
        (Unreached::Dns(ResolveError::Answer { rcode, .. }), _)
        | (_, Some(Failure::Dns(ResolveError::Answer { rcode, .. }))) => Some(format!("rcode=\"{rcode}\"")),
        // RFC 9209 section 2.1.4.
        (_, Some(Failure::Refused { status, .. })) => Some(format!("received-status={status}")),
        _ => None,
    }
}

/// Why, in words.
pub(super) fn why(unreached: &Unreached) -> String {
    match unreached {
        Unreached::Barred(barred, by) => leads_to(barred, *by),
        Unreached::Outside(outside) => format!("the name resolves to {outside}"),
        Unreached::Own(Loop { address, by }) => format!(
            "{} to {address}, this proxy itself",
            match by {
                Lead::Name => "the name resolves",
                Lead::ConnectTo => "egress.connect_to leads",
                Lead::Parent => "egress.proxy leads",
            }
        ),
        Unreached::Dns(error) => format!("DNS look-up failed: {error}"),
        Unreached::Dial(error) => match error.sinkhole() {
            // In the words of `check`.
            Some(sinkhole) => format!("the name resolves to {sinkhole}: {error}"),
            None => error.to_string(),
        },
        Unreached::Circle(Circle { parent, names }) => {
            let named = names.iter().map(|name| format!("\"{name}\""));
            let named = named.collect::<Vec<_>>().join(", ");
            let by = if named.is_empty() { String::new() } else { format!(" (by way of {named})") };
            format!("egress.proxy leads in a circle: this proxy, {parent}{by}, and this proxy again")
        }
        Unreached::Parent(error) => error.to_string(),
    }
}

/// What an administrator does next.
pub(super) fn remedy(unreached: &Unreached) -> String {
    match unreached {
        Unreached::Barred(barred, _) if barred.special == Special::Metadata => {
            format!("check the DNS answer: {}", opened_by(barred))
        }
        Unreached::Barred(_, Some(by)) => format!(
            "correct the entry in {by}; where its address is meant, put its network into egress.allow_private"
        ),
        Unreached::Barred(barred, None) if barred.embedded.is_some() => {
            format!("check the DNS answer; {}", opened_by(barred))
        }
        Unreached::Own(Loop { by: Lead::Name, .. }) => {
            "check the DNS answer: a proxy that reaches itself goes round until it has no socket left".into()
        }
        Unreached::Own(Loop { by: Lead::Parent, .. }) => {
            "correct egress.proxy: the parent is another proxy, nearer to the internet".into()
        }
        Unreached::Own(Loop { by: Lead::ConnectTo, .. }) => {
            "correct the address in egress.connect_to: it is one that this proxy listens on".into()
        }
        Unreached::Circle(_) => {
            "correct egress.proxy here or at a parent: the last proxy of a chain has none, and leads to the internet"
                .into()
        }
        Unreached::Dial(error) if error.cause() == Cause::Limit => {
            "raise LimitNOFILE: this process has no descriptor left".into()
        }
        Unreached::Parent(error) => error.remedy().into(),
        // In the words of the table of causes, as everywhere.
        Unreached::Barred(..) | Unreached::Outside(_) | Unreached::Dns(_) | Unreached::Dial(_) => {
            unreached.cause().about().remedy.into()
        }
    }
}

/// What lets an address be dialled all the same.
pub(super) fn opened_by(barred: &Barred) -> String {
    let address = barred.embedded.map_or(barred.address, Into::into);
    match barred.special {
        Special::Metadata => format!(
            "credentials are given out there, so no network in egress.allow_private opens it, only exactly {}",
            IpNet::from(address)
        ),
        _ => format!("if it is meant, add the network of {address} to egress.allow_private"),
    }
}

fn of_dns(error: &ResolveError) -> Status {
    match error {
        ResolveError::Timeout(_) | ResolveError::Cut(_) => (504, "Gateway Timeout", "dns_timeout"),
        _ => (502, "Bad Gateway", "dns_error"),
    }
}

/// What a failed dial counts as, and its status.
fn of_dial(error: &DialError) -> (Counted, Status) {
    let failed = |status| (Counted::Failed(Outcome::Connect), status);
    match error {
        DialError::Exhausted(_) => (Counted::Denied(Denial::Overload), EXHAUSTED),
        DialError::Timeout { .. } => failed((504, "Gateway Timeout", "connection_timeout")),
        DialError::Refused(_) => failed((502, "Bad Gateway", "connection_refused")),
        DialError::Reset(_) => failed((502, "Bad Gateway", "connection_terminated")),
        DialError::Unreachable(..) => failed((502, "Bad Gateway", "destination_ip_unroutable")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whose turn it is changes, and not what a client or a metric sees of it.
    #[test]
    fn a_sinkhole_is_told_by_its_owner() {
        let addresses = vec!["72.5.65.111:443".parse().unwrap()];
        let unreached = Unreached::Dial(DialError::Timeout { limit: Duration::from_secs(5), addresses });
        assert_eq!(
            why(&unreached),
            "the name resolves to 72.5.65.111, the sinkhole of Palo Alto Networks: connect timed out after 5s: \
             no answer from 72.5.65.111:443"
        );
        assert_eq!(remedy(&unreached), Cause::DnsPrivate.about().remedy);
        assert_eq!(counted(&unreached), Counted::Failed(Outcome::Connect));
        assert_eq!(status(&unreached), (504, "Gateway Timeout", "connection_timeout"));
    }
}
