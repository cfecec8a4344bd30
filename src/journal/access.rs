//! The access lines: one for each ended tunnel and each denial, as JSON or as `key=value`.
//!
//! Every tunnel pays for its line, so the text is put together without `core::fmt` wherever a
//! value comes with every line: that took two thirds off what the line costs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use strum::IntoStaticStr;

use super::id::RequestId;
use super::journald;
use super::ledger::Seat;
use super::log::{Format, Sink};
use super::metrics::RuleSeries;
use crate::outcome::{Denial, EndedBy, Fault, Outcome, Stage, WouldDeny};
use crate::policy::Category;
use crate::target::Target;

/// Room for an ordinary line, so that it is allocated once.
const LINE: usize = 512;

/// What a line is about.
#[derive(Clone, Copy, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Kind {
    Tunnel,
    Denied,
}

/// What is told of a tunnel or a denial: one access line, where every key is, null without a value;
/// and what besides the others who listen need of it.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Event<'a> {
    #[serde(serialize_with = "to_the_millisecond")]
    pub time: Timestamp,
    pub event: Kind,
    pub id: RequestId,
    pub client: SocketAddr,
    pub target: Option<Asked<'a>>,
    pub domain: Option<&'a str>,
    pub category: Option<&'static str>,
    pub upstream: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Denial>,
    pub ended_by: Option<EndedBy>,
    pub stage: Option<Stage>,
    /// Why it failed, as docs/causes.md has it.
    pub cause: Option<Fault>,
    pub sent: u64,
    pub received: u64,
    pub duration_ms: Millis,
    pub dns_ms: Option<Millis>,
    pub connect_ms: Option<Millis>,
    pub would_deny: Option<WouldDeny>,
    pub client_cert: Option<&'a str>,
    /// What an administrator reads first: the cause in words.
    pub detail: Option<&'a str>,
    /// Its time by the clock that only goes on.
    #[serde(skip)]
    pub moment: Instant,
    /// The category of the rule that allows it, or would if no limit were met.
    #[serde(skip)]
    pub traffic: Option<Category>,
    /// The handles of its rule, likewise.
    #[serde(skip)]
    pub series: Option<&'a RuleSeries>,
    /// What the ledger knows it by.
    #[serde(skip)]
    pub(crate) seat: Option<&'a Arc<Seat>>,
    /// The client was told that the tunnel stands.
    #[serde(skip)]
    pub live: bool,
    /// `log.access` of the configuration that it was under.
    #[serde(skip)]
    pub logged: bool,
}

impl<'a> Event<'a> {
    /// Something about a client's request, now; all else that is known of it is added.
    pub(crate) fn new(id: RequestId, client: SocketAddr, client_cert: Option<&'a str>, logged: bool) -> Self {
        Self::at(Timestamp::now(), id, client, client_cert, logged)
    }

    /// The same where the time is known.
    pub(crate) fn at(
        time: Timestamp,
        id: RequestId,
        client: SocketAddr,
        client_cert: Option<&'a str>,
        logged: bool,
    ) -> Self {
        Self {
            time,
            moment: Instant::now(),
            event: Kind::Tunnel,
            id,
            client,
            target: None,
            domain: None,
            category: None,
            upstream: None,
            outcome: None,
            reason: None,
            ended_by: None,
            stage: None,
            cause: None,
            sent: 0,
            received: 0,
            duration_ms: Millis(Duration::ZERO),
            dns_ms: None,
            connect_ms: None,
            would_deny: None,
            client_cert,
            detail: None,
            traffic: None,
            series: None,
            seat: None,
            live: false,
            logged,
        }
    }

    /// The same as a denial.
    pub(crate) fn denied(self, reason: Denial, fault: Option<Fault>, detail: &'a str) -> Self {
        Self { event: Kind::Denied, reason: Some(reason), cause: fault, detail: Some(detail), ..self }
    }
}

/// What a client asked for.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    Target(&'a Target),
    /// No target could be read from it.
    Text(&'a str),
}

/// What is remembered of a text from a client; no host is longer.
pub(super) const LONGEST: usize = 300;

impl Asked<'_> {
    /// What is remembered of it.
    pub(super) fn short(self) -> Box<str> {
        match self {
            Self::Target(target) => target.to_string().into(),
            Self::Text(text) => short(text),
        }
    }
}

/// The beginning of a text from a client.
pub(super) fn short(text: &str) -> Box<str> {
    text.chars().take(LONGEST).collect::<String>().into()
}

impl Serialize for Asked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Target(target) => serializer.collect_str(target),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// A time that is written in milliseconds with up to three decimals.
#[derive(Clone, Copy)]
pub(crate) struct Millis(pub Duration);

impl Millis {
    fn microseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX).saturating_add(500) / 1000
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.microseconds() as f64 / 1000.0)
    }
}

/// RFC 3339 in UTC.
fn to_the_millisecond<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Writes access lines in the configured form.
#[derive(Clone)]
pub(crate) struct AccessLog {
    sink: Sink,
    format: Format,
}

impl AccessLog {
    pub(crate) fn new(sink: Sink, format: Format) -> Self {
        Self { sink, format }
    }

    pub(crate) fn write(&self, event: &Event<'_>) {
        let journal = self.sink.is_journal();
        let line = match self.format {
            Format::Json => {
                let mut line = Vec::with_capacity(LINE);
                if journal {
                    line.extend_from_slice(journald::INFO.as_bytes());
                }
                // Plain data into memory: neither can fail.
                let _ = serde_json::to_writer(&mut line, event);
                line.push(b'\n');
                line
            }
            Format::Text => text(event, journal).into_bytes(),
        };
        self.sink.push(&line);
    }
}

/// With the time in front, or for the journal with the level.
fn text(a: &Event<'_>, journal: bool) -> String {
    let mut line = Pairs(String::with_capacity(LINE));
    if journal {
        line.0.push_str(journald::INFO);
    } else {
        let _ = write!(line.0, "{:.3} ", a.time);
    }
    line.0.push_str(a.event.into_str());
    line.address("client", Some(a.client));
    match a.target {
        Some(Asked::Target(target)) => {
            let _ = write!(line.key("target"), "{target}");
        }
        Some(Asked::Text(text)) => line.foreign("target", Some(text)),
        None => {}
    }
    line.own("outcome", a.outcome.map(|outcome| outcome.into_str()));
    line.own("reason", a.reason.map(|reason| reason.into_str()));
    line.own("domain", a.domain);
    line.own("category", a.category);
    line.address("upstream", a.upstream);
    line.own("ended_by", a.ended_by.map(|by| by.into_str()));
    line.own("stage", a.stage.map(|stage| stage.into_str()));
    line.own("cause", a.cause.map(|fault| fault.cause.as_str()));
    if a.outcome.is_some() {
        line.number("sent", a.sent);
        line.number("received", a.received);
        line.millis("duration_ms", Some(a.duration_ms));
    }
    line.millis("dns_ms", a.dns_ms);
    line.millis("connect_ms", a.connect_ms);
    line.own("would_deny", a.would_deny.map(|reason| reason.into_str()));
    line.foreign("client_cert", a.client_cert);
    let _ = write!(line.key("id"), "{}", a.id);
    line.foreign("detail", a.detail);
    line.0.push('\n');
    line.0
}

/// ` key=value` after ` key=value`; what has no value is left out.
struct Pairs(String);

impl Pairs {
    fn key(&mut self, key: &str) -> &mut String {
        self.0.push(' ');
        self.0.push_str(key);
        self.0.push('=');
        &mut self.0
    }

    /// A word of this program's.
    fn own(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key).push_str(value);
        }
    }

    /// A text from outside, in quotes where it could be taken for more than a value.
    fn foreign(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        if value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=') {
            self.key(key).push_str(value);
        } else {
            let _ = write!(self.key(key), "{value:?}");
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key).push_str(itoa::Buffer::new().format(value));
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        match value {
            Some(SocketAddr::V4(address)) => {
                let line = self.key(key);
                for (i, octet) in address.ip().octets().into_iter().enumerate() {
                    if i > 0 {
                        line.push('.');
                    }
                    line.push_str(itoa::Buffer::new().format(octet));
                }
                line.push(':');
                line.push_str(itoa::Buffer::new().format(address.port()));
            }
            Some(SocketAddr::V6(address)) => {
                let _ = write!(self.key(key), "{address}");
            }
            None => {}
        }
    }

    fn millis(&mut self, key: &str, value: Option<Millis>) {
        let Some(value) = value else { return };
        let microseconds = value.microseconds();
        self.number(key, microseconds / 1000);
        let rest = microseconds % 1000;
        if rest > 0 {
            let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|d| b'0' + d as u8);
            let shown = digits.len() - digits.iter().rev().take_while(|d| **d == b'0').count();
            self.0.push('.');
            self.0.extend(digits[..shown].iter().map(|d| char::from(*d)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn pairs(fill: impl FnOnce(&mut Pairs)) -> String {
        let mut pairs = Pairs(String::new());
        fill(&mut pairs);
        pairs.0
    }

    fn line() -> Event<'static> {
        Event {
            time: Timestamp::from_millisecond(1_764_064_800_007).unwrap(),
            target: Some(Asked::Text("a b")),
            domain: Some("*.example.com"),
            category: Some("core"),
            upstream: Some("[2001:db8::1]:443".parse().unwrap()),
            outcome: Some(Outcome::Ok),
            ended_by: Some(EndedBy::Client),
            received: u64::MAX,
            duration_ms: Millis(Duration::from_micros(1_020)),
            connect_ms: Some(Millis(Duration::ZERO)),
            ..Event::new(RequestId(1), "192.0.2.7:50000".parse().unwrap(), Some("CN=a"), true)
        }
    }

    #[test]
    fn a_line_is_pairs_of_what_has_a_value() {
        let expected = "2025-11-25T10:00:00.007Z tunnel client=192.0.2.7:50000 target=\"a b\" \
            outcome=ok domain=*.example.com category=core upstream=[2001:db8::1]:443 ended_by=client \
            sent=0 received=18446744073709551615 duration_ms=1.02 connect_ms=0 client_cert=\"CN=a\" \
            id=9e3779b97f4a\n";
        assert_eq!(text(&line(), false), expected);
        let (_, untimed) = expected.split_once(' ').unwrap();
        assert_eq!(text(&line(), true), format!("<6>{untimed}"));
    }

    #[test]
    fn json_has_every_key() {
        let value: serde_json::Value = serde_json::to_value(line()).unwrap();
        assert_eq!(value["time"], "2025-11-25T10:00:00.007Z");
        assert_eq!(value["target"], "a b");
        assert_eq!(value["duration_ms"], 1.02);
        assert_eq!(value["connect_ms"], 0.0);
        assert!(value["dns_ms"].is_null() && value["detail"].is_null());
    }

    proptest! {
        #[test]
        fn values_read_as_the_standard_library_writes_them(
            octets: [u8; 4], port: u16, micros in 0..10_000_000_000u64
        ) {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port);
            prop_assert_eq!(pairs(|p| p.address("k", Some(address))), format!(" k={address}"));
            let time = Millis(Duration::from_micros(micros));
            let expected = format!(" k={}", micros as f64 / 1000.0);
            prop_assert_eq!(pairs(|p| p.millis("k", Some(time))), expected);
        }
    }
}
