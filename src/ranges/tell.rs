//! A difference in words: for a terminal, as a change request for the firewall's administrator, and as a
//! calendar.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::ToSpan;
use jiff::civil::Date;

use super::diff::{Added, Diff, Removed};
use crate::catalogue::catalogue;

/// AWS's rule, in our words.
const RULE: &str = "AWS publishes a new range of Amazon Connect in ip-ranges.json at least 30 days before \
                    it carries traffic, and moves traffic onto it over the two weeks after. For the \
                    other services AWS promises no notice.";

/// What has to be in the firewall on one day.
fn by_day(diff: &Diff, today: Date) -> BTreeMap<Date, Vec<&Added>> {
    let mut days: BTreeMap<Date, Vec<&Added>> = BTreeMap::new();
    for added in &diff.added {
        days.entry(added.due(today)).or_default().push(added);
    }
    days
}

fn rule(added: &Added) -> String {
    let Added { prefix, service, region, protocol, port, .. } = added;
    let protocol = <&str>::from(*protocol).to_ascii_uppercase();
    format!("{prefix} {protocol} {port} ({service}, {region})")
}

fn removed(removed: &Removed) -> String {
    let Removed { prefix, service, region, protocol, port } = removed;
    let protocol = <&str>::from(*protocol).to_ascii_uppercase();
    format!("{prefix} {protocol} {port} ({service}, {region})")
}

/// Why it is due.
fn because(added: &Added) -> String {
    let [earliest, latest] = added.first_seen;
    let seen = match earliest == latest {
        true => format!("published on {latest}"),
        false => format!("published between {earliest} and {latest}"),
    };
    match added.safe_deadline {
        Some(day) if added.may_be_in_use => format!("{seen}; may be in use already, since {day}"),
        Some(day) => format!("{seen}; AWS may use it from {day} on"),
        None => format!("{seen}; may be in use already: nothing is promised for this service"),
    }
}

/// For a terminal.
#[must_use]
pub fn text(diff: &Diff, today: Date) -> String {
    let mut text = format!("ip-ranges.json of {} against {}\n", diff.new.create_date, diff.old.create_date);
    if diff.added.is_empty() && diff.removed.is_empty() {
        text.push_str("nothing changed that this configuration needs\n");
    }
    for (day, all) in by_day(diff, today) {
        let when = if day == today { "now".to_owned() } else { format!("by {day}") };
        let _ = writeln!(text, "\nto be let through {when}: {}", all.len());
        for added in all {
            let _ = writeln!(text, "  + {}: {}", rule(added), because(added));
        }
    }
    if !diff.removed.is_empty() {
        let _ = writeln!(text, "\nno longer published: {}", diff.removed.len());
        for gone in &diff.removed {
            let _ = writeln!(text, "  - {}", removed(gone));
        }
    }
    text
}

/// A change request.
#[must_use]
pub fn ticket(diff: &Diff, today: Date, regions: &[String]) -> String {
    let mut text = String::new();
    let due = diff.due(today);
    let when = match due {
        None => "nothing has to be let through".to_owned(),
        Some(day) if day == today => "now".to_owned(),
        Some(day) => format!("by {day}"),
    };
    let _ = writeln!(text, "Subject: firewall: Amazon Connect address ranges, {when}\n");
    let _ = writeln!(text, "Who: the owner of the egress firewall; asked for by the owner of Amazon Connect");
    let _ = writeln!(text, "Where: egress to Amazon Connect in {}\n", regions.join(", "));
    if diff.added.is_empty() {
        text.push_str("What to let through: nothing new.\n\n");
    }
    for (day, all) in by_day(diff, today) {
        let when = if day == today { "now".to_owned() } else { format!("by {day}") };
        let _ = writeln!(text, "What to let through {when}, from the agents' networks, outbound:");
        for added in all {
            let _ = writeln!(text, "  {}: {}", rule(added), because(added));
        }
        text.push('\n');
    }
    if !diff.removed.is_empty() {
        text.push_str("What may be closed, a week after the above was tested:\n");
        for gone in &diff.removed {
            let _ = writeln!(text, "  {}", removed(gone));
        }
        text.push('\n');
    }
    let source = catalogue().source_text(&["doc-2026".to_owned()]);
    let _ = writeln!(
        text,
        "Why: {RULE} ({source}; ip-ranges.json of {}, syncToken {}, against that of {}.) A range of UDP 3478 \
         that is closed then means calls that connect without sound.\n",
        diff.new.create_date, diff.new.sync_token, diff.old.create_date
    );
    text.push_str("Test: ");
    match diff.added.iter().find(|added| added.promised) {
        Some(_) => text.push_str(
            "after the change, a call from an agent's desk has sound both ways, and the firewall's \
             counter of the new rule is there. Before AWS uses a range nothing answers in it, so the log of \
             dropped UDP 3478 must stay empty of these prefixes in the two weeks after the day above.\n\n",
        ),
        None => text.push_str(
            "after the change, an agent signs in, opens the panel and takes a call; the firewall's log has \
             no drops on TCP 443 to these prefixes.\n\n",
        ),
    }
    text.push_str(
        "Back-out: take the added prefixes out again; nothing that worked before depends on them until AWS \
         moves traffic. Leave what may be closed open until then.\n",
    );
    text
}

/// A calendar with an entry for each day on which something is due (RFC 5545); none where nothing was
/// added.
#[must_use]
pub fn calendar(diff: &Diff, today: Date) -> Option<String> {
    if diff.added.is_empty() {
        return None;
    }
    let mut lines = vec![
        "BEGIN:VCALENDAR".to_owned(),
        "VERSION:2.0".to_owned(),
        "PRODID:-//ccpgate//ranges//EN".to_owned(),
    ];
    for (day, all) in by_day(diff, today) {
        let stamp = diff.new.create_date.replace('-', "");
        let (date, time) = stamp.split_at(stamp.len().min(8));
        let in_use = all.iter().any(|added| added.may_be_in_use);
        let summary = match in_use {
            true => format!(
                "Firewall: let {} Amazon Connect ranges through now; may be in use already",
                all.len()
            ),
            false => format!("Firewall: let {} Amazon Connect ranges through before this day", all.len()),
        };
        let list: Vec<String> = all.iter().map(|added| rule(added)).collect();
        lines.extend([
            "BEGIN:VEVENT".to_owned(),
            // The same on whichever day it is made, so that a calendar replaces the entry.
            format!(
                "UID:{}-{}-{}@ccpgate",
                diff.old.sync_token,
                diff.new.sync_token,
                if in_use { "now".to_owned() } else { day.to_string() }
            ),
            format!("DTSTAMP:{date}T{time}Z"),
            format!("DTSTART;VALUE=DATE:{}", day.strftime("%Y%m%d")),
            format!("DTEND;VALUE=DATE:{}", day.saturating_add(1.days()).strftime("%Y%m%d")),
            format!("SUMMARY:{}", escaped(&summary)),
            format!("DESCRIPTION:{}", escaped(&format!("{}\n\n{RULE}", list.join("\n")))),
            "TRANSP:TRANSPARENT".to_owned(),
        ]);
        if !in_use {
            lines.extend(
                [
                    "BEGIN:VALARM",
                    "ACTION:DISPLAY",
                    "TRIGGER:-P7D",
                    "DESCRIPTION:Firewall: Amazon Connect ranges",
                    "END:VALARM",
                ]
                .map(str::to_owned),
            );
        }
        lines.push("END:VEVENT".to_owned());
    }
    lines.push("END:VCALENDAR".to_owned());
    Some(lines.iter().map(|line| folded(line)).collect())
}

/// A text value (RFC 5545 section 3.3.11).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(';', "\\;").replace(',', "\\,").replace('\n', "\\n")
}

/// A line of at most 75 bytes, with its continuations (RFC 5545 section 3.1). All of it is ASCII.
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut room = 75;
    for c in line.chars() {
        if c.len_utf8() > room {
            text.push_str("\r\n ");
            room = 74;
        }
        text.push(c);
        room -= c.len_utf8();
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_and_texts_escaped() {
        let text = folded(&"x".repeat(200));
        assert!(text.lines().all(|line| line.len() <= 75) && text.ends_with("\r\n"));
        assert_eq!(text.replace("\r\n ", ""), format!("{}\r\n", "x".repeat(200)));
        assert_eq!(escaped("a,b;c\\d\ne"), "a\\,b\\;c\\\\d\\ne");
    }

    #[test]
    fn the_rule_names_the_days() {
        assert!(RULE.contains(&format!("{} days", crate::ranges::diff::NOTICE_DAYS)));
    }
}
