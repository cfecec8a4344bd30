//! The sentence of 9:05: who is hit, how many, where, since when, what changed, whose turn it is, and
//! what to paste to them. The words for a cause are those of the table, as everywhere.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::{Finding, Lack, Source, State, Subject, TARGETS};
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
    let targets = targets(all, first);
    if !targets.is_empty() {
        let _ = write!(text, ", {}", targets.join(" "));
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
    for category in same.filter_map(|told| told.finding.key.category) {
        if !words.contains(&category.as_str()) {
            words.push(category.as_str());
        }
    }
    // The targets that are named first belong to none of them.
    if is_of_no_category(first.finding) && !words.is_empty() {
        words.push("elsewhere");
    }
    words
}

fn is_of_no_category(finding: &Finding) -> bool {
    finding.key.category.is_none() && !finding.targets.is_empty()
}

/// The targets of the first finding; where they belong to no category those of the categories that are told, too.
fn targets<'a>(all: &'a [Told<'_>], first: &'a Told<'_>) -> Vec<&'a str> {
    let mut words: Vec<&str> = first.finding.targets.iter().map(String::as_str).collect();
    if !is_of_no_category(first.finding) {
        return words;
    }
    // What fails for another reason doesn't belong to the reason that is told.
    let alike = all.iter().filter(|told| same(told, first) && told.finding.by == first.finding.by);
    for target in alike.flat_map(|told| &told.finding.targets) {
        if words.len() < TARGETS && !words.contains(&target.as_str()) {
            words.push(target);
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::findings::Key;
    use crate::outcome::Bound;

    fn limit(category: Option<Category>, targets: &[&str]) -> Finding {
        Finding {
            key: Key { cause: Cause::Limit, category, subject: Subject::Bound(Bound::ConnectionsPerClient) },
            source: Source::Clients,
            since: 0,
            last: 0,
            clients: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            active: 1,
            networks: Vec::new(),
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            lacks: None,
            by: None,
        }
    }

    fn said(findings: &[Finding]) -> String {
        let told = |finding| Told {
            finding,
            since: "2026-11-27T09:03:02Z".to_owned(),
            changed: Vec::new(),
            networks: Vec::new(),
        };
        let all: Vec<Told<'_>> = findings.iter().map(told).collect();
        summary(State::Degraded, 1, 1, &all)
    }

    #[test]
    fn the_targets_are_of_what_is_told() {
        let (nowhere, extra) =
            (limit(None, &["/proxy.pac"]), limit(Some(Category::Extra), &["echo.test:443"]));
        let alone = said(std::slice::from_ref(&extra));
        assert!(alone.contains("fails in extra since"), "{alone}");
        assert!(alone.contains("(limit), echo.test:443."), "{alone}");

        let both = said(&[nowhere.clone(), extra.clone()]);
        assert!(both.contains("fails in extra and elsewhere since"), "{both}");
        assert!(both.contains("(limit), /proxy.pac echo.test:443."), "{both}");
        let turned = said(&[extra.clone(), nowhere]);
        assert!(turned.contains("fails in extra since"), "{turned}");
        assert!(turned.contains("(limit), echo.test:443."), "{turned}");

        // One that names no target adds no place.
        let untold = said(&[limit(None, &[]), extra.clone()]);
        assert!(untold.contains("fails in extra since"), "{untold}");
        let most = limit(None, &["/proxy.pac", "/check", "/wpad.dat"]);
        let few = said(&[most, extra]);
        assert!(few.contains("(limit), /proxy.pac /check /wpad.dat."), "{few}");
    }
}
