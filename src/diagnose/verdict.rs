//! One answer for all endpoints: the cause that explains most, whose turn it is, and the state of each
//! category. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::judged::Judged;
use super::report::{CategoryVerdict, Report, Status};
use super::settle::{is_tested, settle};
use crate::cause::Cause;
use crate::policy::Category;

/// The whole answer.
pub(super) fn report(mut judged: Vec<Judged>, via: Option<String>) -> Report {
    let clock_skew_ms = settle(&mut judged);
    let verdict =
        judged.iter().filter(|one| is_tested(one)).map(|one| one.status).max().unwrap_or(Status::Ok);
    let (cause, explained) = root(&judged, verdict).unzip();
    let summary = summary(&judged, verdict, cause, explained.unwrap_or(0));
    let categories = categories(&judged);
    Report {
        schema_version: 1,
        verdict,
        summary,
        cause,
        owner: cause.map(|cause| cause.about().owner),
        endpoints: judged.into_iter().map(Judged::into_shown).collect(),
        categories,
        clock_skew_ms,
        via,
        regions: None,
        pac: None,
    }
}

/// The cause of most endpoints that are as bad as the worst; of equals the first in the enum's order.
/// With it, how many.
fn root(judged: &[Judged], worst: Status) -> Option<(Cause, usize)> {
    let mut counts: BTreeMap<Cause, usize> = BTreeMap::new();
    for one in judged.iter().filter(|one| one.status == worst) {
        *counts.entry(one.cause?).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(cause, count)| (*count, Reverse(*cause)))
}

fn summary(judged: &[Judged], verdict: Status, cause: Option<Cause>, explained: usize) -> String {
    let tested = judged.iter().filter(|one| is_tested(one)).count();
    let Some(cause) = cause else {
        let untested = judged.iter().filter(|one| one.status == Status::Untested).count();
        return match (tested, untested) {
            (0, _) => "ok: nothing to complain of, but nothing could be tested either".to_owned(),
            (tested, 0) => format!("ok: {} as they should", endpoints_answer(tested)),
            (tested, untested) => {
                format!(
                    "ok: {} as they should; {untested} could not be tested from here",
                    endpoints_answer(tested)
                )
            }
        };
    };
    let about = cause.about();
    let hit = judged.iter().filter(|one| one.status == verdict && one.cause == Some(cause));
    let mut hit: Vec<&str> = hit.map(|one| one.endpoint.category.as_str()).collect();
    // They come by category.
    hit.dedup();
    let verdict: &str = verdict.into();
    format!(
        "{verdict}: {cause} at {explained} of {tested} endpoints ({hit}): {definition}. Agents see: {sees}. Whose turn: {owner}",
        cause = cause.as_str(),
        hit = hit.join(", "),
        definition = about.definition,
        sees = about.agent_sees,
        owner = about.owner.as_str(),
    )
}

fn endpoints_answer(count: usize) -> String {
    if count == 1 { "1 endpoint answers".to_owned() } else { format!("{count} endpoints answer") }
}

/// The state of a category is that of its worst tested endpoint; of equals, the one that agents depend on
/// most.
fn categories(judged: &[Judged]) -> BTreeMap<Category, CategoryVerdict> {
    let mut worst: BTreeMap<Category, Option<&Judged>> = BTreeMap::new();
    let rank = |one: &Judged| {
        let instance = one.endpoint.instance.as_ref();
        (one.status, instance.is_some_and(|name| !name.replaced), instance.is_none_or(|name| !name.replaced))
    };
    for one in judged {
        let entry = worst.entry(one.endpoint.category).or_default();
        if is_tested(one) && entry.is_none_or(|known| rank(one) > rank(known)) {
            *entry = Some(one);
        }
    }
    worst.into_iter().map(|(category, one)| (category, one.map_or_else(untested, of_worst))).collect()
}

fn untested() -> CategoryVerdict {
    CategoryVerdict { status: Status::Untested, agent_sees: String::new(), remedy: None }
}

fn of_worst(one: &Judged) -> CategoryVerdict {
    CategoryVerdict {
        status: one.status,
        remedy: one.cause.map(|cause| cause.about().remedy),
        agent_sees: match (one.status, one.cause) {
            // The endpoint's own words are the most exact.
            (Status::Failed, _) if !one.endpoint.agent_sees.is_empty() => one.endpoint.agent_sees.clone(),
            (_, Some(cause)) => cause.about().agent_sees.to_owned(),
            (_, None) => String::new(),
        },
    }
}
