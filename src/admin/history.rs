//! `/api/history?minutes=&domain=`: how many tunnels ended and how many of them the network made fail, by
//! category and in steps; what changed meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use super::http::{Answer, bad, json, time};
use super::query::Query;
use crate::findings::Second;
use crate::journal::history::{Past, Steps};

/// Three hours: a morning.
const MINUTES: Second = 180;
const MOST: Second = 1440;
/// A curve has no more points than that.
const POINTS: Second = 180;

#[derive(Serialize)]
struct Told {
    schema_version: u8,
    /// By this machine's clock.
    time: String,
    /// When what is told begins: with the process, if it is younger.
    since: String,
    /// How long a step is, in seconds.
    step_s: u32,
    /// AWS's line.
    line: f64,
    /// `[begin of the step in seconds since 1970, ended, failed]`; steps without an end are left out.
    categories: BTreeMap<&'static str, Vec<[i64; 3]>>,
    /// `[begin, handshakes, resumed]`.
    handshakes: Vec<[i64; 3]>,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    time: String,
    kind: &'static str,
    text: String,
}

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    let minutes = match query.number("minutes", MOST) {
        Ok(minutes) => minutes.unwrap_or(MINUTES),
        Err(why) => return bad(&why),
    };
    admin.shared.remember();
    let journal = &admin.shared.journal;
    let (findings, now) = (&journal.findings, journal.findings.now());
    let step = minutes.div_ceil(POINTS);
    let since = now.saturating_sub(minutes * 60);
    let past = journal.history.past(now, minutes, step, query.get("domain").as_deref());
    let changes = findings.changes_since(since).into_iter();
    json(&told(
        past,
        |second| findings.time(second),
        step * 60,
        since,
        Timestamp::now(),
        changes.map(|(at, kind, text)| Change { time: time(at), kind, text }).collect(),
    ))
}

fn told(
    past: Past,
    at: impl Fn(Second) -> Timestamp,
    step_s: u32,
    since: Second,
    now: Timestamp,
    changes: Vec<Change>,
) -> Told {
    let points = |steps: Steps| {
        let point = |(second, count): (Second, crate::journal::history::Count)| {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            [at(second).as_second(), number(count.all), number(count.of_them)]
        };
        steps.into_iter().map(point).collect()
    };
    Told {
        schema_version: 1,
        time: time(now),
        since: time(at(since)),
        step_s,
        line: 0.02,
        categories: past.by_category.into_iter().map(|(category, steps)| (category, points(steps))).collect(),
        handshakes: points(past.handshakes),
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::history::Count;

    #[test]
    fn the_object_is_the_one_that_programs_rely_on() {
        let nine = Timestamp::from_second(1_795_770_000).unwrap();
        let at = |second: Second| nine + jiff::SignedDuration::from_secs(second.into());
        let steps =
            |all, of_them| Steps::from([(0, Count { all, of_them }), (120, Count { all: 7, of_them: 0 })]);
        let past = Past {
            by_category: BTreeMap::from([("login", steps(3, 1)), ("signalling", steps(200, 150))]),
            handshakes: steps(40, 38),
        };
        let text = "reload: dns.servers: [] → [\"10.0.0.2:53\"]".to_owned();
        let changes = vec![Change { time: time(at(72)), kind: "reload", text }];
        let json = serde_json::to_string_pretty(&told(past, at, 60, 0, at(300), changes)).unwrap() + "\n";
        assert!(json == include_str!("testdata/history.json"), "testdata/history.json differs from:\n{json}");
    }
}
