//! Whether a version takes the place of the one in force. AWS's file only ever moves on, and never takes half
//! of what a contact centre uses away at once: what does so is old, cut down, or somebody else's, until a
//! person has looked at it.

use jiff::{SignedDuration, Timestamp};

use super::current::Current;
use super::select::Wanted;
use super::table::Family;
use super::{AMAZON, Ranges, Table};

/// How far this machine's clock may be behind AWS's.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// What becomes of a version.
#[derive(Debug)]
pub enum Verdict {
    /// It takes the place of the one in force.
    Take(Box<Current>),
    /// It is the one in force.
    Unchanged,
    /// It is older than the one in force. In words, without where it came from.
    Older(String),
    /// It can't be right. In words, without where it came from.
    Refused(String),
    /// It may be right, and would close what is open: a person decides. In words.
    Aside(String),
}

/// Judges a version against the one in force, if there is one.
#[must_use]
pub fn judge(before: Option<&Current>, new: Ranges, wanted: &Wanted, now: Timestamp) -> Verdict {
    if let Some(why) = ahead_of_the_clock(&new, now) {
        return Verdict::Refused(why);
    }
    let new = Current::after(before, new, wanted);
    let Some(before) = before else { return Verdict::Take(Box::new(new)) };
    let (old, fresh) = (&before.version.ranges, &new.version.ranges);
    if fresh.sync_token == old.sync_token {
        return match new.version.selection == before.version.selection && new.amazon == before.amazon {
            true => Verdict::Unchanged,
            false => Verdict::Refused(format!(
                "it has the syncToken of the version in force, {}, and another content: a copy that somebody changed",
                old.sync_token
            )),
        };
    }
    if fresh.sync_token < old.sync_token {
        return Verdict::Older(format!(
            "it is older, of {}, syncToken {}, than the version in force, of {}, syncToken {}",
            fresh.create_date, fresh.sync_token, old.create_date, old.sync_token
        ));
    }
    if fresh.created < old.created {
        return Verdict::Refused(format!(
            "its syncToken, {}, is newer than that of the version in force and its createDate, {}, older than {}: \
             two versions were mixed up",
            fresh.sync_token, fresh.create_date, old.create_date
        ));
    }
    let losses = losses(before, &new);
    match losses.is_empty() {
        true => Verdict::Take(Box::new(new)),
        false => Verdict::Aside(losses.join("; ")),
    }
}

/// Why a version can't be of today by this machine's clock; none where it can.
#[must_use]
pub fn ahead_of_the_clock(ranges: &Ranges, now: Timestamp) -> Option<String> {
    (ranges.created > now + SKEW).then(|| {
        format!(
            "createDate {} lies ahead of this machine's clock, {}: set the clock right",
            ranges.create_date,
            now.strftime("%Y-%m-%d-%H-%M-%S")
        )
    })
}

/// Which of the sets in use lose more than half, or all of a family.
fn losses(before: &Current, new: &Current) -> Vec<String> {
    let mut losses = Vec::new();
    for selected in &before.version.selection.sets {
        if let Some(after) = new.table(selected.set) {
            losses.extend(loss(selected.set.name(), &selected.table, after));
        }
    }
    losses.extend(loss(AMAZON, &before.amazon, &new.amazon));
    let unknown = |current: &Current| current.version.selection.unknown_regions.clone();
    let known = unknown(before);
    let gone: Vec<String> = unknown(new).into_iter().filter(|region| !known.contains(region)).collect();
    if !gone.is_empty() {
        losses.push(format!("it has nothing of {} any more", gone.join(", ")));
    }
    losses
}

/// What a set loses, by prefixes or by addresses, where that is more than half of a family.
fn loss(name: &str, before: &Table, after: &Table) -> Vec<String> {
    let mut losses = Vec::new();
    let lost = before.without(after);
    for (family, word) in [(Family::Ipv4, "IPv4"), (Family::Ipv6, "IPv6")] {
        let prefixes = before.prefixes(family);
        let gone = prefixes.iter().filter(|prefix| !after.touches(prefix)).count();
        let share = lost.addresses(family) / before.addresses(family);
        if prefixes.is_empty() {
            continue;
        } else if gone == prefixes.len() {
            losses.push(format!("{name} loses all its {word} prefixes, {gone}"));
        } else if gone * 2 > prefixes.len() {
            losses.push(format!("{name} loses {gone} of its {} {word} prefixes", prefixes.len()));
        } else if share > 0.5 {
            losses.push(format!("{name} loses {:.0} % of its {word} addresses", share * 100.0));
        }
    }
    losses
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
