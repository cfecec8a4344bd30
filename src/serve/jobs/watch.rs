//! The watch, `[watch]`: a round of `check` inside the running proxy, over its own resolver, dialer and
//! address rules. What a round finds goes to the journal: metrics, findings, status.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use strum::VariantArray;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::route::Route;
use crate::agent::tls::Trust;
use crate::config::Config;
use crate::diagnose::report::{Endpoint, Report, Status};
use crate::diagnose::{self, Network, Options};
use crate::findings::State;
use crate::findings::watch::{Probe, ProbeStatus, Round};
use crate::policy::Category;
use crate::proxy::shared::Shared;
use crate::proxy::snapshot::Snapshot;

/// The first round comes this soon, however long the others are apart.
const FIRST: Duration = Duration::from_secs(60);
/// What a round may take. A check of a whole region that is unreachable takes 20 s.
const LONGEST: Duration = Duration::from_secs(120);
/// Rounds begin earlier or later by up to so many percent of the interval, so that the replicas of a
/// site, started together, don't probe together for ever.
const JITTER_PERCENT: u32 = 10;

/// `[watch]` in force.
#[derive(Clone)]
pub(in crate::serve) struct Settings {
    every: Duration,
    stun: bool,
    /// None while it is off.
    trust: Option<Arc<Trust>>,
}

impl Settings {
    /// Reads what the section names.
    ///
    /// # Errors
    /// In words, with the key.
    pub(in crate::serve) fn load(config: &Config) -> Result<Self, String> {
        let watch = &config.watch;
        let (trust, _) = Trust::with("watch.ca", watch.ca.as_deref())?;
        let trust = (!watch.every.is_zero()).then(|| Arc::new(trust));
        Ok(Self { every: watch.every, stun: watch.stun, trust })
    }
}

/// Runs rounds until the drain begins. A change of the settings begins anew.
pub(in crate::serve) async fn run(shared: Arc<Shared>, settings: watch::Receiver<Settings>) {
    tokio::select! {
        () = shared.drain.begun() => {}
        () = rounds(&shared, settings) => {}
    }
}

async fn rounds(shared: &Arc<Shared>, mut settings: watch::Receiver<Settings>) {
    let mut every = Duration::ZERO;
    let mut next = Instant::now();
    loop {
        let now = settings.borrow_and_update().clone();
        shared.journal.findings.watch(now.trust.is_some());
        let Some(trust) = now.trust else {
            shared.journal.metrics.watched(None);
            every = Duration::ZERO;
            if settings.changed().await.is_err() {
                return;
            }
            continue;
        };
        // A reload that leaves the interval alone doesn't put the next round off.
        if now.every != every {
            every = now.every;
            next = Instant::now() + part(every.min(FIRST));
        }
        tokio::select! {
            changed = settings.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = sleep_until(next) => {}
        }
        match round(shared, trust, now.stun).await {
            Some(round) => {
                shared.journal.metrics.watched(Some(&round));
                shared.journal.findings.watched(round);
            }
            None => {
                tracing::warn!(event = "watch_late", "a round of the watch was given up after {LONGEST:?}")
            }
        }
        let spread = every * JITTER_PERCENT / 100;
        next = Instant::now() + every - spread + part(spread * 2);
    }
}

/// A random part of a time.
fn part(whole: Duration) -> Duration {
    // The standard library's keys are random; nothing here has to be unpredictable.
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    whole.mul_f64(random.min(1.0))
}

/// One round; none when it took too long, or the proxy drains.
async fn round(shared: &Arc<Shared>, trust: Arc<Trust>, stun: bool) -> Option<Round> {
    let (shared, snapshot) = (shared.clone(), shared.snapshot());
    let runtime = Handle::current();
    // On a thread of its own: it works for seconds, and signals and scrapes are not to wait for it.
    let round = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                () = shared.drain.begun() => None,
                report = timeout(LONGEST, check(&shared, &snapshot, trust, stun)) => report.ok(),
            }
        })
    });
    round.await.ok().flatten().map(told)
}

async fn check(shared: &Shared, snapshot: &Snapshot, trust: Arc<Trust>, stun: bool) -> Report {
    let network = Network {
        policy: &snapshot.policy,
        connect: &snapshot.connect,
        route: Route::straight(&snapshot.egress, &shared.own),
        trust,
        clock: &SystemTime::now,
    };
    let tested = Category::VARIANTS.iter().copied().filter(|category| stun || *category != Category::Media);
    let options =
        Options { categories: if stun { Vec::new() } else { tested.collect() }, ..Options::default() };
    diagnose::check(&network, &options, &|_, _| {}).await
}

/// The report as the journal takes it.
fn told(report: Report) -> Round {
    Round {
        verdict: match report.verdict {
            Status::Failed => State::Failed,
            Status::Degraded => State::Degraded,
            Status::Ok | Status::Untested | Status::Skipped => State::Ok,
        },
        summary: report.summary,
        cause: report.cause,
        owner: report.owner,
        probes: report.endpoints.into_iter().map(probe).collect(),
    }
}

fn probe(endpoint: Endpoint) -> Probe {
    let steps = endpoint.steps;
    let steps = [steps.dns_ms, steps.connect_ms, steps.tls_ms, steps.http_ms];
    let took = steps.into_iter().flatten().reduce(|all, step| all.saturating_add(step));
    Probe {
        status: match endpoint.status {
            Status::Untested => ProbeStatus::Untested,
            Status::Skipped => ProbeStatus::Skipped,
            Status::Ok => ProbeStatus::Ok,
            Status::Degraded => ProbeStatus::Degraded,
            Status::Failed => ProbeStatus::Failed,
        },
        addresses: endpoint.addresses,
        host: endpoint.host,
        port: endpoint.port,
        protocol: endpoint.protocol,
        category: endpoint.category,
        cause: endpoint.cause,
        detail: endpoint.detail,
        issuer: endpoint.certificate.map(|certificate| certificate.issuer),
        rtt_ms: endpoint.rtt_ms,
        took_ms: took.or(endpoint.rtt_ms),
        loss: endpoint.loss,
    }
}
