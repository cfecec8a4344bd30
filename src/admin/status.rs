//! `/api/status`: the state of this process, for programs; `summary` is its first line for people.

use std::collections::BTreeMap;

use hyper::StatusCode;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::held::Shown as Edl;
use super::http::{Answer, typed};
use super::process::{self, Generation, Process};
use super::rules::{self, Rule};
use super::tls::{self, Tls};
use super::watched::Watched;
use super::{Admin, ranges};
use crate::as_text;
use crate::findings::report::Report;
use crate::findings::words::{self, Told};
use crate::findings::{Finding, Second, State, networks};
use crate::ranges::day;

/// The version of the object's form.
const SCHEMA_VERSION: u32 = 1;

/// The object; every key is there, null without a value.
#[derive(Serialize)]
struct Status<'a> {
    schema_version: u32,
    state: State,
    summary: String,
    findings: Vec<Found<'a>>,
    clients: Clients,
    error_ratio: BTreeMap<&'static str, f64>,
    rules: Vec<Rule>,
    watch: Option<Watched>,
    ranges: Option<ranges::Shown>,
    /// Lists for firewalls, and who fetched them.
    edl: Option<Edl>,
    generations: Vec<Generation>,
    tls: Option<Tls>,
    /// Denials and failed tunnels so far: whether `/api/failures` has something new.
    failures: u64,
    #[serde(flatten)]
    process: Process,
}

/// Distinct, of the last ten minutes.
#[derive(Serialize)]
struct Clients {
    active: usize,
    failing: usize,
}

#[derive(Serialize)]
struct Found<'a> {
    cause: &'static str,
    category: Option<&'static str>,
    /// Who sees it: `clients`, `watch` or `ranges`.
    source: &'static str,
    since: &'a str,
    clients_failing: usize,
    clients_active: usize,
    #[serde(serialize_with = "as_text::all")]
    networks: &'a [IpNet],
    targets: &'a [String],
    owner: &'static str,
    agent_sees: String,
    remedy: String,
    paste: String,
    changed: &'a [String],
}

pub(super) fn answer(admin: &Admin) -> Answer {
    typed(StatusCode::OK, "application/json", json(admin))
}

/// The object as text, over all processes that have tunnels.
pub(super) fn json(admin: &Admin) -> String {
    // Older processes may be asked: DNS shares this thread.
    tokio::task::block_in_place(|| admin.status())
}

/// What is to be said of the process that serves, whoever fails or not. Of older ones nothing is: that they drain
/// is how it should be, and nobody meets their certificate any more.
pub(super) struct Remarks {
    pub state: State,
    pub sentences: Vec<String>,
}

impl Remarks {
    pub(super) const NONE: Self = Self { state: State::Ok, sentences: Vec::new() };

    pub(super) fn of(admin: &Admin) -> Self {
        let tls = tls::of(&admin.shared.journal);
        let timely = tls.and_then(|tls| tls.certificate.remark(Timestamp::now()));
        let state = if timely.is_some() { State::Degraded } else { State::Ok };
        Self { state, sentences: timely.into_iter().chain(process::of(admin).remarks()).collect() }
    }
}

/// The object of this process alone.
pub(super) fn own(admin: &Admin, remarks: &Remarks) -> String {
    let (shared, snapshot) = (&admin.shared, admin.shared.snapshot());
    let report = shared.look();
    let findings = &shared.journal.findings;
    let anonymise = shared.journal.anonymises();
    let mut told =
        told(&report, |second| findings.time(second), |since| findings.just_before(since, anonymise));
    for told in &mut told {
        told.networks = networks::shown(&told.networks, anonymise);
    }
    let status = Status {
        error_ratio: shared.journal.metrics.error_ratios().collect(),
        rules: rules::of(shared),
        watch: findings.with_watch(|watch| Watched::of(watch, &snapshot, findings, anonymise)),
        ranges: ranges::shown(shared),
        edl: Some(Edl::new(&admin.lists.state(), &shared.journal, day(Timestamp::now()))),
        generations: vec![process::generation(admin)],
        tls: tls::of(&shared.journal),
        failures: shared.journal.failures.noted(),
        process: process::of(admin),
        ..Status::of(&report, &told, remarks)
    };
    // Plain data into memory: it can't fail.
    serde_json::to_string(&status).unwrap_or_default()
}

/// The findings with their times and what changed before them.
fn told(
    report: &Report,
    time: impl Fn(Second) -> Timestamp,
    changed: impl Fn(Second) -> Vec<String>,
) -> Vec<Told<'_>> {
    let of = |finding: &'_ Finding| (time(finding.since).to_string(), changed(finding.since));
    let all = report.findings.iter().map(|finding| {
        let (since, changed) = of(finding);
        Told { finding, since, changed, networks: finding.networks.clone() }
    });
    all.collect()
}

impl<'a> Status<'a> {
    /// What follows from the findings, and from what is remarked of the process.
    fn of(report: &Report, told: &'a [Told<'a>], remarks: &Remarks) -> Self {
        let summary = words::summary(report.state(), report.active, report.failing, told);
        Self {
            schema_version: SCHEMA_VERSION,
            state: report.state().max(remarks.state),
            summary: words::remarked(summary, &remarks.sentences),
            findings: told.iter().map(Found::of).collect(),
            clients: Clients { active: report.active, failing: report.failing },
            error_ratio: BTreeMap::new(),
            rules: Vec::new(),
            watch: None,
            ranges: None,
            edl: None,
            generations: Vec::new(),
            tls: None,
            failures: 0,
            process: Process::default(),
        }
    }
}

impl<'a> Found<'a> {
    fn of(told: &'a Told<'a>) -> Self {
        let finding = told.finding;
        Self {
            cause: finding.key.cause.as_str(),
            category: finding.key.category.map(|category| category.as_str()),
            source: finding.source.as_str(),
            since: &told.since,
            clients_failing: finding.clients.len(),
            clients_active: finding.active,
            networks: &told.networks,
            targets: &finding.targets,
            owner: finding.key.cause.about().owner.as_str(),
            agent_sees: words::agent_sees(finding),
            remedy: words::remedy(finding),
            paste: words::paste(told),
            changed: &told.changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::admin::rules::Lately;
    use crate::cause::Cause;
    use crate::findings::{Key, Source, Subject};
    use crate::policy::Category;

    /// 9:05: 300 agents, and signalling doesn't resolve on two floors.
    fn morning() -> Report {
        let desks =
            (0..212_u32).map(|at| IpAddr::from(Ipv4Addr::from(0x0a04_0101 + at / 100 * 256 + at % 100)));
        let clients: Vec<IpAddr> = desks.collect();
        let finding = |cause, category, clients: &[IpAddr], targets: &[&str]| Finding {
            key: Key { cause, category: Some(category), subject: Subject::None },
            source: Source::Clients,
            since: 182,
            last: 300,
            networks: networks::shared(clients, &[]),
            clients: clients.to_vec(),
            active: 300,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            lacks: None,
            by: None,
        };
        let findings = vec![
            finding(
                Cause::DnsTimeout,
                Category::Signalling,
                &clients,
                &["acme.transport.connect.us-west-2.amazonaws.com:443"],
            ),
            finding(Cause::DnsTimeout, Category::Login, &clients[..40], &["acme.my.connect.aws:443"]),
            finding(Cause::OneDesk, Category::Chat, &clients[..1], &[]),
        ];
        Report { at: 300, findings, active: 300, failing: 212, cut_off: 212, watch_failed: false }
    }

    #[test]
    fn the_object_is_the_one_that_programs_rely_on() {
        let nine = Timestamp::from_second(1_795_770_000).unwrap();
        let time = |second: Second| nine + jiff::SignedDuration::from_secs(second.into());
        let changed = |_| vec!["09:01:12 UTC reload: dns.servers: [] → [\"10.0.0.2:53\"]".to_owned()];
        let (report, at) = (morning(), |second| Some(time(second)));
        let told = told(&report, time, changed);
        let status = Status {
            error_ratio: BTreeMap::from([("all", 0.31), ("signalling", 0.9)]),
            rules: vec![Rule {
                domain: "*.my.connect.aws".to_owned(),
                category: "login",
                active: 3,
                total: 10,
                failed: 2,
                lately: Lately { ended: 4, failed: 1 },
                sent: 1024,
                received: 4096,
                last_used: at(299),
            }],
            generations: vec![Generation {
                id: "1".to_owned(),
                pid: 4711,
                version: "1.0.0",
                since: time(0),
                draining: false,
                tunnels: 3,
                rss_bytes: Some(20_000_000),
                predicted_end: None,
            }],
            tls: Some(Tls {
                certificate: tls::Certificate {
                    file: "certs/proxy.pem".to_owned(),
                    not_before: at(0),
                    not_after: at(86400),
                },
                full: 310,
                resumed: 1200,
                lately: tls::Lately { handshakes: 40, resumed: 38 },
                sessions: 300,
                failed: BTreeMap::from([("unknown_ca", 3)]),
            }),
            failures: 250,
            process: Process { version: "1.0.0", commit: "0123456", time: time(300), ..Process::default() },
            ..Status::of(&report, &told, &Remarks::NONE)
        };
        let json = serde_json::to_string_pretty(&status).unwrap() + "\n";
        let golden = include_str!("testdata/status.json");
        assert!(json == golden, "src/admin/testdata/status.json differs from:\n{json}");
    }

    #[test]
    fn a_quiet_morning_says_so() {
        for (active, summary) in [
            (0, "All is well; no client was here in the last ten minutes."),
            (1, "All is well: 1 active client, and nothing fails."),
            (300, "All is well: 300 active clients, and nothing fails."),
        ] {
            let report = Report { active, ..Report::default() };
            assert_eq!(Status::of(&report, &[], &Remarks::NONE).summary, summary);
        }
    }
}
