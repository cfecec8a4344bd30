//! `/api/history?minutes=&domain=`: how many tunnels ended and how many of them the network made fail, by
//! category and in steps; what changed meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::http::{Answer, bad, json, time};
use super::older::{Question, Whose};
use super::query::Query;
use crate::findings::Second;
use crate::findings::change::without_clients;
use crate::journal::history::{Count, Lived, Minutes, Past, Steps};

/// Three hours: a morning.
const MINUTES: Second = 180;
pub(super) const MOST: Second = 1440;
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
    categories: BTreeMap<String, Vec<[i64; 3]>>,
    /// `[begin, handshakes, resumed]`.
    handshakes: Vec<[i64; 3]>,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    time: String,
    kind: String,
    text: String,
}

/// What a process tells another one of its past.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Chronicle {
    /// In seconds since 1970.
    since: i64,
    past: Minutes,
    /// Seconds since 1970, kind, text.
    changes: Vec<(i64, String, String)>,
}

pub(super) fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    let minutes = match query.number("minutes", MOST) {
        Ok(minutes) => minutes.unwrap_or(MINUTES),
        Err(why) => return bad(&why),
    };
    let domain = query.get("domain");
    admin.shared.remember();
    let journal = &admin.shared.journal;
    let (findings, now) = (&journal.findings, journal.findings.now());
    let step = minutes.div_ceil(POINTS);
    let since = now.saturating_sub(minutes * 60);
    let past = journal.history.past(now, minutes, step, domain.as_deref());
    let changes = findings.changes_since(since, journal.anonymises()).into_iter();
    let changes = changes.map(|(at, kind, text)| Change { time: time(at), kind: kind.to_owned(), text });
    let at = |second| findings.time(second);
    let mut told = told(past, at, step * 60, since, Timestamp::now(), changes.collect());
    // Older processes may be asked: DNS shares this thread.
    let others = tokio::task::block_in_place(|| others(admin, minutes, Whose::Everyones));
    let window = Timestamp::now().as_second() - i64::from(minutes) * 60;
    for other in others {
        told.add(other, at(0).as_second(), window, domain.as_deref());
    }
    json(&told)
}

/// What others tell of the last `minutes`. What another version tells otherwise is left out.
fn others(admin: &Admin, minutes: Second, whose: Whose) -> Vec<Chronicle> {
    let all = admin.generations.answers(whose, &Question::History(minutes), |known| &known.history);
    let mut all: Vec<Chronicle> =
        all.into_iter().filter_map(|other| serde_json::from_value(other).ok()).collect();
    if admin.shared.journal.anonymises() {
        for (_, _, text) in all.iter_mut().flat_map(|other| &mut other.changes) {
            *text = without_clients(text);
        }
    }
    all
}

/// What this process tells a successor of the last `minutes`, with what those knew that ended under it.
pub(super) fn chronicle(admin: &Admin, minutes: Second) -> Chronicle {
    let mut whole = own(admin, minutes);
    let window = Timestamp::now().as_second() - i64::from(minutes) * 60;
    for other in others(admin, minutes, Whose::Own) {
        whole.add(other, window);
    }
    whole
}

/// What this process alone tells of the last `minutes`.
fn own(admin: &Admin, minutes: Second) -> Chronicle {
    admin.shared.remember();
    let journal = &admin.shared.journal;
    let (findings, now) = (&journal.findings, journal.findings.now());
    let at = |second| findings.time(second).as_second();
    let since = now.saturating_sub(minutes * 60);
    let changes = findings.changes_since(since, journal.anonymises()).into_iter();
    Chronicle {
        since: at(since),
        past: journal.history.minutes(now, minutes, at),
        changes: changes.map(|(at, kind, text)| (at.as_second(), kind.to_owned(), text)).collect(),
    }
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
        let point = |(second, count): (Second, Count)| {
            [at(second).as_second(), whole(count.all), whole(count.of_them)]
        };
        steps.into_iter().map(point).collect()
    };
    Told {
        schema_version: 1,
        time: time(now),
        since: time(at(since)),
        step_s,
        line: 0.02,
        categories: past
            .by_category
            .into_iter()
            .map(|(category, steps)| (category.to_owned(), points(steps)))
            .collect(),
        handshakes: points(past.handshakes),
        changes,
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Chronicle {
    /// Adds what another process lived through since `window`.
    fn add(&mut self, other: Self, window: i64) {
        let before = self.past.rules.len();
        self.since = self.since.min(other.since.max(window));
        self.past.rules.extend(other.past.rules);
        let later = other.past.minutes.into_iter().filter(|minute| minute.at >= window);
        self.past.minutes.extend(later.map(|mut minute| {
            minute.rows.iter_mut().for_each(|(rule, _)| *rule = rule.saturating_add(before));
            minute
        }));
        self.changes.extend(other.changes.into_iter().filter(|(at, ..)| *at >= window));
    }
}

impl Told {
    /// Adds what another process lived through since `window`. Steps are counted from `origin`, the begin of
    /// this process.
    fn add(&mut self, other: Chronicle, origin: i64, window: i64, domain: Option<&str>) {
        let Chronicle { since, past, changes } = other;
        let step = i64::from(self.step_s);
        let begin = |at: i64| at - (at - origin).rem_euclid(step);
        let since = Timestamp::from_second(since.max(window)).unwrap_or_default();
        self.since = std::mem::take(&mut self.since).min(time(since));
        for Lived { at, rows, handshakes } in past.minutes {
            // A minute that has begun before belongs to what is told as well.
            if at <= window.saturating_sub(60) {
                continue;
            }
            if handshakes != Count::default() {
                count(&mut self.handshakes, begin(at), handshakes);
            }
            for (rule, ended) in rows {
                let Some((name, category)) = past.rules.get(rule) else { continue };
                if domain.is_none_or(|domain| domain == name) {
                    let points = self.categories.entry(category.clone()).or_default();
                    count(points, begin(at), ended);
                }
            }
        }
        for (at, kind, text) in changes {
            let Ok(at) = Timestamp::from_second(at) else { continue };
            if at.as_second() >= window {
                self.changes.push(Change { time: time(at), kind, text });
            }
        }
        self.changes.sort_by(|a, b| a.time.cmp(&b.time));
    }
}

/// Adds to the point of a step.
fn count(points: &mut Vec<[i64; 3]>, at: i64, more: Count) {
    let place = points.binary_search_by_key(&at, |point| point[0]).unwrap_or_else(|place| {
        points.insert(place, [at, 0, 0]);
        place
    });
    points[place][1] = points[place][1].saturating_add(whole(more.all));
    points[place][2] = points[place][2].saturating_add(whole(more.of_them));
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let changes = vec![Change { time: time(at(72)), kind: "reload".to_owned(), text }];
        let json = serde_json::to_string_pretty(&told(past, at, 60, 0, at(300), changes)).unwrap() + "\n";
        assert!(json == include_str!("testdata/history.json"), "testdata/history.json differs from:\n{json}");
    }

    #[test]
    fn what_an_older_process_lived_through_is_in_the_same_steps() {
        let counted = |all, of_them| Count { all, of_them };
        let past = Past {
            by_category: BTreeMap::from([("login", Steps::from([(0, counted(3, 1))]))]),
            handshakes: Steps::new(),
        };
        let at = |second: Second| Timestamp::from_second(10_000 + i64::from(second)).unwrap();
        let mut told = told(past, at, 120, 0, at(300), Vec::new());
        let rows = vec![(0, counted(7, 0)), (1, counted(5, 5))];
        let lived = |at, rows| Lived { at, rows, handshakes: counted(2, 1) };
        let older = Chronicle {
            since: 100,
            past: Minutes {
                rules: vec![
                    ("a.example".to_owned(), "login".to_owned()),
                    ("b.example".to_owned(), "api".to_owned()),
                ],
                minutes: vec![
                    lived(9000, rows.clone()),
                    lived(9850, rows.clone()),
                    lived(9910, rows.clone()),
                    lived(10_059, rows),
                ],
            },
            changes: vec![
                (9000, "started".to_owned(), "x".to_owned()),
                (9900, "reload".to_owned(), "y".to_owned()),
            ],
        };
        told.add(older, 10_000, 9800, None);
        assert_eq!(told.categories["login"], [[9760, 7, 0], [9880, 7, 0], [10_000, 10, 1]]);
        assert_eq!(told.categories["api"], [[9760, 5, 5], [9880, 5, 5], [10_000, 5, 5]]);
        assert_eq!(told.handshakes, [[9760, 2, 1], [9880, 2, 1], [10_000, 2, 1]]);
        assert_eq!(told.since, time(Timestamp::from_second(9800).unwrap()));
        let changes: Vec<_> = told.changes.iter().map(|change| change.text.as_str()).collect();
        assert_eq!(changes, ["y"]);
    }
}
