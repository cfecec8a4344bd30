//! `watch` of `/api/status`: the last round, and what isn't well by it.

use serde::Serialize;

use crate::cause::{Cause, Owner};
use crate::findings::State;
use crate::findings::watch::{Probe, ProbeStatus, Watch};
use crate::journal::findings::Findings;
use crate::policy::Protocol;
use crate::proxy::snapshot::Snapshot;

/// What the watch knows; null before its first round.
#[derive(Serialize)]
pub(super) struct Watched {
    every_s: u64,
    last: Option<String>,
    verdict: Option<State>,
    summary: Option<String>,
    cause: Option<Cause>,
    owner: Option<Owner>,
    /// When this verdict began.
    since: Option<String>,
    last_good: Option<String>,
    /// What changed just before it began.
    changed: Vec<String>,
    /// Endpoints that are not well.
    endpoints: Vec<Unwell>,
}

#[derive(Serialize)]
struct Unwell {
    host: String,
    port: u16,
    protocol: Protocol,
    category: &'static str,
    status: ProbeStatus,
    cause: Option<Cause>,
    detail: String,
}

impl Watched {
    /// `anonymise`: without a client's whole address.
    pub(super) fn of(watch: &Watch, snapshot: &Snapshot, findings: &Findings, anonymise: bool) -> Self {
        let round = watch.last().map(|(_, round)| round);
        let ill = |probe: &&Probe| probe.status >= ProbeStatus::Degraded;
        let endpoints = round.iter().flat_map(|round| &round.probes).filter(ill);
        let verdict = round.map(|round| round.verdict);
        Self {
            every_s: snapshot.watch_every.as_secs(),
            last: watch.last().map(|(at, _)| findings.time(*at).to_string()),
            verdict,
            summary: round.map(|round| round.summary.clone()),
            cause: round.and_then(|round| round.cause),
            owner: round.and_then(|round| round.owner),
            since: round.map(|_| findings.time(watch.since()).to_string()),
            last_good: watch.last_good().map(|at| findings.time(at).to_string()),
            changed: match verdict {
                Some(State::Degraded | State::Failed) => findings.just_before(watch.since(), anonymise),
                Some(State::Ok) | None => Vec::new(),
            },
            endpoints: endpoints.map(Unwell::of).collect(),
        }
    }
}

impl Unwell {
    fn of(probe: &Probe) -> Self {
        Self {
            host: probe.host.clone(),
            port: probe.port,
            protocol: probe.protocol,
            category: probe.category.as_str(),
            status: probe.status,
            cause: probe.cause,
            detail: probe.detail.clone(),
        }
    }
}
