//! The sentence of 9:05: who is hit, how many, where, since when, what changed, whose turn it is, and
//! what to paste to them. The words for a cause are those of the table, as everywhere.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::{Finding, Lack, Source, State, Subject};
use crate::cause::{Cause, Owner};
use crate::policy::Category;
use crate::wording::count;

/// How the line begins that has no finding to tell.
const ALL_IS: &str = "All is ";

/// A finding as it is told, with times and changes in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<'a> {
    pub finding: &'a Finding,
    /// Such as `2026-11-27T09:03:02Z`.
    pub since: String,
    /// What changed just before, oldest first.
    pub changed: Vec<String>,
    /// As they may be shown.
    pub networks: Vec<IpNet>,
}

/// What the agents notice.
#[must_use]
pub fn agent_sees(finding: &Finding) -> String {
    match &finding.lacks {
        Some(Lack::Known { agent_sees, .. }) => (*agent_sees).to_owned(),
        Some(Lack::Host(_)) | None => finding.key.cause.about().agent_sees.to_owned(),
    }
}

/// What its owner does about it.
#[must_use]
pub fn remedy(finding: &Finding) -> String {
    let general = finding.key.cause.about().remedy;
    match (&finding.lacks, finding.key.subject) {
        (Some(Lack::Known { what, .. }), _) => format!("add {what}, and reload"),
        (Some(Lack::Host(host)), _) => {
            format!("run `ccpgate explain {host}`; if agents need it, add it under [[allow]]")
        }
        (None, Subject::Bound(bound)) => format!("{general}; here it is {}", bound.key()),
        _ => general.to_owned(),
    }
}

/// What the owner needs to find it: time, cause, targets, networks.
#[must_use]
pub fn paste(told: &Told<'_>) -> String {
    let finding = told.finding;
    let mut text = format!("since {}: {}", told.since, cause(finding));
    if let Some(Lack::Known { what, .. }) = &finding.lacks {
        let _ = write!(text, ", lacking {what}");
    }
    if !finding.targets.is_empty() {
        let _ = write!(text, ", for {}", finding.targets.join(" "));
    }
    if finding.clients.is_empty() {
        text.push_str(", seen from the proxy itself");
    } else {
        let _ = write!(text, ", {} of {} clients", finding.clients.len(), finding.active);
    }
    if !told.networks.is_empty() {
        let _ = write!(text, " in {}", list(&told.networks));
    }
    text
}

/// Those whose turn it is.
#[must_use]
pub const fn who(owner: Owner) -> &'static str {
    match owner {
        Owner::Desk => "the desktop team",
        Owner::Network => "the network team",
        Owner::Firewall => "the firewall team",
        Owner::Security => "the security team",
        Owner::Configuration => "whoever keeps ccpgate's configuration",
        Owner::Proxy => "whoever runs the proxy",
    }
}

/// All of it in one line; the findings in their order of importance.
#[must_use]
pub fn summary(state: State, active: usize, failing: usize, all: &[Told<'_>]) -> String {
    let Some(first) = all.first() else { return all_is_well(active, failing) };
    let mut text = sentence(state, all, first);
    let others: Vec<String> = others(all, first);
    if !others.is_empty() {
        let _ = write!(text, " Besides: {}.", others.join("; "));
    }
    text
}

/// The line without a finding.
#[must_use]
pub fn all_is_well(active: usize, failing: usize) -> String {
    let clients = count(active, "active client");
    let well = match (active, failing) {
        (0, _) => "; no client was here in the last ten minutes.".to_owned(),
        (_, 0) => format!(": {clients}, and nothing fails."),
        (_, some) => format!(": {clients}; {some} of them failed at something, too few for a finding."),
    };
    format!("{ALL_IS}well{well}")
}

/// The line with sentences about the process itself, which hold whoever fails or not.
#[must_use]
pub fn remarked(line: String, remarks: &[String]) -> String {
    if remarks.is_empty() {
        return line;
    }
    let remarks = remarks.join(" ");
    match line.strip_prefix(ALL_IS) {
        Some(well) => format!("{remarks} Otherwise all is {well}"),
        None => format!("{line} {remarks}"),
    }
}

fn sentence(state: State, all: &[Told<'_>], first: &Told<'_>) -> String {
    let finding = first.finding;
    let about = finding.key.cause.about();
    let mut text = String::new();
    let calls =
        matches!(finding.key.category, Some(Category::Login | Category::Signalling | Category::Telecom));
    if state == State::Failed && calls && !finding.clients.is_empty() {
        text.push_str("Calls fail: ");
    }
    let categories = categories(all, first);
    let verb = if finding.clients.len() < 2 { "fails" } else { "fail" };
    match finding.source {
        Source::Ranges => text.push_str("AWS's address ranges want attention"),
        Source::Watch => text.push_str("The watch"),
        Source::Clients => {
            let _ = write!(text, "{} of {} active clients", finding.clients.len(), finding.active);
        }
    }
    if !first.networks.is_empty() {
        let _ = write!(text, " ({})", list(&first.networks));
    }
    match &categories[..] {
        _ if finding.source == Source::Ranges => {}
        [] => {
            let _ = write!(text, " {}", if finding.clients.len() == 1 { "is hit" } else { "are hit" });
        }
        _ => {
            let _ = write!(text, " {verb} in {}", and(&categories));
        }
    }
    let _ = write!(text, " since {}: {} ({})", first.since, about.definition, cause(finding));
    if !finding.targets.is_empty() {
        let _ = write!(text, ", {}", finding.targets.join(" "));
    }
    text.push('.');
    if !first.changed.is_empty() {
        let _ = write!(text, " Just before: {}.", first.changed.join("; "));
    }
    let _ = write!(
        text,
        " Agents see: {}. It is the turn of {}: {}. Paste to them: \"{}\".",
        agent_sees(finding),
        who(about.owner),
        remedy(finding),
        paste(first)
    );
    text
}

/// The cause in its word, with that of the failures where it says only who is hit.
fn cause(finding: &Finding) -> String {
    let cause = finding.key.cause.as_str();
    finding.by.map_or_else(|| cause.to_owned(), |by| format!("{cause}, {}", by.as_str()))
}

/// The categories in which the same cause holds.
fn categories(all: &[Told<'_>], first: &Told<'_>) -> Vec<&'static str> {
    let same = all.iter().filter(|told| same(told, first));
    let mut words: Vec<&str> = Vec::new();
    for told in same {
        if let Some(category) = told.finding.key.category
            && !words.contains(&category.as_str())
        {
            words.push(category.as_str());
        }
    }
    words
}

fn same(told: &Told<'_>, first: &Told<'_>) -> bool {
    let (one, other) = (told.finding, first.finding);
    one.key.cause == other.key.cause
        && match (&one.lacks, &other.lacks) {
            (Some(Lack::Known { what, .. }), Some(Lack::Known { what: other, .. })) => what == other,
            (None, None) => one.key.cause != Cause::Limit || one.key.subject == other.key.subject,
            _ => one.key == other.key,
        }
}

/// The other causes, each once.
fn others(all: &[Told<'_>], first: &Told<'_>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for told in all.iter().filter(|told| !same(told, first)) {
        let finding = told.finding;
        let place =
            finding.key.category.map_or(String::new(), |category| format!(" in {}", category.as_str()));
        let hit = match (finding.source, finding.clients.len()) {
            (Source::Ranges, _) => finding.targets.join(" "),
            (Source::Watch, _) => "seen by the watch".to_owned(),
            (Source::Clients, 1) => format!("1 client, {}", list(&told.networks)),
            (Source::Clients, many) => format!("{many} clients, {}", list(&told.networks)),
        };
        // Several hosts may be lacking: which one is meant.
        let what = match &finding.lacks {
            Some(Lack::Known { what, .. }) => format!(", {what}"),
            Some(Lack::Host(host)) => format!(", {host}"),
            None => String::new(),
        };
        let word = format!("{}{place}{what} ({hit})", cause(finding));
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.truncate(5);
    words
}

fn list(networks: &[IpNet]) -> String {
    networks.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// One address alone without its length.
fn shown(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn and(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
