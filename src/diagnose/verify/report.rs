//! The answer as a whole, in the words and numbers of `--json`. Pure.

use jiff::civil::Date;
use serde::Serialize;

use super::judge::{self, Host, Row, Status, Unresolved};
use super::{Hosts, Seen};
use crate::ranges::current::Current;
use crate::ranges::diff::{Added, Label};
use crate::wording::date;

/// The answer as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    pub verdict: Verdict,
    /// The first line.
    pub summary: String,
    #[serde(flatten)]
    label: Label,
    pub regions: Vec<String>,
    /// Of the media prefixes that were tried.
    open: usize,
    tried: usize,
    pub prefixes: Vec<Row>,
    /// Addresses of TURN names that no published prefix holds.
    pub outside: Vec<Row>,
    /// TURN names without a usable address.
    pub unresolved: Vec<Unresolved>,
    pub hosts: Vec<Host>,
    /// Why no host was tried over TLS; none where some were.
    pub hosts_not_tried: Option<&'static str>,
    /// `createDate` of the oldest version that deadlines were reckoned from; none where none is kept.
    pub deadlines_since: Option<String>,
}

/// Whether the hole is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All that could be tried is open.
    Open,
    Closed,
    /// Nothing was found closed, but what agents need today couldn't all be tried.
    Unproven,
}

/// What is known of deadlines.
pub(crate) struct Deadlines<'a> {
    pub pending: &'a [Added],
    pub since: Option<String>,
    pub today: Date,
}

impl Report {
    /// Judges what was seen. `media`: whether agents have any.
    pub(crate) fn new(seen: Seen, current: &Current, media: bool, deadlines: Deadlines<'_>) -> Self {
        let Seen { places, unresolved, hosts } = seen;
        let rows = judge::rows(places, deadlines.pending).into_iter();
        let (prefixes, outside): (Vec<Row>, Vec<Row>) = rows.partition(|row| row.prefix.is_some());
        let unresolved: Vec<Unresolved> =
            unresolved.into_iter().map(|(name, found)| Unresolved::new(name, found)).collect();
        let no_host = matches!(&hosts, Hosts::Sampled(all) if all.is_empty());
        let (hosts, hosts_not_tried) = match hosts {
            Hosts::Left => (Vec::new(), Some("--scope media leaves them out")),
            Hosts::ByProxy => {
                (Vec::new(), Some("egress.proxy carries them, so their way isn't this firewall's"))
            }
            Hosts::Sampled(_) if no_host => (Vec::new(), Some("no host of the allow list resolves")),
            Hosts::Sampled(all) => {
                (all.into_iter().map(|(set, judged)| judge::host(set, judged)).collect(), None)
            }
        };
        let count = |status| prefixes.iter().filter(|row| row.status == status).count();
        let (open, closed) = (count(Status::Open), count(Status::Closed));
        let any_closed = closed > 0
            || outside.iter().any(|row| row.status == Status::Closed)
            || hosts.iter().any(|host| host.status == Status::Closed);
        // An open address outside the prefixes proves nothing of these.
        let nothing = match media {
            true => prefixes.iter().all(|row| row.status == Status::NotTried),
            false => hosts.is_empty(),
        };
        let short = prefixes.iter().chain(&outside).any(|row| row.short);
        let verdict = match any_closed {
            true => Verdict::Closed,
            false if nothing || short || no_host || !unresolved.is_empty() => Verdict::Unproven,
            false => Verdict::Open,
        };
        let ranges = &current.version.ranges;
        let mut report = Self {
            schema_version: 1,
            verdict,
            summary: String::new(),
            label: Label::of(ranges),
            regions: current.version.selection.regions.clone(),
            open,
            tried: open + closed,
            prefixes,
            outside,
            unresolved,
            hosts,
            hosts_not_tried,
            deadlines_since: deadlines.since,
        };
        report.summary = report.sum_up(media, deadlines.today);
        report
    }

    fn sum_up(&self, media: bool, today: Date) -> String {
        /// So many are named.
        const NAMED: usize = 3;
        let mut parts = Vec::new();
        match (media, self.tried) {
            (false, _) => {}
            (true, 0) => parts.push("no media prefix could be tried".to_owned()),
            (true, tried) => parts.push(format!("{} of {tried} open", self.open)),
        }
        let closed: Vec<&Row> = self.closed().collect();
        for row in closed.iter().take(NAMED) {
            let hop = match row.after_hop {
                Some(hop) => format!("after hop {hop}"),
                None => "(after which hop is not known)".to_owned(),
            };
            parts.push(format!("{} closed {hop}", row.name()));
            parts.extend(row.due.map(|day| due(day, today)));
        }
        if closed.len() > NAMED {
            parts.push(format!("{} more closed", closed.len() - NAMED));
        }
        if !self.outside.is_empty() {
            let noun = if self.outside.len() == 1 { "address" } else { "addresses" };
            parts.push(format!("{} {noun} outside the published prefixes", self.outside.len()));
        }
        if !self.unresolved.is_empty() {
            let noun = if self.unresolved.len() == 1 { "name doesn't" } else { "names don't" };
            parts.push(format!("{} TURN {noun} resolve", self.unresolved.len()));
        }
        if !self.hosts.is_empty() {
            let open = self.hosts.iter().filter(|host| host.status == Status::Open).count();
            parts.push(format!("TLS: {open} of {} hosts open", self.hosts.len()));
        } else if let Some(why) = self.hosts_not_tried {
            parts.push(format!("TLS: not tried, {why}"));
        }
        parts.join("; ")
    }

    /// Which version of the ranges it is about, and what of it.
    pub(crate) fn of(&self) -> String {
        format!("by ip-ranges.json of {} for {}", self.label.create_date, self.regions.join(", "))
    }

    /// What is closed on UDP 3478.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Row> {
        self.prefixes.iter().chain(&self.outside).filter(|row| row.status == Status::Closed)
    }

    /// Whether nothing answers and nobody says why: then it needn't be a firewall.
    pub(crate) fn is_silent(&self) -> bool {
        self.tried > 0 && self.open == 0 && !self.closed().any(|row| row.refused)
    }
}

/// A deadline as people say it.
pub(crate) fn due(deadline: Date, today: Date) -> String {
    let since = if deadline <= today { "since " } else { "" };
    format!("due {since}{}", date(deadline, today))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
