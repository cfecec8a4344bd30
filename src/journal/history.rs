//! How it went, minute by minute: tunnels that ended and those of them that the network made fail, by rule,
//! and TLS handshakes. The data path only counts; this reads the counters now and then.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use super::metrics::RuleSeries;
use super::metrics::rules::Labels;
use crate::findings::Second;
use crate::lock::lock;

const MINUTE: Second = 60;
/// A day.
const MINUTES: usize = 1440;
/// Rules that had an end in a minute, of all minutes together; the oldest minutes go. 1.2 MB.
const ROWS: usize = 100_000;
/// So many rules are never too many.
const CROWDED: usize = 1000;
/// The counters are read so often, and whenever somebody asks.
pub(crate) const EVERY: Second = 5;

/// Ended tunnels, and those of them that failed by the network; or handshakes, and those that were resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub all: u64,
    pub of_them: u64,
}

impl Count {
    fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            of_them: self.of_them.saturating_sub(before.of_them),
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.all += more.all;
        self.of_them += more.of_them;
    }
}

struct Row {
    rule: usize,
    count: Count,
}

/// A rule, and its counters at the last look that had it.
struct Rule {
    labels: Arc<Labels>,
    count: Count,
    looked: Second,
}

#[derive(Default)]
struct Minute {
    number: Second,
    handshakes: Count,
    /// Rules without an end have none.
    rows: Vec<Row>,
}

#[derive(Default)]
struct Kept {
    looked: Option<Second>,
    numbers: HashMap<Arc<Labels>, usize>,
    rules: Vec<Rule>,
    /// From how many rules on those are dropped that reloads have removed and nobody has used.
    crowded: usize,
    handshakes: Count,
    /// Oldest first; minutes in which nothing ended are left out.
    minutes: VecDeque<Minute>,
    rows: usize,
}

/// The last day, as far as this process has lived through it.
#[derive(Default)]
pub(crate) struct History(Mutex<Kept>);

/// Counts of one category, by the second at which a step begins.
pub(crate) type Steps = BTreeMap<Second, Count>;

/// What happened within a time, in steps.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Past {
    pub by_category: BTreeMap<&'static str, Steps>,
    pub handshakes: Steps,
}

/// The minutes of a process, as it tells them another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Minutes {
    /// Domain and category of each rule.
    pub rules: Vec<(String, String)>,
    pub minutes: Vec<Lived>,
}

/// A minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lived {
    /// When it began, in seconds since 1970.
    pub at: i64,
    /// By the place of the rule.
    pub rows: Vec<(usize, Count)>,
    pub handshakes: Count,
}

impl History {
    /// Whether it is time to read the counters.
    pub(crate) fn is_due(&self, now: Second) -> bool {
        self.lock().looked.is_none_or(|looked| now >= looked + EVERY)
    }

    /// Reads the counters of all rules, and those of handshakes: all, and the resumed ones.
    pub(crate) fn look<'a>(
        &self,
        now: Second,
        rules: impl Iterator<Item = &'a RuleSeries>,
        handshakes: [u64; 2],
    ) {
        let counted = rules.map(|series| {
            let (all, of_them) = series.totals();
            (&series.labels, Count { all, of_them })
        });
        self.take(now, counted, Count { all: handshakes[0], of_them: handshakes[1] });
    }

    fn take<'a>(
        &self,
        now: Second,
        rules: impl Iterator<Item = (&'a Arc<Labels>, Count)>,
        handshakes: Count,
    ) {
        let kept = &mut *self.lock();
        kept.looked = Some(now);
        for (labels, count) in rules {
            let number = kept.number(labels);
            let rule = &mut kept.rules[number];
            rule.looked = now;
            let before = std::mem::replace(&mut rule.count, count);
            // A rule whose series was forgotten before it came back has a new one, which began at zero.
            let is_known = Arc::ptr_eq(&std::mem::replace(&mut rule.labels, labels.clone()), labels);
            let new = if is_known { count.since(before) } else { count };
            if new != Count::default() {
                kept.minute(now).add(number, new);
            }
        }
        let new = handshakes.since(std::mem::replace(&mut kept.handshakes, handshakes));
        if new != Count::default() {
            kept.minute(now).handshakes.add(new);
        }
        kept.forget(now);
        if kept.rules.len() >= kept.crowded {
            kept.drop_unused(now);
        }
    }

    /// What ended by rule in the `minutes` before `now`, the running one included.
    pub(crate) fn lately(&self, now: Second, minutes: Second) -> HashMap<Arc<Labels>, Count> {
        let kept = self.lock();
        let mut all = HashMap::new();
        for row in kept.minutes_since(now, minutes).flat_map(|minute| &minute.rows) {
            all.entry(kept.rules[row.rule].labels.clone()).or_insert_with(Count::default).add(row.count);
        }
        all
    }

    /// Handshakes in the `minutes` before `now`.
    pub(crate) fn handshakes(&self, now: Second, minutes: Second) -> Count {
        let kept = self.lock();
        let mut all = Count::default();
        kept.minutes_since(now, minutes).for_each(|minute| all.add(minute.handshakes));
        all
    }

    /// The `minutes` before `now` in steps of so many minutes; of `domain` alone where one is named.
    pub(crate) fn past(&self, now: Second, minutes: Second, step: Second, domain: Option<&str>) -> Past {
        let kept = self.lock();
        let mut past = Past::default();
        for minute in kept.minutes_since(now, minutes) {
            let at = minute.number / step * step * MINUTE;
            for row in &minute.rows {
                let labels = &kept.rules[row.rule].labels;
                if domain.is_none_or(|domain| *labels.domain == *domain) {
                    let steps = past.by_category.entry(labels.category).or_default();
                    steps.entry(at).or_default().add(row.count);
                }
            }
            if minute.handshakes != Count::default() {
                past.handshakes.entry(at).or_default().add(minute.handshakes);
            }
        }
        past
    }

    /// The `minutes` before `now`, each by the second since 1970 that `at` says.
    pub(crate) fn minutes(&self, now: Second, minutes: Second, at: impl Fn(Second) -> i64) -> Minutes {
        let kept = self.lock();
        let rules = kept.rules.iter();
        let lived = |minute: &Minute| Lived {
            at: at(minute.number * MINUTE),
            rows: minute.rows.iter().map(|row| (row.rule, row.count)).collect(),
            handshakes: minute.handshakes,
        };
        Minutes {
            rules: rules
                .map(|rule| (rule.labels.domain.to_string(), rule.labels.category.to_owned()))
                .collect(),
            minutes: kept.minutes_since(now, minutes).map(lived).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        lock(&self.0)
    }
}

impl Minute {
    fn add(&mut self, rule: usize, count: Count) {
        match self.rows.iter_mut().find(|row| row.rule == rule) {
            Some(row) => row.count.add(count),
            None => self.rows.push(Row { rule, count }),
        }
    }
}

impl Kept {
    fn number(&mut self, labels: &Arc<Labels>) -> usize {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        let number = self.rules.len();
        // What a rule counted before it is seen first belongs to the minute in which it is.
        self.rules.push(Rule { labels: labels.clone(), count: Count::default(), looked: 0 });
        self.numbers.insert(labels.clone(), number);
        number
    }

    fn minute(&mut self, now: Second) -> &mut Minute {
        let number = now / MINUTE;
        if self.minutes.back().is_none_or(|last| last.number < number) {
            self.rows += self.minutes.back().map_or(0, |last| last.rows.len());
            self.minutes.push_back(Minute { number, ..Minute::default() });
        }
        let last = self.minutes.len() - 1;
        &mut self.minutes[last]
    }

    fn forget(&mut self, now: Second) {
        let oldest = (now / MINUTE + 1).saturating_sub(MINUTES as Second);
        while self.minutes.len() > 1
            && self.minutes.front().is_some_and(|first| first.number < oldest || self.rows > ROWS)
        {
            let gone = self.minutes.pop_front().map_or(0, |minute| minute.rows.len());
            self.rows = self.rows.saturating_sub(gone);
        }
    }

    /// Drops the rules that the look at `now` did not have, whose counters were at zero when last read, and of which
    /// no minute tells. One that had ends stays: while a tunnel holds its series, its counters may come back and go
    /// on from where they were.
    fn drop_unused(&mut self, now: Second) {
        let mut told = vec![false; self.rules.len()];
        for row in self.minutes.iter().flat_map(|minute| &minute.rows) {
            told[row.rule] = true;
        }
        let mut places = Vec::with_capacity(self.rules.len());
        let mut used = 0;
        self.rules.retain(|rule| {
            let stays = rule.looked == now || rule.count != Count::default() || told[places.len()];
            places.push(used);
            used += usize::from(stays);
            stays
        });
        for row in self.minutes.iter_mut().flat_map(|minute| &mut minute.rows) {
            row.rule = places[row.rule];
        }
        let numbered = self.rules.iter().enumerate().map(|(number, rule)| (rule.labels.clone(), number));
        self.numbers = numbered.collect();
        self.crowded = (self.rules.len() * 2).max(CROWDED);
    }

    fn minutes_since(&self, now: Second, minutes: Second) -> impl Iterator<Item = &Minute> {
        let first = (now / MINUTE + 1).saturating_sub(minutes);
        let from = self.minutes.partition_point(|minute| minute.number < first);
        self.minutes.range(from..)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
