//! What several endpoints say together: whose name is missing, whose clock is off, what hides what. Pure.

use super::clock::{of_clock, skew};
use super::finding::{Found, failed};
use super::judged::Judged;
use super::report::Status;
use super::targets::Instance;
use crate::cause::Cause;

/// What all endpoints say together: whose name is missing, whose clock is off, what hides what. How far
/// this machine's clock is ahead, in milliseconds.
pub(super) fn settle(all: &mut [Judged]) -> Option<i64> {
    instances(all);
    let ahead = clock(all);
    hide(all);
    ahead
}

/// An instance's own name that doesn't exist while others do.
fn instances(all: &mut [Judged]) {
    let resolves = |judged: &Judged| judged.is_past_dns();
    let others = all.iter().filter(|judged| resolves(judged)).count();
    let current: Vec<String> = all
        .iter()
        .filter(|judged| resolves(judged))
        .filter_map(|judged| judged.endpoint.instance.as_ref())
        .filter(|instance| !instance.replaced)
        .map(|instance| instance.alias.clone())
        .collect();
    for judged in all.iter_mut().filter(|judged| judged.cause == Some(Cause::DnsNxdomain)) {
        let Some(instance) = judged.endpoint.instance.clone() else { continue };
        if instance.replaced && current.contains(&instance.alias) {
            judged.status = Status::Untested;
            judged.cause = None;
            judged.detail =
                "this instance has no name under the domain that AWS replaced, and needs none".to_owned();
        } else if others > 0 {
            judged.set(instance.unknown());
        }
    }
}

impl Instance {
    /// What it means that its own name doesn't exist, while others do.
    pub(crate) fn unknown(&self) -> Found {
        let alias = &self.alias;
        failed(
            Cause::InstanceUnknown,
            format!("the name doesn't exist, while others resolve: is {alias} the alias of the instance?"),
        )
    }
}

/// How far this machine's clock is ahead: by the answers that are verified, else by those that would be if it were right.
fn ahead(all: &[Judged]) -> Option<i64> {
    let told = |verified: bool| -> Vec<i64> {
        let clocks = all.iter().filter_map(|judged| judged.clock);
        clocks.filter(|clock| clock.verified == verified).map(|clock| clock.ahead_ms).collect()
    };
    median(told(true)).or_else(|| median(told(false)))
}

/// Puts the blame for certificates that are wrong by the time on this machine's clock, where the answers
/// together say that it is off.
pub(super) fn by_clocks(all: &mut [Judged]) {
    if ahead(all).and_then(skew).is_some() {
        all.iter_mut().for_each(|judged| {
            by_clock(judged);
        });
    }
}

/// The clock by all answers together, as the trouble of those that show it.
fn clock(all: &mut [Judged]) -> Option<i64> {
    let ahead = ahead(all)?;
    let severity = skew(ahead).map(|(severity, _)| severity);
    for judged in all.iter_mut() {
        let Some(clock) = judged.clock else { continue };
        // One server with a clock of its own is not this machine's trouble.
        let (Some(severity), Some((_, detail))) = (severity, skew(clock.ahead_ms)) else { continue };
        if !by_clock(judged) && judged.status < severity.into() {
            judged.set(Found { cause: Cause::ClockSkew, severity, detail });
        }
    }
    Some(ahead)
}

/// Puts the blame for a certificate that is wrong by the time on this machine's clock, where that is off by the answer's
/// own word; whether it is. Other answers may know better.
pub(crate) fn by_clock(judged: &mut Judged) -> bool {
    let blamed = judged.clock.filter(|_| judged.cause == Some(Cause::TlsExpired)).and_then(of_clock);
    blamed.map(|found| judged.set(found)).is_some()
}

/// The middle one; of two the one that is nearer to nothing.
fn median(mut all: Vec<i64>) -> Option<i64> {
    all.sort_unstable();
    let upper = *all.get(all.len() / 2)?;
    let lower = all[(all.len() - 1) / 2];
    Some(if lower.unsigned_abs() <= upper.unsigned_abs() { lower } else { upper })
}

/// What all endpoints share: a cause of this kind that one of them shows hides what others only show
/// because of it.
const SHARED: [Cause; 3] = [Cause::ClockSkew, Cause::SourceAddress, Cause::UdpBlocked];

fn hide(all: &mut [Judged]) {
    let holds =
        |all: &[Judged], cause| all.iter().any(|j| j.cause == Some(cause) && j.status == Status::Failed);
    for root in SHARED {
        if !holds(all, root) {
            continue;
        }
        let hidden = |judged: &&mut Judged| judged.cause.is_some_and(|cause| root.hides(cause));
        for judged in all.iter_mut().filter(hidden) {
            judged.status = Status::Skipped;
            judged.cause = None;
            judged.because = Some(root);
        }
    }
}

/// Whether anything was found out about an endpoint.
pub(super) fn is_tested(judged: &Judged) -> bool {
    !matches!(judged.status, Status::Untested | Status::Skipped)
}
