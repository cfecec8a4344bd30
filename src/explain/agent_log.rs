//! `ccpgate explain --log`: what an agent's own log says of failures, and whose fault they are.
//!
//! Pure: bytes in, report out. [`report`] takes the tunnels that the proxy saw of that desk, where they are
//! known; without them it rests on the log alone.

pub mod join;
pub mod read;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use super::symptom::{Lines, is_hidden};
use crate::catalogue::{Side, Story, Symptom};
use crate::cause::{Cause, Severity};
use crate::policy::Category;
use crate::wording::span;
use join::Desk;
use read::Entry;

/// The largest log that is read, in bytes: the panel keeps an hour, which is a few MiB.
pub const LARGEST: usize = 64 << 20;

/// Lines of one story that are no further apart than this are one failure.
const TOGETHER: SignedDuration = SignedDuration::from_secs(15);
/// The same for what the panel tries again and again, 30 s apart at most.
const REPEATED: SignedDuration = SignedDuration::from_secs(60);

/// The answer. Serialises to the object of `explain --log --json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema_version: u32,
    /// How many entries the log has.
    pub entries: usize,
    /// AWS's clock minus the desk's, as the panel measured it last; null where the log has none.
    pub skew_ms: Option<i64>,
    /// Set where the desk's clock is wrong by more than it may be.
    pub clock: Option<Clock>,
    /// By time.
    pub errors: Vec<Failure>,
}

/// A desk's clock that is wrong.
#[derive(Debug, Serialize)]
pub struct Clock {
    pub cause: Cause,
    pub severity: Severity,
    pub sentence: String,
}

/// One failure: a line of the log, or several of one story.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// As in the log, by the desk's clock.
    #[serde(serialize_with = "iso")]
    pub time: Option<Timestamp>,
    /// The same by AWS's clock; null where the log has no skew.
    #[serde(serialize_with = "iso")]
    pub corrected_time: Option<Timestamp>,
    /// The line that says most.
    pub text: String,
    /// How many lines make up this failure.
    pub lines: usize,
    /// Of the last one.
    #[serde(serialize_with = "iso")]
    pub until: Option<Timestamp>,
    pub categories: Vec<Category>,
    pub verdict: Side,
    pub sentence: String,
    pub decides: Option<&'static str>,
    pub remedy: &'static str,
    /// Ids in the proxy's log.
    pub tunnels: Vec<String>,
}

impl Report {
    /// Whether the network or the proxy is to blame for anything.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.errors.iter().any(|e| matches!(e.verdict, Side::Network | Side::Proxy))
    }
}

/// Finds the failures in a log. `desk` is what the proxy saw of it; none where the proxy wasn't asked.
#[must_use]
pub fn report(mut entries: Vec<Entry>, desk: Option<&Desk>) -> Report {
    // Entries of several windows are mixed; without a time an entry stays behind the one before.
    let mut last = None;
    for entry in &mut entries {
        entry.time = entry.time.or(last);
        last = entry.time;
    }
    entries.sort_by_key(|entry| entry.time);
    let skew_ms = entries.iter().rev().find_map(|entry| entry.skew_ms);
    let mut stories: Vec<Episode<'_>> = Vec::new();
    let mut latest: Vec<(Story, usize)> = Vec::new();
    for entry in &entries {
        let rows = Lines::of(&entry.text);
        let Some(story) = rows.first().map(|row| row.story) else { continue };
        let open = latest.iter().position(|(of, _)| *of == story);
        if let Some(at) = open.map(|at| latest[at].1).filter(|at| stories[*at].is_near(entry)) {
            stories[at].lines.push((entry, rows));
            continue;
        }
        match open {
            Some(open) => latest[open].1 = stories.len(),
            None => latest.push((story, stories.len())),
        }
        stories.push(Episode { story, lines: vec![(entry, rows)] });
    }
    // The skew of that time: somebody may have set the clock in between.
    let skews: Vec<(Option<Timestamp>, i64)> =
        entries.iter().filter_map(|entry| Some((entry.time, entry.skew_ms?))).collect();
    let skew_at = |time: Option<Timestamp>| {
        let later = skews.partition_point(|(measured, _)| *measured <= time);
        skews.get(later.saturating_sub(1)).map(|(_, skew)| *skew)
    };
    let errors = stories
        .iter()
        .map(|story| {
            let time = story.lines[0].0.time;
            story.failure(skew_at(time), desk)
        })
        .collect();
    Report { schema_version: 1, entries: entries.len(), skew_ms, clock: skew_ms.and_then(clock), errors }
}

/// What is done where the proxy saw no tunnel of the desk.
const UNSEEN: &str =
    "look at the PAC file that the desk's browser has; `ccpgate denied` lists what this proxy refused";

/// Lines that belong together; never empty.
struct Episode<'a> {
    story: Story,
    lines: Vec<(&'a Entry, Vec<&'static Symptom>)>,
}

impl Episode<'_> {
    fn is_near(&self, entry: &Entry) -> bool {
        let last = self.lines.last().and_then(|(last, _)| last.time);
        let limit = match self.story {
            Story::Line | Story::Api | Story::Login => REPEATED,
            Story::Call | Story::Sound | Story::Desk => TOGETHER,
        };
        match (last, entry.time) {
            (Some(last), Some(this)) => this.duration_since(last) <= limit,
            _ => true,
        }
    }

    fn failure(&self, skew_ms: Option<i64>, desk: Option<&Desk>) -> Failure {
        let all: Vec<&str> = self.lines.iter().map(|(entry, _)| entry.text.as_str()).collect();
        // The first lines suffice: a story that repeats itself for an hour is not compared as a whole.
        let together = Lines::of(&all[..all.len().min(20)].join("\n"));
        let shown: Vec<&'static Symptom> =
            together.iter().copied().filter(|row| !is_hidden(row, &together)).collect();
        let of = |row: &Symptom, error: bool| {
            let says = |rows: &[&Symptom]| rows.iter().any(|said| said.id == row.id);
            self.lines.iter().find(|(entry, rows)| says(rows) && (entry.error || !error))
        };
        // An error before a warning, and of errors what is held against the network or the proxy: others may follow from
        // it. A row that matches several lines together has no line of its own.
        let errors = shown.iter().filter(|row| of(row, true).is_some());
        let ended = errors.min_by_key(|row| !matches!(row.verdict, Side::Network | Side::Proxy));
        let several = shown.iter().find(|row| of(row, false).is_none());
        let row = *several.or(ended).or(shown.first()).unwrap_or(&self.lines[0].1[0]);
        let (entry, _) = of(row, true)
            .or_else(|| of(row, false))
            .unwrap_or_else(|| self.lines.iter().find(|(entry, _)| entry.error).unwrap_or(&self.lines[0]));
        let corrected_time =
            entry.time.zip(skew_ms).and_then(|(t, ms)| t.checked_add(SignedDuration::from_millis(ms)).ok());
        let joined = desk
            .filter(|_| row.network)
            .zip(corrected_time.or(entry.time))
            .and_then(|(desk, at)| join::join(at, row, desk));
        let unseen =
            joined.as_ref().is_some_and(|joined| joined.side == Side::Proxy && joined.tunnels.is_empty());
        let (verdict, sentence, tunnels) = match joined {
            Some(joined) => {
                // What the proxy doesn't know takes nothing from what the text itself proves.
                let side = if joined.side == Side::Unknown { row.verdict } else { joined.side };
                (side, format!("{}; {}", row.means, joined.sentence), joined.tunnels)
            }
            None => (row.verdict, row.means.clone(), Vec::new()),
        };
        Failure {
            time: entry.time,
            corrected_time,
            text: entry.text.clone(),
            lines: self.lines.len(),
            until: self.lines.last().and_then(|(entry, _)| entry.time),
            categories: row.categories(),
            verdict,
            sentence,
            decides: row.decides.as_deref(),
            remedy: if unseen { UNSEEN } else { row.remedy() },
            tunnels,
        }
    }
}

fn clock(skew_ms: i64) -> Option<Clock> {
    let off = SignedDuration::from_millis(skew_ms);
    let about = Cause::ClockSkew.about();
    let severity = about.threshold?.judge(off.unsigned_abs())?;
    let way = if skew_ms > 0 { "behind" } else { "ahead of" };
    let by = span(off.unsigned_abs());
    let sentence = format!("this desk's clock is {by} {way} AWS's; {}", about.remedy);
    Some(Clock { cause: Cause::ClockSkew, severity, sentence })
}

/// A few lines a failure for people, without a line break at the end.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.len() {
            0 => f.write_str("no failure")?,
            1 => f.write_str("1 failure")?,
            many => write!(f, "{many} failures")?,
        }
        let entries = if self.entries == 1 { "entry" } else { "entries" };
        write!(f, " in {} {entries}", self.entries)?;
        match (self.skew_ms, &self.clock) {
            (None, _) => {
                f.write_str("\nclock: the log has no snapshot.skew; times are the desk's own, uncorrected")?
            }
            (Some(_), Some(clock)) => write!(f, "\nclock: {}", clock.sentence)?,
            (Some(ms), None) => write!(f, "\nclock: {ms} ms from AWS's; times are corrected by that")?,
        }
        for error in &self.errors {
            let time = error.corrected_time.or(error.time);
            let time =
                time.map_or_else(|| "(no time)".to_owned(), |time| time.strftime("%F %TZ").to_string());
            let side = side_word(error.verdict);
            write!(f, "\n\n{time}  {side}: {}", error.text)?;
            if error.lines > 1 {
                write!(f, "\n  lines    {}", error.lines)?;
                if let Some(until) = error.until {
                    write!(f, ", the last at {} by the desk's clock", join::clock(until))?;
                }
            }
            write!(f, "\n  means    {}", error.sentence)?;
            if let Some(decides) = error.decides {
                write!(f, "\n  decides  {decides}")?;
            }
            write!(f, "\n  do       {}", error.remedy)?;
        }
        Ok(())
    }
}

/// As JavaScript writes a date.
fn iso<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")),
        None => serializer.serialize_none(),
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Network => "network",
        Side::Proxy => "proxy",
        Side::Aws => "AWS",
        Side::Desk => "desk",
        Side::Unknown => "unknown",
    }
}

#[cfg(test)]
#[path = "agent_log/tests.rs"]
mod tests;
