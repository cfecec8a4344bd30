//! Observation → cause. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Duration;

use rustls::{CertificateError, Error};

use super::answer::words;
use super::observed::{End, Otherwise, Seen, WebSocketEnd};
use crate::agent::certificate::Shown;
use crate::agent::http::NoAnswer;
use crate::agent::tls::{NoTls, Verdicts};
use crate::cause::{Cause, Severity};
use crate::egress::dialer::DialError;
use crate::egress::failure::{Failure, Told};
use crate::egress::resolver::ResolveError;
use crate::egress::sinkhole::Sinkhole;
use crate::egress::{Lead, Unreached, cause, certificate, leads_to, printable};
use crate::outcome::Stage;

/// A cause, how bad it is, and what was seen, in words.
pub(crate) struct Found {
    pub cause: Cause,
    pub severity: Severity,
    pub detail: String,
}

pub(crate) fn failed(cause: Cause, detail: impl Into<String>) -> Found {
    Found { cause, severity: Severity::Failed, detail: detail.into() }
}

fn degraded(cause: Cause, detail: impl Into<String>) -> Found {
    Found { cause, severity: Severity::Degraded, detail: detail.into() }
}

/// What else may be behind a silence that begins with the first large packets.
const LARGE: &str = "a box on the way drops it, or packets of full size don't come through (MTU)";

/// The same on the way to a proxy.
const PROXY_LARGE: &str = "; if the proxy is well, packets of full size are lost between here and it (MTU)";

/// What is to blame where the length of the ClientHello decides.
const SHORT: &str = "; a ClientHello without a post-quantum key share, in one packet, is answered: a box on the way \
                     doesn't read one in two packets, as browsers send it";

/// Whether the public authorities vouch for who is at the other end.
fn is_public(seen: &Seen) -> bool {
    seen.shown.as_ref().is_some_and(|(_, verdicts)| verdicts.public.is_ok())
}

/// The worst of what was seen; of equals what comes first.
pub(crate) fn find(seen: &Seen) -> Option<Found> {
    if !is_public(seen)
        && let Some(sinkhole) = Sinkhole::among(seen.found.iter().copied())
    {
        return Some(of_sinkhole(sinkhole));
    }
    let end = seen.end.as_ref().and_then(|end| of_end(end, seen));
    let certificate = seen.shown.as_ref().and_then(|(shown, verdicts)| of_certificate(shown, verdicts));
    match (end, certificate) {
        // A box that decrypts is to blame for what only such a box can do.
        (Some(end), Some(certificate)) if certificate.cause.hides(end.cause) => {
            Some(failed(certificate.cause, with_issuer(end, seen).detail))
        }
        (Some(end), _) if end.severity == Severity::Failed => Some(with_source(with_issuer(end, seen), seen)),
        // The enum's order decides between equals.
        (end, certificate) => {
            let all = [slow_dns(seen), certificate, end].into_iter().flatten();
            let worst = all.min_by_key(|found| (Reverse(found.severity), found.cause));
            worst.map(
                |found| if found.severity == Severity::Failed { with_source(found, seen) } else { found },
            )
        }
    }
}

/// What was found where it ended so, which is a failure.
pub(crate) fn ended(seen: &mut Seen, end: End) -> Found {
    seen.end = Some(end);
    find(seen).unwrap_or_else(|| failed(Cause::HttpUnexpected, "it ended for no known reason"))
}

/// An old entry in a file looks like trouble of the network: who gave the address is named.
fn with_source(mut found: Found, seen: &Seen) -> Found {
    let is_told = matches!(seen.end, Some(End::Unreached(Unreached::Barred(..))));
    if let Some(by) = seen.fixed.filter(|_| !is_told) {
        found.detail = format!("{}; the address is from {by}, not from DNS", found.detail);
    }
    found
}

fn slow_dns(seen: &Seen) -> Option<Found> {
    let took = seen.trace.dns.filter(|_| !seen.by_proxy)?;
    // A packet that was lost once is no slow resolver.
    of_slow_dns(seen.dns_anew.map_or(took, |anew| anew.min(took)))
}

pub(super) fn of_sinkhole(sinkhole: Sinkhole) -> Found {
    failed(Cause::DnsPrivate, format!("the name resolves to {sinkhole}"))
}

pub(super) fn of_slow_dns(took: Duration) -> Option<Found> {
    let severity = Cause::DnsSlow.about().threshold?.judge(took)?;
    let detail = format!("the DNS look-up took {:.1} s", took.as_secs_f64());
    Some(Found { cause: Cause::DnsSlow, severity, detail })
}

/// What is wrong with where a probe ended, the certificate left out.
fn of_end(end: &End, seen: &Seen) -> Option<Found> {
    Some(match end {
        End::Answered(_) | End::Kept | End::Untrusted => return None,
        End::WebSocket(end) => return of_web_socket(end),
        End::Unreached(Unreached::Dial(error)) => of_dial(error, &seen.found),
        End::Unreached(Unreached::Barred(barred, _)) if seen.is_address => {
            failed(Cause::DnsPrivate, format!("the target is {barred}"))
        }
        End::Unreached(why) => of_unreached(why),
        End::NoTls(why) => {
            let mut found = of_tls(why, seen.otherwise);
            if let Some(Otherwise::ShortHello) = seen.otherwise {
                found.detail.push_str(SHORT);
            }
            if seen.by_proxy {
                found.detail.push_str(match found.cause {
                    // What one side of a proxy gets, it cuts anew for the other.
                    Cause::PathMtu => " between here and the proxy on the way",
                    _ => "; the proxy on the way had answered 200",
                });
            }
            found
        }
        // Who can't read what is within a session can only break it; who decrypts answers for it.
        End::NoAnswer(NoAnswer::Reset(how)) if is_public(seen) => {
            failed(Cause::TcpReset, format!("after a whole TLS handshake, {how}"))
        }
        End::NoAnswer(NoAnswer::Ended(how) | NoAnswer::Reset(how)) => {
            failed(Cause::HttpUnexpected, format!("behind TLS, {how}"))
        }
        End::NoAnswer(NoAnswer::Oversized) => {
            failed(Cause::HttpUnexpected, "the header of the answer is larger than a browser takes")
        }
        End::NoAnswer(NoAnswer::Foreign(bytes)) => failed(
            Cause::HttpUnexpected,
            format!("behind TLS, something else than HTTP answers{}", words(bytes)),
        ),
        End::Silent(limit) => {
            failed(Cause::HttpUnexpected, format!("behind TLS, no answer to a request within {limit:?}"))
        }
        End::Foreign(why) => failed(Cause::HttpUnexpected, why.clone()),
        End::UpgradeHung(limit) => failed(
            Cause::WsHung,
            format!("a page is answered, a WebSocket upgrade isn't: no answer within {limit:?}"),
        ),
        End::UpgradeRefused(how) => {
            failed(Cause::WsRefused, format!("a page is answered, a WebSocket upgrade isn't: {how}"))
        }
        End::Cut(how) => failed(Cause::IdleCut, printable(how, 300)),
        End::Late(limit) => of_late(seen, *limit),
    })
}

/// Names the box that decrypts beside what came through it.
fn with_issuer(mut found: Found, seen: &Seen) -> Found {
    if let Some((shown, verdicts)) = &seen.shown
        && verdicts.public.is_err()
    {
        found.detail = format!("{}; {}", found.detail, issuer(shown));
    }
    found
}

pub(super) fn of_unreached(why: &Unreached) -> Found {
    match why {
        Unreached::Dns(error) => of_dns(error),
        Unreached::Barred(barred, by) => failed(Cause::DnsPrivate, leads_to(barred, *by)),
        Unreached::Outside(outside) => {
            failed(Cause::OutsideRanges, format!("the name resolves to {outside}"))
        }
        Unreached::Own(way) => match way.by {
            Lead::Name => {
                failed(Cause::DnsPrivate, format!("the name resolves to {}, this proxy itself", way.address))
            }
            Lead::ConnectTo => failed(
                Cause::TcpUnreachable,
                format!("egress.connect_to leads to {}, this proxy itself", way.address),
            ),
            Lead::Parent => failed(
                Cause::ProxyUnreachable,
                format!("the proxy on the way is at {}, and that is this proxy itself", way.address),
            ),
        },
        Unreached::Circle(circle) => failed(
            Cause::ProxyUnreachable,
            format!("the proxies on the way form a circle, of which {} is the next", circle.parent),
        ),
        Unreached::Dial(error) => of_dial(error, &[]),
        Unreached::Parent(error) => of_proxy(&error.url.to_string(), error.authenticated, &error.failure),
    }
}

fn of_dns(error: &ResolveError) -> Found {
    failed(error.cause(), printable(&error.to_string(), 200))
}

/// `found` are the addresses that the name has, where it was resolved here.
fn of_dial(error: &DialError, found: &[IpAddr]) -> Found {
    // As the running proxy has it, also where what was found is not known any more.
    if let Some(sinkhole) = error.sinkhole() {
        return of_sinkhole(sinkhole);
    }
    if error.cause() == Cause::Limit {
        // A limit of this process is the machine's want of sockets, too.
        return failed(Cause::SourceAddress, format!("{error}: not ports, but open files are lacking"));
    }
    let cause = error.cause();
    let six = cause == Cause::TcpUnreachable
        && !found.is_empty()
        && found.iter().all(|ip| ip.to_canonical().is_ipv6());
    let family = if six { "; the name has IPv6 addresses alone" } else { "" };
    failed(cause, format!("{error}{family}"))
}

/// A proxy on the way. What it says of the far side counts as seen there; by its status alone it is the
/// proxy's own.
fn of_proxy(url: &str, authenticated: bool, failure: &Failure) -> Found {
    let at = format!("the proxy {url}");
    match failure {
        Failure::Dns(error) => failed(Cause::ProxyUnreachable, format!("{at}: its name: {error}")),
        Failure::Dial(DialError::Exhausted(error)) => {
            failed(Cause::SourceAddress, format!("{at}: this machine has no socket to spare: {error}"))
        }
        Failure::Dial(error) => failed(Cause::ProxyUnreachable, format!("{at}: {error}")),
        Failure::Tls { why, .. } => failed(Cause::ProxyUnreachable, format!("{at}: no TLS: {why}")),
        Failure::Silent(limit) => {
            let detail = format!("{at} took the connection and gave no whole answer within {limit:?}");
            // A CONNECT in clear is small; a TLS handshake fills whole packets.
            let large = if url.starts_with("https:") { PROXY_LARGE } else { "" };
            failed(Cause::ProxyUnreachable, detail + large)
        }
        Failure::Lost(how) => failed(Cause::ProxyUnreachable, format!("{at} gave no answer: {how}")),
        Failure::Oversized => {
            failed(Cause::ProxyUnreachable, format!("{at} answered with too large a header"))
        }
        Failure::Foreign(what) => {
            failed(Cause::ProxyUnreachable, format!("{at} doesn't speak HTTP/1.1: it answered {what}"))
        }
        Failure::Refused { status, words, told, offers } => {
            let mut detail = format!("{at} answered {status}");
            if !words.is_empty() {
                detail = format!("{detail} {words}");
            }
            if let Some(Told { error, rcode, .. }) = told {
                let rcode = rcode.as_ref().map_or(String::new(), |rcode| format!(", {rcode}"));
                detail = format!("{detail} (Proxy-Status: {error}{rcode})");
            }
            if *status == 407 && authenticated {
                detail = format!("{detail}; the user and password that were given don't pass");
            }
            if *status == 407 && !offers.is_empty() {
                detail = format!("{detail}; it offers {}", offers.join(", "));
            }
            failed(cause::of_status(*status, told.as_ref()), detail)
        }
    }
}

fn of_tls(why: &NoTls, otherwise: Option<Otherwise>) -> Found {
    match why {
        NoTls::Reset(error) => failed(Cause::TcpReset, format!("reset after the TLS ClientHello: {error}")),
        NoTls::Closed => failed(Cause::TlsFailed, "closed without an answer to the TLS ClientHello"),
        NoTls::Silent(limit) => of_silence(*limit, otherwise),
        NoTls::Foreign(bytes)
            if bytes.starts_with(b"HTTP/") || bytes.trim_ascii_start().starts_with(b"<") =>
        {
            failed(Cause::HttpUnexpected, format!("HTTP in clear in place of TLS{}", words(bytes)))
        }
        NoTls::Foreign(bytes) => {
            failed(Cause::TlsFailed, format!("something else than TLS answers{}", words(bytes)))
        }
        NoTls::Failed(why) => failed(Cause::TlsFailed, printable(why, 200)),
        NoTls::Name => failed(Cause::TlsFailed, "no certificate can be for such a name"),
    }
}

/// No answer to a ClientHello.
fn of_silence(limit: Duration, otherwise: Option<Otherwise>) -> Found {
    let silent = format!("the connection opens, and no TLS answer comes within {limit:?}");
    let detail = match otherwise {
        Some(Otherwise::InSegments(bytes)) => {
            let detail = format!(
                "a TLS handshake of full-size packets gets no answer within {limit:?}, one of {bytes}-byte \
                 segments succeeds: the larger packets are lost"
            );
            return failed(Cause::PathMtu, detail);
        }
        Some(Otherwise::Silent(bytes)) => {
            format!("{silent}, in segments of {bytes} bytes neither: a box on the way drops it")
        }
        Some(Otherwise::ShortHello) => silent,
        None => format!("{silent}; {LARGE}"),
    };
    failed(Cause::TlsFailed, detail)
}

fn of_web_socket(end: &WebSocketEnd) -> Option<Found> {
    Some(match end {
        WebSocketEnd::Held { opening, .. } => {
            let severity = Cause::WsSlow.about().threshold?.judge(*opening)?;
            let detail =
                format!("from the first packet to an open WebSocket it took {:.1} s", opening.as_secs_f64());
            Found { cause: Cause::WsSlow, severity, detail }
        }
        WebSocketEnd::Refused(how) => failed(Cause::WsRefused, printable(how, 200)),
        WebSocketEnd::Stripped(how) => failed(Cause::WsStripped, printable(how, 200)),
        WebSocketEnd::Hung(limit) => {
            failed(Cause::WsHung, format!("no answer to the upgrade within {limit:?}"))
        }
        WebSocketEnd::Cut(after, how) => failed(
            Cause::WsCut,
            printable(&format!("open for {:.1} s, then {how}", after.as_secs_f64()), 200),
        ),
        WebSocketEnd::Buffered(how) => failed(Cause::WsBuffered, how.clone()),
    })
}

fn of_late(seen: &Seen, limit: Duration) -> Found {
    let late = |what: &str| format!("{what}, and {limit:?} for this endpoint were over");
    match (seen.trace.stage, seen.tls, &seen.shown) {
        (_, Some(_), Some(_)) => failed(Cause::HttpUnexpected, late("behind TLS, no answer came")),
        (Stage::Connect, ..) if seen.trace.address.is_some() => {
            failed(Cause::TlsFailed, late("the connection opened, and no TLS came about"))
        }
        (Stage::Connect, ..) => failed(Cause::TcpTimeout, late("no connection came about")),
        _ => failed(Cause::DnsTimeout, late("no DNS answer came")),
    }
}

/// What is wrong with a certificate, if anything is.
fn of_certificate(shown: &Shown, verdicts: &Verdicts) -> Option<Found> {
    use CertificateError as C;
    let Err(public) = &verdicts.public else { return None };
    let who = issuer(shown);
    let error = match (public, &verdicts.platform) {
        // Only what the one set knows the issuer of can be judged further by it.
        (Error::InvalidCertificate(C::UnknownIssuer), Err(platform)) => platform,
        (public, _) => public,
    };
    Some(match (error, &verdicts.platform) {
        (
            Error::InvalidCertificate(
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
            ),
            _,
        ) => failed(Cause::TlsExpired, format!("{}; {who}", fault(error))),
        (Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }), _) => {
            failed(Cause::TlsWrongName, format!("{}; subject {}; {who}", fault(error), shown.subject))
        }
        (_, Ok(())) => degraded(
            Cause::TlsIntercepted,
            format!("this machine trusts a certificate that is not from a public authority; {who}"),
        ),
        (Error::InvalidCertificate(C::UnknownIssuer), _) => failed(
            Cause::TlsIntercepted,
            format!("a certificate from an authority that is unknown here; {who}"),
        ),
        // A certificate that signed itself is its own authority, which nobody knows.
        (Error::InvalidCertificate(C::Other(_)), _) if shown.issuer == shown.subject => {
            failed(Cause::TlsIntercepted, format!("a certificate that signed itself; {who}"))
        }
        _ => failed(Cause::TlsFailed, format!("{}; {who}", fault(error))),
    })
}

/// What is wrong with a certificate, in words.
fn fault(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate::in_words(why),
        other => printable(&other.to_string(), 200),
    }
}

/// Who made a certificate, in words.
fn issuer(shown: &Shown) -> String {
    let known = shown.product.map_or(String::new(), |product| format!(", known from {product}"));
    format!("issuer {}{known}; SHA-256 {}", shown.issuer, shown.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::judge;
    use crate::egress::failure::ParentError;
    use crate::egress::url::ParentUrl;

    /// A CONNECT in clear comes through where packets of full size don't, a TLS handshake doesn't.
    #[test]
    fn a_proxy_that_is_silent_over_tls_may_be_well() {
        for (url, told) in [("http://proxy.corp:3128", false), ("https://proxy.corp:8443", true)] {
            let failure = Failure::Silent(Duration::from_secs(5));
            let url = ParentUrl::parse(url).unwrap();
            let error = Box::new(ParentError { url, authenticated: false, failure });
            let found = of_unreached(&Unreached::Parent(error));
            assert_eq!(found.cause, Cause::ProxyUnreachable);
            assert_eq!(found.detail.contains("(MTU)"), told, "{}", found.detail);
        }
    }

    #[test]
    fn a_sinkhole_is_one_cause_for_check_and_for_the_proxy() {
        let address: IpAddr = "72.5.65.111".parse().unwrap();
        for found in [Vec::new(), vec![address]] {
            let addresses = vec![(address, 443).into()];
            let why = Unreached::Dial(DialError::Timeout { limit: Duration::from_secs(5), addresses });
            let of_proxy = why.cause();
            let told = find(&Seen { found, end: Some(End::Unreached(why)), ..Seen::default() }).unwrap();
            assert_eq!((told.cause, of_proxy), (Cause::DnsPrivate, Cause::DnsPrivate));
            assert_eq!(told.detail, "the name resolves to 72.5.65.111, the sinkhole of Palo Alto Networks");
        }
    }

    #[test]
    fn an_address_that_is_asked_for_is_no_name() {
        let barred = judge("10.1.2.3".parse().unwrap(), &[]).unwrap_err();
        let told = |is_address| {
            let end = Some(End::Unreached(Unreached::Barred(barred, None)));
            find(&Seen { is_address, end, ..Seen::default() }).unwrap().detail
        };
        assert!(told(true).starts_with("the target is 10.1.2.3"), "{}", told(true));
        assert!(told(false).starts_with("the name resolves to 10.1.2.3"), "{}", told(false));
    }
}
