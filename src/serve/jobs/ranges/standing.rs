//! What is wrong with the ranges now, as findings.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};

use crate::cause::Cause;
use crate::findings::standing::Standing;
use crate::policy::Category;
use crate::ranges::current::{Current, Keeping};
use crate::ranges::day;

/// A prefix becomes a finding so many days before AWS may use it.
const DUE_DAYS: i64 = 7;
/// How many targets a finding names.
const TARGETS: usize = 3;

/// What is a finding at this moment.
pub(super) fn standings(
    current: Option<&Current>,
    keeping: &Keeping,
    max_age: Duration,
    now: Timestamp,
) -> Vec<Standing> {
    let mut all = Vec::new();
    let mut add = |cause, category, targets: Vec<String>| all.push(Standing { cause, category, targets });
    let media = Some(Category::Media);
    match current {
        Some(current) if current.age(now) > max_age => {
            add(Cause::RangesStale, None, vec![current.version.ranges.create_date.clone()]);
        }
        None if !keeping.errors.is_empty() => add(Cause::RangesStale, None, Vec::new()),
        _ => {}
    }
    if let Some(aside) = &keeping.aside {
        add(Cause::RangesAside, None, vec![aside.sync_token.to_string()]);
    }
    let soon = day(now).saturating_add(DUE_DAYS.days());
    let due = keeping.pending.iter().filter(|added| added.safe_deadline.is_some_and(|day| day <= soon));
    let due: Vec<String> = due.take(TARGETS).map(|added| added.prefix.to_string()).collect();
    if !due.is_empty() {
        add(Cause::RangesDue, media, due);
    }
    if !keeping.strays.is_empty() {
        let strays = keeping.strays.iter().take(TARGETS);
        add(Cause::OutsideRanges, media, strays.map(|(name, at)| format!("{name}={at}")).collect());
    }
    all
}
