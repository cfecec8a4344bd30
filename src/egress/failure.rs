//! Why no tunnel came about through a parent proxy, and what an administrator does about it. No I/O.

use std::fmt;
use std::time::Duration;

use super::url::ParentUrl;
use crate::cause::Cause;
use crate::egress::dialer::DialError;
use crate::egress::resolver::ResolveError;

/// Why no tunnel came about through a parent proxy.
#[derive(Debug)]
pub struct ParentError {
    pub url: ParentUrl,
    /// Whether it was sent a user and a password.
    pub authenticated: bool,
    pub failure: Failure,
}

/// What went wrong with a parent proxy.
#[derive(Debug)]
pub enum Failure {
    Dns(ResolveError),
    Dial(DialError),
    /// The TLS handshake with it failed; `certificate`: because of its certificate.
    Tls {
        certificate: bool,
        why: String,
    },
    /// No whole answer within this time, which began with the dial.
    Silent(Duration),
    /// The connection ended before its answer was whole.
    Lost(String),
    /// The head of its answer is too large.
    Oversized,
    /// It speaks another protocol than HTTP/1: this one.
    Foreign(String),
    Refused {
        status: u16,
        /// Reason phrase and text, in one printable line.
        words: String,
        /// The schemes of its `Proxy-Authenticate`.
        offers: Vec<String>,
        /// What its `Proxy-Status` says, where it has one.
        told: Option<Told>,
    },
}

/// What a proxy says of an error in `Proxy-Status` (RFC 9209 section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The error type, a token such as `dns_timeout`.
    pub error: String,
    /// Its `rcode`, in upper case: `NXDOMAIN`.
    pub rcode: Option<String>,
    /// Its `details`, where that is a word: ccpgate's own reasons are.
    pub details: Option<String>,
}

impl Told {
    /// Reads the first error in a field's value, tolerantly: it decides nothing but words.
    pub(super) fn parse(value: &str) -> Option<Self> {
        const LONGEST: usize = 64;
        let word = |text: &str| -> String {
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            text.trim().trim_matches('"').chars().take_while(plain).take(LONGEST).collect()
        };
        let mut told = Self::default();
        for (name, value) in value.split([';', ',']).filter_map(|part| part.trim().split_once('=')) {
            match name.trim() {
                "error" if told.error.is_empty() => told.error = word(value),
                "rcode" if told.rcode.is_none() => told.rcode = Some(word(value).to_ascii_uppercase()),
                "details" if told.details.is_none() => told.details = Some(word(value)),
                _ => {}
            }
        }
        (!told.error.is_empty()).then_some(told)
    }
}

impl Told {
    /// What Squid says in `X-Squid-Error`, in the words of RFC 9209: the name of its page, and the number of
    /// the kernel's error. By its status alone, 503 or 500, it would look like a proxy without a place left.
    pub(super) fn of_squid(value: &str) -> Option<Self> {
        let (page, number) = value.split_once(' ').unwrap_or((value, ""));
        let error = match (page, number.trim().parse().unwrap_or(0)) {
            ("ERR_DNS_FAIL", _) => "dns_error",
            ("ERR_CONNECT_FAIL", libc::ECONNREFUSED) => "connection_refused",
            ("ERR_CONNECT_FAIL", libc::ETIMEDOUT) => "connection_timeout",
            ("ERR_CONNECT_FAIL" | "ERR_CANNOT_FORWARD", _) => "destination_ip_unroutable",
            _ => return None,
        };
        Some(Self { error: error.to_owned(), ..Self::default() })
    }

    /// Adds what the text of a page says: Squid's status and header don't tell a name that isn't there from
    /// a server that fails.
    pub(super) fn read_page(&mut self, text: &str) {
        if self.error == "dns_error" && self.rcode.is_none() && text.contains("does not exist") {
            self.rcode = Some("NXDOMAIN".to_owned());
        }
    }
}

impl Failure {
    /// Whether the parent, or one behind it, found that the request goes in a circle (RFC 9209 section 2.3).
    #[must_use]
    pub fn is_circle(&self) -> bool {
        matches!(self, Self::Refused { told: Some(told), .. } if told.error == "proxy_loop_detected")
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        DialError::instead_of(error).map_or_else(Self::Dns, Self::Dial)
    }
}

impl ParentError {
    /// What an administrator does next.
    pub fn remedy(&self) -> &'static str {
        match &self.failure {
            Failure::Dns(_) => "check the name in egress.proxy, and dns.servers, from this machine",
            Failure::Dial(error) if error.cause() == Cause::Limit => {
                "raise LimitNOFILE: this process has no descriptor left"
            }
            Failure::Dial(error @ DialError::Exhausted(_)) => error.cause().about().remedy,
            Failure::Dial(_) => "check egress.proxy, and the firewall between this machine and the parent",
            Failure::Tls { .. } => "check egress.proxy and egress.proxy_ca against the parent's listener",
            Failure::Silent(_) => {
                "the parent or what is behind it is slow; the limit is egress.connect_timeout"
            }
            Failure::Lost(_) => "look into the parent's log; it may not let this machine in",
            Failure::Oversized | Failure::Foreign(_) => "check scheme and port in egress.proxy",
            failure if failure.is_circle() => {
                "correct egress.proxy here or at a parent: the last proxy of a chain has none, and leads to the internet"
            }
            Failure::Refused { status: 407, .. } if self.authenticated => {
                "correct user:password in the file of egress.proxy_credentials, and reload"
            }
            Failure::Refused { status: 407, .. } => {
                "write user:password into a file, name it in egress.proxy_credentials, and reload"
            }
            Failure::Refused { .. } => {
                "ask for this host at the parent proxy, whose log has the request, or leave it out of egress.proxy_for"
            }
        }
    }
}

impl fmt::Display for ParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the parent proxy {}", self.url)?;
        match &self.failure {
            Failure::Dns(error) => write!(f, ": DNS look-up failed: {error}"),
            Failure::Dial(error) => write!(f, ": {error}"),
            Failure::Tls { why, .. } => write!(f, ": no TLS: {why}"),
            Failure::Silent(limit) => {
                write!(f, " took the connection and gave no whole answer within {limit:?}")
            }
            Failure::Lost(how) => write!(f, " gave no answer: {how}"),
            Failure::Oversized => f.write_str(" answered with too large a header"),
            Failure::Foreign(what) => write!(f, " doesn't speak HTTP/1.1: it answered {what}"),
            Failure::Refused { status, words, .. } if self.failure.is_circle() => {
                write!(f, " leads in a circle of proxies: it answered {status} {words}")
            }
            Failure::Refused { status, words, offers, .. } => {
                write!(f, " answered {status}")?;
                if !words.is_empty() {
                    write!(f, " {words}")?;
                }
                match (status, self.authenticated) {
                    (407, true) => {
                        f.write_str("; the user and password of egress.proxy_credentials don't pass")?
                    }
                    (407, false) => f.write_str(
                        "; it wants a user and password, and egress.proxy_credentials is not set",
                    )?,
                    _ => {}
                }
                let basic = offers.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
                if *status == 407 && !offers.is_empty() && !basic {
                    write!(f, "; it offers {}, and only Basic is spoken here", offers.join(", "))?;
                }
                Ok(())
            }
        }
    }
}
