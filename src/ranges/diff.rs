//! What changed between two versions for one configuration, and by when a firewall must have it.
//!
//! Added is a prefix with an address that wasn't open on that port; removed, one with an address that no
//! longer is. A prefix that only changes its tag, or is cut in two, is neither.

use ipnet::IpNet;
use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;

use super::select::{Selection, Set, open};
use super::{Ranges, Table};
use crate::as_text;
use crate::policy::Protocol;

/// AWS publishes a range of Amazon Connect so many days before it is used, and moves traffic onto it
/// over the two weeks after.
pub const NOTICE_DAYS: i64 = 30;

/// A version with what the configuration needs of it.
#[derive(Clone, Debug)]
pub struct Version {
    pub ranges: Ranges,
    pub selection: Selection,
}

/// Everything that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    pub schema_version: u32,
    pub old: Label,
    pub new: Label,
    pub added: Vec<Added>,
    pub removed: Vec<Removed>,
}

/// What identifies a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    pub create_date: String,
    pub sync_token: String,
}

/// A prefix that opens addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    #[serde(serialize_with = "as_text::one")]
    pub prefix: IpNet,
    pub service: String,
    pub region: String,
    pub protocol: Protocol,
    pub port: &'static str,
    /// 30 days after NEW was made.
    #[serde(serialize_with = "as_text::one")]
    pub deadline: Date,
    /// Whether AWS promises those 30 days.
    pub promised: bool,
    /// It was first published between these two days.
    #[serde(serialize_with = "as_text::all")]
    pub first_seen: [Date; 2],
    /// 30 days after the first of them; none where nothing is promised.
    #[serde(serialize_with = "as_text::some")]
    pub safe_deadline: Option<Date>,
    /// Nothing keeps AWS from using it today.
    pub may_be_in_use: bool,
}

/// A prefix that leaves addresses closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    #[serde(serialize_with = "as_text::one")]
    pub prefix: IpNet,
    pub service: String,
    pub region: String,
    pub protocol: Protocol,
    pub port: &'static str,
}

impl Diff {
    /// Compares two versions. `between` are versions from between the two, in any order: they show more
    /// exactly when a prefix appeared.
    ///
    /// # Errors
    ///
    /// OLD is newer than NEW.
    pub fn new<'a>(
        old: &'a Version,
        new: &'a Version,
        between: impl IntoIterator<Item = &'a Version>,
        today: Date,
    ) -> Result<Self, String> {
        let age = |version: &Version| (version.ranges.created, version.ranges.sync_token);
        if age(old) > age(new) {
            return Err(format!(
                "OLD, of {}, is newer than NEW, of {}; give the older version first",
                old.ranges.create_date, new.ranges.create_date
            ));
        }
        let mut steps: Vec<&Version> = between.into_iter().collect();
        steps.retain(|version| age(old) < age(version) && age(version) < age(new));
        steps.sort_by_key(|version| age(version));
        steps.push(new);
        let mut diff = Self {
            schema_version: 1,
            old: Label::of(&old.ranges),
            new: Label::of(&new.ranges),
            added: Vec::new(),
            removed: Vec::new(),
        };
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let before = open(&old.selection, protocol);
            let opened: Vec<(&Version, Table)> =
                steps.iter().map(|version| (*version, open(&version.selection, protocol))).collect();
            for (set, prefix, service, region) in prefixes(new, protocol) {
                let news = Table::from_iter([prefix]).without(&before);
                if news.is_empty() {
                    continue;
                }
                let at = opened.iter().position(|(_, open)| open.meets(&news)).unwrap_or(0);
                let earlier = at.checked_sub(1).map_or(old, |at| opened[at].0);
                let first_seen = [earlier.ranges.day(), opened[at].0.ranges.day()];
                let promised = set.is_promised();
                let safe_deadline = promised.then(|| after_notice(first_seen[0]));
                diff.added.push(Added {
                    prefix,
                    service,
                    region,
                    protocol,
                    port: port(set),
                    deadline: after_notice(new.ranges.day()),
                    promised,
                    first_seen,
                    safe_deadline,
                    may_be_in_use: safe_deadline.is_none_or(|day| day <= today),
                });
            }
            let after = open(&new.selection, protocol);
            for (set, prefix, service, region) in prefixes(old, protocol) {
                if !after.covers(&prefix) {
                    diff.removed.push(Removed { prefix, service, region, protocol, port: port(set) });
                }
            }
        }
        Ok(diff)
    }

    /// The day by which everything that was added must be in the firewall: today, where AWS may use some
    /// of it already. None where nothing was added.
    #[must_use]
    pub fn due(&self, today: Date) -> Option<Date> {
        self.added.iter().map(|added| added.due(today)).min()
    }
}

impl Added {
    /// The day by which it must be in the firewall.
    #[must_use]
    pub fn due(&self, today: Date) -> Date {
        self.safe_deadline.map_or(today, |day| day.max(today))
    }
}

impl Label {
    /// Of a version.
    pub(crate) fn of(ranges: &Ranges) -> Self {
        Self { create_date: ranges.create_date.clone(), sync_token: ranges.sync_token.to_string() }
    }
}

/// The day on which AWS may begin to use what it published on that one.
#[must_use]
pub fn after_notice(day: Date) -> Date {
    day.saturating_add(NOTICE_DAYS.days())
}

fn port(set: Set) -> &'static str {
    set.row().ports.first().map_or("", String::as_str)
}

/// Each prefix once, although its entries may differ in other fields.
fn prefixes(version: &Version, protocol: Protocol) -> Vec<(Set, IpNet, String, String)> {
    let ranges = &version.ranges;
    let sets = version.selection.sets.iter().filter(|selected| selected.set.row().protocol == protocol);
    let mut all: Vec<_> = sets
        .flat_map(|selected| selected.entries.iter().map(|entry| (selected.set, entry)))
        .map(|(set, entry)| {
            (set, entry.net, ranges.service(entry).to_owned(), ranges.region(entry).to_owned())
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
