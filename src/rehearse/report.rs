//! The result of a rehearsal, in the words and numbers of `--json`. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::phase::Phase;
use super::statistics::{self, Verdict};
use super::tally::{Tally, percentile};
use crate::cause::{Cause, Owner};

/// How much of a call was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Everything that a softphone does.
    Whole,
    /// What can be had without signing in.
    WithoutLogin,
}

/// Where and how the calls were played.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    pub scope: Scope,
    /// The way that they went, in words.
    pub through: String,
    /// What the proxy on that way chose to speak, of what browsers offer over TLS; none where nothing was offered.
    pub protocol: Option<&'static str>,
    /// By what the faults fell; none without a simulated region.
    pub seed: Option<u64>,
    pub concurrency: usize,
    pub until_sure: bool,
}

/// What this process asked the proxy's own process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// Of the whole rehearsal, in seconds.
    pub cpu_s: f64,
    pub memory_bytes: u64,
}

/// The answer as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub schema_version: u32,
    /// The first line.
    pub summary: String,
    pub calls: u32,
    pub failed: u32,
    pub error_ratio: f64,
    pub ci95: [f64; 2],
    pub verdict: Verdict,
    /// In all, at this ratio of failures; null where the verdict stands, or no number would decide.
    pub calls_needed: Option<u32>,
    pub phases: BTreeMap<Phase, Times>,
    /// Calls that failed, by cause.
    pub causes: BTreeMap<Cause, u32>,
    /// The same with what stands behind it.
    pub failures: Vec<Failure>,
    /// Calls that went on, but worse than they should.
    pub degraded: BTreeMap<Cause, u32>,
    /// Whether somebody ended it before its time.
    pub interrupted: bool,
    pub seconds: f64,
    #[serde(flatten)]
    pub setting: Setting,
    pub proxy: Option<Cost>,
}

/// How long a phase took, where it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Times {
    pub count: usize,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// A cause of failures, whose turn it is, and what to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub calls: u32,
    pub owner: Owner,
    /// Where the first of these calls failed, and what was seen then.
    pub phase: Phase,
    pub detail: String,
    pub remedy: &'static str,
}

/// Judges what was counted.
pub(crate) fn report(
    tally: Tally,
    setting: Setting,
    took: Duration,
    interrupted: bool,
    proxy: Option<Cost>,
) -> Report {
    let (calls, failed) = (tally.calls, tally.failed);
    let verdict = match setting.until_sure {
        true => tally.sequential.verdict(),
        false => statistics::judge(failed, calls),
    };
    let calls_needed = match (verdict, setting.until_sure) {
        (Verdict::Inconclusive, true) => Some(tally.calls_until_sure()),
        (Verdict::Inconclusive, false) => statistics::needed(failed, calls),
        _ => None,
    };
    let failures: Vec<Failure> = {
        let mut causes: Vec<_> = tally.blamed().into_iter().collect();
        // The most frequent first; of equals the first of the table.
        causes.sort_by_key(|(_, blamed)| std::cmp::Reverse(blamed.calls));
        let failure = |(cause, blamed): (Cause, super::tally::Blamed)| Failure {
            cause,
            calls: blamed.calls,
            owner: cause.about().owner,
            phase: blamed.phase,
            detail: blamed.detail,
            remedy: cause.about().remedy,
        };
        causes.into_iter().map(failure).collect()
    };
    let ci95 = statistics::interval(failed, calls);
    Report {
        schema_version: 1,
        summary: summary(failed, calls, ci95, verdict, calls_needed),
        calls,
        failed,
        error_ratio: if calls == 0 { 0.0 } else { f64::from(failed) / f64::from(calls) },
        ci95,
        verdict,
        calls_needed,
        phases: tally.phases.into_iter().map(|(phase, times)| (phase, Times::of(times))).collect(),
        causes: failures.iter().map(|failure| (failure.cause, failure.calls)).collect(),
        failures,
        degraded: tally.degraded,
        interrupted,
        seconds: took.as_secs_f64(),
        setting,
        proxy,
    }
}

impl Times {
    pub(super) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share| percentile(&micros, share);
        Self { count: micros.len(), p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// The verdict in AWS's terms, in one line.
fn summary(failed: u32, calls: u32, ci95: [f64; 2], verdict: Verdict, needed: Option<u32>) -> String {
    let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
    let ratio = percent(if calls == 0 { 0.0 } else { f64::from(failed) / f64::from(calls) });
    let seen = format!("{failed} of {calls} calls failed ({ratio}");
    let [low, high] = ci95.map(percent);
    let sure = format!("{seen}; with 95 % confidence between {low} and {high})");
    match (verdict, needed) {
        (Verdict::Stay, _) => format!("stay with Option 1: {sure}; AWS's line is 2 %"),
        (Verdict::Consider, _) => format!("consider Option 2: {sure}; AWS's line is 2 %"),
        (Verdict::Inconclusive, Some(needed)) if calls == 0 => {
            format!("not sure: no call came to its end; {needed} without a failure decide it")
        }
        (Verdict::Inconclusive, Some(needed)) => format!(
            "not sure yet: {sure}, and AWS's line is 2 %; about {} calls more decide it",
            needed.saturating_sub(calls).max(1)
        ),
        (Verdict::Inconclusive, None) => {
            format!("not sure: {sure}; that is AWS's line itself, which no number of calls decides")
        }
    }
}
