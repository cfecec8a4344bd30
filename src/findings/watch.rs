//! What the rounds of the watch found: since when, when it was last well, and what is different since.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::change::Change;
use super::{Finding, Key, Second, Source, State, Subject, TARGETS};
use crate::cause::{Cause, Owner};
use crate::policy::{Category, Protocol};

/// A round trip is another one when it is so many times the former ...
const SLOWER: u64 = 3;
/// ... and so many milliseconds more.
const SLOWER_MS: u64 = 100;

/// How an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ProbeStatus {
    Untested,
    Ok,
    Degraded,
    Failed,
    /// Another cause hides what would be found.
    Skipped,
}

/// What a round saw of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub category: Category,
    pub status: ProbeStatus,
    pub cause: Option<Cause>,
    /// One printable line.
    pub detail: String,
    /// Who vouches for its certificate.
    pub issuer: Option<String>,
    /// All that the name has, sorted.
    pub addresses: Vec<IpAddr>,
    pub rtt_ms: Option<u64>,
    /// All steps.
    pub took_ms: Option<u64>,
    /// Of the Bindings to a media endpoint.
    pub loss: Option<f64>,
}

/// What a round found altogether.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    pub verdict: State,
    pub summary: String,
    pub cause: Option<Cause>,
    pub owner: Option<Owner>,
    pub probes: Vec<Probe>,
}

/// All rounds so far.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<(Second, Round)>,
    /// When the present verdict began.
    since: Second,
    last_good: Option<Second>,
    /// Each endpoint as it last was well.
    well: HashMap<(String, u16, bool), Probe>,
    /// What fails, since when, and when it was last seen.
    failing: BTreeMap<(Cause, Option<Category>), Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Second,
    targets: Vec<String>,
}

impl Watch {
    /// Takes in a round; what is different about the endpoints that were well before.
    pub fn round(&mut self, now: Second, round: Round) -> Vec<Change> {
        let changes = round.probes.iter().filter(|probe| probe.status >= ProbeStatus::Degraded);
        let changes = changes.flat_map(|probe| self.differences(probe)).collect();
        let mut failing: BTreeMap<(Cause, Option<Category>), Failing> = BTreeMap::new();
        let mut well = Vec::new();
        let since = |key| self.failing.get(&key).map_or(now, |known: &Failing| known.since);
        for probe in &round.probes {
            match (probe.status, probe.cause) {
                (ProbeStatus::Ok, _) => well.push(probe.clone()),
                (ProbeStatus::Degraded | ProbeStatus::Failed, Some(cause)) => {
                    let key = (cause, Some(probe.category));
                    let entry = failing.entry(key);
                    let entry = entry.or_insert_with(|| Failing { since: since(key), targets: Vec::new() });
                    if entry.targets.len() < TARGETS {
                        entry.targets.push(format!("{}:{}", probe.host, probe.port));
                    }
                }
                _ => {}
            }
        }
        // What is wrong with this machine, such as its clock, is no endpoint's.
        if let Some(cause) = round.cause.filter(|_| failing.is_empty() && round.verdict != State::Ok) {
            failing.insert((cause, None), Failing { since: since((cause, None)), targets: Vec::new() });
        }
        self.failing = failing;
        self.well.extend(well.into_iter().map(|probe| (key(&probe), probe)));
        // Endpoints that are no longer tested are forgotten.
        let tested: Vec<_> = round.probes.iter().map(key).collect();
        self.well.retain(|known, _| tested.contains(known));
        if self.last.as_ref().is_none_or(|(_, last)| last.verdict != round.verdict) {
            self.since = now;
        }
        if round.verdict == State::Ok {
            self.last_good = Some(now);
        }
        self.last = Some((now, round));
        changes
    }

    fn differences(&self, probe: &Probe) -> Vec<Change> {
        let Some(before) = self.well.get(&key(probe)) else { return Vec::new() };
        let host = || probe.host.clone();
        let mut found = Vec::new();
        // Names of AWS give some of their addresses at a time: as long as one stays it is the same place.
        let (from, to) = (&before.addresses, &probe.addresses);
        if !from.is_empty() && !to.is_empty() && !to.iter().any(|address| from.contains(address)) {
            let list = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            found.push(Change::Answers { host: host(), from: list(from), to: list(to) });
        }
        if let (Some(from), Some(to)) = (&before.issuer, &probe.issuer)
            && from != to
        {
            found.push(Change::Issuer { host: host(), from: from.clone(), to: to.clone() });
        }
        if let (Some(from), Some(to)) = (before.rtt_ms, probe.rtt_ms)
            && to > from * SLOWER
            && to > from + SLOWER_MS
        {
            found.push(Change::RoundTrip { host: host(), from, to });
        }
        found
    }

    /// Findings without clients: what the proxy itself finds wrong.
    pub fn findings(&self, active: usize) -> impl Iterator<Item = Finding> {
        let last = self.last.as_ref().map_or(0, |(at, _)| *at);
        self.failing.iter().map(move |((cause, category), failing)| Finding {
            key: Key { cause: *cause, category: *category, subject: Subject::None },
            source: Source::Watch,
            since: failing.since,
            last,
            clients: Vec::new(),
            active,
            networks: Vec::new(),
            targets: failing.targets.clone(),
            lacks: None,
            by: None,
        })
    }

    /// Whether the last round failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.last.as_ref().is_some_and(|(_, round)| round.verdict == State::Failed)
    }

    /// The last round, and when it was.
    #[must_use]
    pub fn last(&self) -> Option<&(Second, Round)> {
        self.last.as_ref()
    }

    /// Since when the verdict is the present one.
    #[must_use]
    pub fn since(&self) -> Second {
        self.since
    }

    /// The last round without any trouble.
    #[must_use]
    pub fn last_good(&self) -> Option<Second> {
        self.last_good
    }
}

fn key(probe: &Probe) -> (String, u16, bool) {
    (probe.host.clone(), probe.port, probe.protocol == Protocol::Udp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(host: &str, status: ProbeStatus, cause: Option<Cause>) -> Probe {
        Probe {
            host: host.to_owned(),
            port: 443,
            protocol: Protocol::Tcp,
            category: Category::Signalling,
            status,
            cause,
            detail: String::new(),
            issuer: Some("CN=Amazon RSA 2048 M01".to_owned()),
            addresses: vec![[192, 0, 2, 1].into()],
            rtt_ms: Some(20),
            took_ms: Some(80),
            loss: None,
        }
    }

    fn round(verdict: State, probes: Vec<Probe>) -> Round {
        Round { verdict, summary: String::new(), cause: None, owner: None, probes }
    }

    #[test]
    fn since_when_last_good_and_what_is_different() {
        let mut watch = Watch::default();
        assert!(!watch.failed() && watch.last().is_none());
        for at in [10, 20] {
            let well =
                vec![probe("a.example", ProbeStatus::Ok, None), probe("b.example", ProbeStatus::Ok, None)];
            assert_eq!(watch.round(at, round(State::Ok, well)), []);
        }
        assert_eq!((watch.since(), watch.last_good(), watch.findings(3).count()), (10, Some(20), 0));
        let broken = |status| Probe {
            issuer: Some("CN=Gateway".to_owned()),
            addresses: vec![[10, 0, 0, 9].into()],
            rtt_ms: Some(200),
            ..probe("a.example", status, Some(Cause::TlsIntercepted))
        };
        let changes = watch.round(30, round(State::Failed, vec![broken(ProbeStatus::Failed)]));
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "DNS for a.example: 192.0.2.1 → 10.0.0.9",
                "the TLS issuer of a.example: CN=Amazon RSA 2048 M01 → CN=Gateway",
                "the round trip to a.example: 20 ms → 200 ms",
            ]
        );
        assert!(watch.failed());
        watch.round(40, round(State::Degraded, vec![broken(ProbeStatus::Degraded)]));
        assert_eq!((watch.since(), watch.last_good()), (40, Some(20)));
        let findings: Vec<Finding> = watch.findings(3).collect();
        assert_eq!((findings.len(), findings[0].since, findings[0].last), (1, 30, 40));
        assert_eq!(findings[0].targets, ["a.example:443"]);
        watch.round(50, round(State::Ok, vec![probe("a.example", ProbeStatus::Ok, None)]));
        assert_eq!((watch.findings(3).count(), watch.since(), watch.last_good()), (0, 50, Some(50)));
    }

    #[test]
    fn what_is_hidden_or_untested_is_no_finding() {
        let mut watch = Watch::default();
        let probes = vec![
            probe("a.example", ProbeStatus::Skipped, Some(Cause::TcpTimeout)),
            probe("b.example", ProbeStatus::Untested, None),
        ];
        watch.round(1, round(State::Ok, probes));
        assert_eq!(watch.findings(1).count(), 0);
    }
}
