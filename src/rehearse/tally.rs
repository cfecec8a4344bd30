//! What came of the calls, counted in the order in which they began. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::call::{Failed, Played};
use super::phase::Phase;
use super::statistics::{Sequential, Verdict};
use crate::cause::Cause;
use crate::diagnose::targets::Instance;

/// What is known of one cause.
#[derive(Clone, Debug)]
pub(super) struct Blamed {
    pub calls: u32,
    /// Of the first call that failed so.
    pub phase: Phase,
    pub detail: String,
}

/// The calls that have ended.
#[derive(Default)]
pub(crate) struct Tally {
    pub(super) calls: u32,
    pub(super) failed: u32,
    /// Those of `missing` left out.
    causes: BTreeMap<Cause, Blamed>,
    /// Calls that failed because an instance's own name didn't exist, by its alias. What that means is known at the end.
    missing: BTreeMap<String, (Instance, Blamed)>,
    /// The aliases whose hosts answered: these names exist, whatever is said in other calls.
    exist: BTreeSet<String>,
    /// Whether any phase came to its end, so that some name resolved, or something stood for it.
    resolves: bool,
    pub(super) degraded: BTreeMap<Cause, u32>,
    /// In microseconds.
    pub(super) phases: BTreeMap<Phase, Vec<u32>>,
    pub(super) sequential: Sequential,
    /// Whether an answer in any of them has the time that it is here.
    clock_agrees: bool,
    /// Those that ended before one that began before them.
    early: BTreeMap<u32, Played>,
}

impl Tally {
    /// Counts a call, as soon as those before it are. With `until_sure` it counts none after the
    /// sequential test has its verdict.
    pub(super) fn take(&mut self, number: u32, played: Played, until_sure: bool) {
        self.early.insert(number, played);
        while let Some(played) = self.early.remove(&self.calls) {
            if until_sure && self.is_sure() {
                return;
            }
            self.count(played);
        }
    }

    /// Calls that are counted.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Those of them that failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Whether the sequential test has its verdict.
    pub(super) fn is_sure(&self) -> bool {
        self.sequential.verdict() != Verdict::Inconclusive
    }

    /// How many calls it takes in all until it has, if none fails any more.
    pub(crate) fn calls_until_sure(&self) -> u32 {
        self.calls.saturating_add(self.sequential.clean_calls_left())
    }

    /// Calls that failed, by cause, as all calls together say. An instance's own name that never exists while others
    /// do is a wrong alias, as for `check`, and no trouble of DNS.
    pub(super) fn blamed(&self) -> BTreeMap<Cause, Blamed> {
        let mut causes = self.causes.clone();
        for (alias, (instance, blamed)) in &self.missing {
            let (cause, detail) = if self.resolves && !self.exist.contains(alias) {
                let unknown = instance.unknown();
                (unknown.cause, unknown.detail)
            } else {
                (Cause::DnsNxdomain, blamed.detail.clone())
            };
            let first = Blamed { calls: 0, phase: blamed.phase, detail };
            causes.entry(cause).or_insert(first).calls += blamed.calls;
        }
        causes
    }

    fn count(&mut self, played: Played) {
        self.calls += 1;
        self.sequential.saw(played.failed.is_some());
        self.resolves |= !played.phases.is_empty();
        if let Some(instance) = &played.instance
            && played.phases.iter().any(|(phase, _)| *phase == Phase::Api)
        {
            self.exist.insert(instance.alias.clone());
        }
        for (phase, took) in played.phases {
            let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            self.phases.entry(phase).or_default().push(took);
        }
        let mut degraded = played.degraded;
        degraded.sort_unstable();
        degraded.dedup();
        for cause in degraded {
            *self.degraded.entry(cause).or_default() += 1;
        }
        if let Some(Failed { phase, cause, detail }) = played.failed {
            self.failed += 1;
            let first = Blamed { calls: 0, phase, detail };
            let blamed = match (phase, cause, played.instance) {
                (Phase::Api, Cause::DnsNxdomain, Some(instance)) => {
                    let (_, blamed) = self.missing.entry(instance.alias.clone()).or_insert((instance, first));
                    blamed
                }
                _ => self.causes.entry(cause).or_insert(first),
            };
            blamed.calls += 1;
        }
        self.clock_agrees |= played.clock_agrees;
        // One server with a clock of its own is not this machine's trouble: then it is the certificate.
        if self.clock_agrees
            && let Some(mut blamed) = self.causes.remove(&Cause::ClockSkew)
        {
            blamed.detail.push_str("; other answers agree with this machine's clock");
            let calls = blamed.calls;
            let of_certificate =
                self.causes.entry(Cause::TlsExpired).or_insert(Blamed { calls: 0, ..blamed });
            of_certificate.calls += calls;
        }
    }
}

/// The value that a share of all, such as 0.95, doesn't exceed; in milliseconds.
pub(super) fn percentile(sorted: &[u32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let value = sorted.get(rank.max(1) - 1).or(sorted.last()).copied().unwrap_or(0);
    // To a tenth: what lies below is this program's own.
    (Duration::from_micros(value.into()).as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> Played {
        let failed = Failed { phase: Phase::Media, cause: Cause::UdpBlocked, detail: "silence".to_owned() };
        Played { failed: Some(failed), ..Played::default() }
    }

    #[test]
    fn one_server_with_a_clock_of_its_own_is_not_this_machines_trouble() {
        let off = || {
            let failed = Failed { phase: Phase::Api, cause: Cause::ClockSkew, detail: "off".to_owned() };
            Played { failed: Some(failed), ..Played::default() }
        };
        let agreeing = || Played { clock_agrees: true, ..Played::default() };
        let causes = |all: Vec<Played>| {
            let mut tally = Tally::default();
            (0..).zip(all).for_each(|(number, played)| tally.take(number, played, false));
            tally.blamed().into_iter().map(|(cause, blamed)| (cause, blamed.calls)).collect::<Vec<_>>()
        };
        assert_eq!(causes(vec![off(), off()]), [(Cause::ClockSkew, 2)], "nobody says otherwise");
        assert_eq!(causes(vec![off(), agreeing(), off()]), [(Cause::TlsExpired, 2)]);
        assert_eq!(causes(vec![agreeing(), off()]), [(Cause::TlsExpired, 1)]);
        // The very call that fails may have had such an answer before.
        assert_eq!(causes(vec![Played { clock_agrees: true, ..off() }]), [(Cause::TlsExpired, 1)]);
    }

    #[test]
    fn an_alias_that_never_has_a_name_is_wrong_where_other_names_resolve() {
        const TOOK: Duration = Duration::from_millis(5);
        let instance = |alias: &str| Some(Instance { alias: alias.to_owned(), replaced: false });
        let lacks = |phase: Phase, phases: &[Phase], instance: Option<Instance>| {
            let detail = "no such name".to_owned();
            let failed = Some(Failed { phase, cause: Cause::DnsNxdomain, detail });
            let phases = phases.iter().map(|phase| (*phase, TOOK)).collect();
            Played { phases, failed, instance, ..Played::default() }
        };
        let missing = |phases: &[Phase], alias: &str| lacks(Phase::Api, phases, instance(alias));
        let reached = |alias: &str| Played {
            phases: vec![(Phase::Static, TOOK), (Phase::Api, TOOK)],
            instance: instance(alias),
            ..Played::default()
        };
        let blamed = |all: Vec<Played>| {
            let mut tally = Tally::default();
            (0..).zip(all).for_each(|(number, played)| tally.take(number, played, false));
            let failed = tally.failed();
            let blamed = tally.blamed();
            assert_eq!(blamed.values().map(|blamed| blamed.calls).sum::<u32>(), failed);
            blamed.into_iter().map(|(cause, blamed)| (cause, blamed.calls, blamed.detail)).collect::<Vec<_>>()
        };
        let nxdomain = |calls| (Cause::DnsNxdomain, calls, "no such name".to_owned());
        let unknown = |calls, alias: &str| {
            let told = "the name doesn't exist, while others resolve: is";
            (Cause::InstanceUnknown, calls, format!("{told} {alias} the alias of the instance?"))
        };
        let file = &[Phase::Static][..];
        assert_eq!(
            blamed(vec![missing(&[], "acme"), missing(&[], "acme")]),
            [nxdomain(2)],
            "nothing resolves"
        );
        assert_eq!(blamed(vec![missing(file, "acme"), missing(file, "acme")]), [unknown(2, "acme")]);
        // Another call may have shown it, also a later one.
        assert_eq!(blamed(vec![missing(&[], "acme"), reached("corp")]), [unknown(1, "acme")]);
        // A name that is there in one call and missing in another one is a resolver's trouble.
        assert_eq!(blamed(vec![missing(file, "acme"), reached("acme")]), [nxdomain(1)]);
        let other = || lacks(Phase::Signalling, &[Phase::Static, Phase::Api], instance("corp"));
        assert_eq!(blamed(vec![other()]), [nxdomain(1)], "it isn't the instance's own name");
        assert_eq!(blamed(vec![missing(file, "acme"), other()]), [nxdomain(1), unknown(1, "acme")]);
    }

    /// Calls that fail by a time-out end last. Counted as they end, the first hundreds would be clean.
    #[test]
    fn calls_count_in_the_order_of_their_beginning() {
        let mut tally = Tally::default();
        for number in 1..500 {
            tally.take(number, Played::default(), true);
        }
        assert_eq!((tally.calls(), tally.is_sure()), (0, false));
        tally.take(0, failing(), true);
        // Without a failure it takes 145 calls, with one 199 that go well beside it.
        assert_eq!((tally.calls(), tally.failed()), (200, 1));
        assert!(tally.is_sure());
        let mut tally = Tally::default();
        for number in (0..500).rev() {
            tally.take(number, if number % 100 == 7 { failing() } else { Played::default() }, false);
        }
        assert_eq!((tally.calls(), tally.failed()), (500, 5));
        let blamed = &tally.blamed()[&Cause::UdpBlocked];
        assert_eq!((blamed.calls, blamed.phase, &*blamed.detail), (5, Phase::Media, "silence"));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u32> = (1..=200).map(|ms| ms * 1000).collect();
        let of = |share| percentile(&sorted, share);
        assert_eq!([of(0.5), of(0.95), of(0.99), of(1.0)], [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7_260], 0.99), 7.3);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
