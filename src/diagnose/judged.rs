//! One endpoint with what was found of it: observation → [`finding`], and what is shown of both. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::finding::{self, Found, of_sinkhole, of_slow_dns, of_unreached};
use super::observed::{Clock, End, Observed, Seen, WebSocketEnd};
use super::report::{self, Certificate, Status, Steps};
use super::targets::Endpoint;
use super::voice::Tested;
use crate::cause::Cause;
use crate::egress::Unreached;
use crate::egress::failure::Failure;
use crate::egress::sinkhole::Sinkhole;

/// An endpoint with what was found of it.
pub(crate) struct Judged {
    pub endpoint: Endpoint,
    pub status: Status,
    pub cause: Option<Cause>,
    /// The cause that hides this one.
    pub because: Option<Cause>,
    pub detail: String,
    address: Option<String>,
    addresses: Vec<IpAddr>,
    certificate: Option<Certificate>,
    steps: Steps,
    rtt_ms: Option<u64>,
    loss: Option<f64>,
    pub clock: Option<Clock>,
}

impl Judged {
    /// An endpoint by what was observed of it alone.
    pub(super) fn new(endpoint: Endpoint, observed: Observed) -> Self {
        let mut judged = Self::untested(endpoint);
        match observed {
            Observed::Untested(why) => judged.detail = why,
            Observed::Hidden(cause) => {
                judged.status = Status::Skipped;
                judged.because = Some(cause);
                judged.detail = "not tried, for what it rests on has failed".to_owned();
            }
            Observed::Media(tested) => judged.hear(*tested),
            Observed::Tested(seen) => judged.see(&seen),
        }
        judged
    }

    fn untested(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            status: Status::Untested,
            cause: None,
            because: None,
            detail: String::new(),
            address: None,
            addresses: Vec::new(),
            certificate: None,
            steps: Steps::default(),
            rtt_ms: None,
            loss: None,
            clock: None,
        }
    }

    pub(super) fn set(&mut self, found: Found) {
        self.status = found.severity.into();
        self.cause = Some(found.cause);
        self.detail = found.detail;
    }

    /// Takes in what a media endpoint answered.
    fn hear(&mut self, tested: Tested) {
        let Tested { trace, meaning } = tested;
        self.steps.dns_ms = trace.dns.map(ms);
        let meaning = match meaning {
            Ok(meaning) => meaning,
            Err(why) => return self.set(of_unreached(&why)),
        };
        self.status = Status::Ok;
        self.addresses = meaning.addresses;
        self.address = meaning.address.map(|address| address.to_string());
        self.rtt_ms = meaning.round_trip.map(ms);
        self.loss = meaning.loss;
        let sinkhole = meaning.address.and_then(|address| Sinkhole::at(address.ip()));
        let found = match (meaning.cause, sinkhole) {
            (Some((Cause::UdpBlocked | Cause::TurnPartial, _)), Some(sinkhole)) => {
                Some(of_sinkhole(sinkhole))
            }
            (Some((cause, severity)), _) => Some(Found { cause, severity, detail: meaning.detail.clone() }),
            (None, _) => trace.dns.and_then(of_slow_dns),
        };
        self.detail = meaning.detail;
        if let Some(found) = found {
            self.set(found);
        }
    }

    /// Takes in what a probe saw.
    fn see(&mut self, seen: &Seen) {
        self.steps = Steps {
            dns_ms: seen.trace.dns.filter(|_| !seen.by_proxy).map(ms),
            connect_ms: seen.trace.connect.map(ms),
            tls_ms: seen.tls.map(ms),
            http_ms: seen.http.map(ms),
        };
        if !seen.by_proxy {
            self.address = seen.trace.address.map(|address| address.to_string());
            // What one connect took: the way there and back.
            self.rtt_ms = seen.trace.address.and(seen.trace.connect).map(ms);
        }
        self.addresses.clone_from(&seen.found);
        self.certificate = seen.shown.as_ref().map(|(shown, verdicts)| Certificate {
            issuer: shown.issuer.clone(),
            subject: shown.subject.clone(),
            sha256: shown.fingerprint.clone(),
            product: shown.product,
            public: verdicts.public.is_ok(),
        });
        self.clock = seen.clock;
        self.status = Status::Ok;
        self.detail = match &seen.end {
            Some(End::Answered(status)) => format!("answered {status}"),
            Some(End::WebSocket(WebSocketEnd::Held { held, .. })) => {
                format!("the WebSocket lived for {:.0} s and answered", held.as_secs_f64())
            }
            _ => String::new(),
        };
        if let Some(found) = finding::find(seen) {
            self.set(found);
        }
    }

    /// Whether the name was resolved, or something stood for it, so that DNS is out of the question.
    pub(super) fn is_past_dns(&self) -> bool {
        let dns = [
            Cause::DnsNxdomain,
            Cause::DnsServfail,
            Cause::DnsTimeout,
            Cause::DnsPrivate,
            Cause::InstanceUnknown,
        ];
        !matches!(self.status, Status::Untested | Status::Skipped)
            && self.cause.is_none_or(|cause| !dns.contains(&cause))
    }

    /// As it is shown.
    pub(super) fn into_shown(self) -> report::Endpoint {
        let Endpoint { host, port, protocol, category, .. } = self.endpoint;
        report::Endpoint {
            host,
            port,
            protocol,
            category,
            address: self.address,
            addresses: self.addresses,
            certificate: self.certificate,
            status: self.status,
            cause: self.cause,
            because: self.because,
            detail: self.detail,
            remedy: self.cause.map(|cause| cause.about().remedy),
            rtt_ms: self.rtt_ms,
            steps: self.steps,
            loss: self.loss,
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the tests so far say of the one proxy that all of them go through.
pub(super) struct OneProxy {
    /// The cause that makes further tests pointless: it is dead.
    pub dead: Option<Cause>,
    /// How many tests run at once: as many are the first ones.
    at_once: usize,
    /// How many of the first ones have begun, and have been heard.
    begun: usize,
    heard: usize,
    /// Whether it gave any test an answer that proxies give.
    answers: bool,
    /// How many it gave none.
    unanswered: usize,
}

impl OneProxy {
    pub(super) fn new(at_once: usize) -> Self {
        Self { dead: None, at_once, begun: 0, heard: 0, answers: false, unanswered: 0 }
    }

    /// A test begins; returns whether it is one of the first ones.
    pub(super) fn begin(&mut self) -> bool {
        let is_first = self.begun < self.at_once;
        self.begun += usize::from(is_first);
        is_first
    }

    /// Takes in what came of one of the tests.
    pub(super) fn hear(&mut self, observed: &Observed, is_first: bool) {
        self.heard += usize::from(is_first);
        let Observed::Tested(seen) = observed else { return };
        let why = match &seen.end {
            Some(End::Unreached(why)) => why,
            None | Some(End::Late(_)) => return,
            Some(_) => return self.answers = true,
        };
        let Unreached::Parent(error) = why else { return };
        let cause = of_unreached(why).cause;
        match &error.failure {
            Failure::Dns(_) | Failure::Dial(_) | Failure::Tls { .. } => {
                self.dead = self.dead.or((cause == Cause::ProxyUnreachable).then_some(cause));
            }
            Failure::Refused { .. } if cause != Cause::ProxyUnreachable => self.answers = true,
            // Some proxies give a host that they block no other answer than this, and sooner than others a good one:
            // only what each of the first ones met is the proxy's own.
            _ => {
                self.unanswered += 1;
                if !self.answers && self.heard >= self.at_once && self.unanswered >= self.at_once {
                    self.dead = self.dead.or(Some(cause));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::egress::dialer::DialError;
    use crate::egress::failure::{ParentError, Told};
    use crate::egress::url::ParentUrl;

    const AT_ONCE: usize = 3;

    fn ended(end: End) -> Observed {
        Observed::Tested(Box::new(Seen { end: Some(end), ..Seen::default() }))
    }

    fn through(failure: Failure) -> Observed {
        let url = ParentUrl::parse("http://proxy.corp:3128").unwrap();
        ended(End::Unreached(Unreached::Parent(Box::new(ParentError { url, authenticated: false, failure }))))
    }

    fn lost() -> Observed {
        through(Failure::Lost("connection reset".into()))
    }

    fn refused(status: u16, error: &str) -> Observed {
        let told = Some(Told { error: error.into(), ..Told::default() });
        through(Failure::Refused { status, words: String::new(), offers: Vec::new(), told })
    }

    fn is_dead(all: &[Observed]) -> bool {
        let mut proxy = OneProxy::new(AT_ONCE);
        for observed in all {
            let is_first = proxy.begin();
            proxy.hear(observed, is_first);
        }
        proxy.dead.is_some()
    }

    /// A reset frees its place at once, while a good answer takes its time.
    #[test]
    fn a_proxy_is_not_dead_before_all_of_the_first_tests_are_heard() {
        for (last, dead) in [(ended(End::Answered(200)), false), (lost(), true)] {
            let mut proxy = OneProxy::new(AT_ONCE);
            let first: Vec<bool> = (0..AT_ONCE).map(|_| proxy.begin()).collect();
            assert_eq!(first, [true; AT_ONCE]);
            for _ in 1..AT_ONCE {
                proxy.hear(&lost(), true);
            }
            for _ in 0..2 * AT_ONCE {
                assert!(!proxy.begin());
                proxy.hear(&lost(), false);
                assert_eq!(proxy.dead, None, "one of the first ones is under way");
            }
            proxy.hear(&last, true);
            proxy.hear(&lost(), false);
            assert_eq!(proxy.dead.is_some(), dead);
        }
    }

    #[test]
    fn a_proxy_that_is_not_reached_is_dead_at_once() {
        let address: SocketAddr = "127.0.0.1:3128".parse().unwrap();
        assert!(is_dead(&[through(Failure::Dial(DialError::Refused(address)))]));
        assert!(is_dead(&[through(Failure::Tls { certificate: true, why: String::new() })]));
        let used_up = std::io::Error::from_raw_os_error(libc::EMFILE);
        assert!(!is_dead(&[through(Failure::Dial(DialError::Exhausted(used_up)))]));
    }

    #[test]
    fn a_proxy_that_blocks_hosts_without_an_answer_is_not_dead() {
        let blocks: [fn() -> Observed; 5] = [
            lost,
            || through(Failure::Silent(Duration::from_secs(10))),
            || through(Failure::Oversized),
            || through(Failure::Foreign("SSH".into())),
            || refused(405, ""),
        ];
        for block in blocks {
            assert!(!is_dead(&[block(), block()]));
            assert!(is_dead(&[block(), block(), block()]), "it never gave an answer");
            for answer in [
                ended(End::Answered(403)),
                ended(End::Untrusted),
                refused(403, ""),
                refused(502, "dns_error"),
            ] {
                assert!(!is_dead(&[block(), answer, block(), block(), block()]));
            }
            // These say nothing of it.
            let late = || ended(End::Late(Duration::from_secs(18)));
            assert!(is_dead(&[late(), Observed::Untested(String::new()), block(), block(), block()]));
        }
    }
}
