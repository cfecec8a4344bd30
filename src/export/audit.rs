//! What a list that another box has lacks of Amazon Connect's names, and where it is wider than needed.
//!
//! Whether a list covers a pattern is found by hosts that the pattern stands for: names that nobody would
//! list one by one are among them, so what is covered in part counts as missing.

use std::fmt;

use serde::Serialize;

use super::foreign::{Foreign, Kind, List};
use super::shape::Shape;
use crate::policy::{Category, Pattern, Policy, Protocol, Rule};
use crate::target::Host;

/// What one file was read as.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    pub file: String,
    pub kind: Kind,
    pub entries: usize,
}

/// A pattern that agents need, and that the list doesn't cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub pattern: String,
    pub category: Category,
    pub agent_sees: String,
}

/// An entry that lets in more than agents need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wider {
    pub entry: String,
    pub lets_in: String,
}

/// The verdict on all files together.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    pub schema_version: u32,
    pub files: Vec<File>,
    pub missing: Vec<Missing>,
    pub wider: Vec<Wider>,
    pub unneeded: Vec<String>,
}

/// What a star is replaced with: nothing, what AWS uses, and what nobody would list.
const FILLS: [&str; 6] = ["", "1", "a", "1-b2", "x9k2m7q4", "zz-7h3w9"];
/// The same for whole labels in front.
const FRONTS: [&str; 4] = ["a", "x9k2m7q4", "zz-7h3w9.b", "a.x9k2m7q4.c3"];

impl Audit {
    /// Judges the lists as one, against the allow list.
    #[must_use]
    pub fn new(policy: &Policy, lists: &[(String, List)]) -> Self {
        let firewall = lists.iter().any(|(_, list)| list.kind.is_firewall());
        let rules: Vec<&Rule> = policy
            .rules()
            .iter()
            .filter(|rule| rule.protocol == Protocol::Tcp || firewall)
            .filter(|rule| !matches!(rule.pattern.as_host(), Some(Host::Ip(_))))
            .collect();
        let is_needed = |text: &str| {
            Host::parse(text.as_bytes()).is_ok_and(|host| {
                policy.rules().iter().any(|rule| rule.pattern.matches(&host))
                    && !policy.deny().iter().any(|deny| deny.matches(&host))
            })
        };
        let allowed = || lists.iter().flat_map(|(_, list)| &list.entries).filter(|entry| !entry.deny);
        // What one file denies isn't on its list, whatever the others say.
        let passes = |host: &str| lists.iter().any(|(_, list)| list.lists(host));
        let needed: Vec<(&Rule, Vec<String>)> = rules
            .into_iter()
            .map(|rule| {
                let hosts = samples(&rule.pattern);
                (rule, hosts.into_iter().filter(|host| is_needed(host)).collect())
            })
            .collect();
        let mut missing: Vec<Missing> = Vec::new();
        for (rule, hosts) in &needed {
            if hosts.iter().any(|host| !passes(host))
                && !missing.iter().any(|known| known.pattern == rule.pattern.as_str())
            {
                missing.push(Missing {
                    pattern: rule.pattern.to_string(),
                    category: rule.category,
                    agent_sees: rule.agent_sees.clone(),
                });
            }
        }
        let (mut wider, mut unneeded) = (Vec::new(), Vec::new());
        for entry in allowed() {
            let useful = needed.iter().flat_map(|(_, hosts)| hosts).any(|host| entry.shape.matches(host))
                || policy
                    .rules()
                    .iter()
                    .filter_map(|rule| rule.pattern.as_host())
                    .any(|host| entry.shape.matches(&host.to_string()))
                || entry.shape.samples().iter().any(|host| is_needed(host));
            if !useful {
                unneeded.push(entry.text.clone());
            } else if let Some(lets_in) = mistake(entry, &needed, &is_needed, &passes) {
                wider.push(Wider { entry: entry.text.clone(), lets_in });
            }
        }
        unneeded.sort();
        unneeded.dedup();
        let files = lists.iter().map(|(file, list)| File {
            file: file.clone(),
            kind: list.kind,
            entries: list.entries.len(),
        });
        Self { schema_version: 1, files: files.collect(), missing, wider, unneeded }
    }
}

/// A host that an entry lets in though nobody needs it.
fn mistake(
    entry: &Foreign,
    needed: &[(&Rule, Vec<String>)],
    is_needed: &impl Fn(&str) -> bool,
    passes: &impl Fn(&str) -> bool,
) -> Option<String> {
    let is_mistake = |host: &String| {
        let real = Host::parse(host.as_bytes()).is_ok();
        real && entry.shape.matches(host) && passes(host) && !is_needed(host)
    };
    if let Some(host) = entry.shape.samples().into_iter().find(|host| is_mistake(host)) {
        return Some(host);
    }
    // What an expression stands for can't be listed: hosts near those that are needed are tried.
    let Shape::Regex(_) = entry.shape else { return None };
    let near = needed.iter().flat_map(|(_, hosts)| hosts).flat_map(|host| {
        [
            format!("{host}.evil.example"),
            format!("x{host}"),
            format!("evil.{host}"),
            host.replacen('.', "x", 1),
            host.split_once('.').map_or(String::new(), |(_, rest)| format!("evil.{rest}")),
            host.split_once('.').map_or(String::new(), |(_, rest)| rest.to_owned()),
        ]
    });
    near.into_iter().find(is_mistake)
}

/// Hosts that a pattern stands for.
fn samples(pattern: &Pattern) -> Vec<String> {
    let text = pattern.as_str();
    if pattern.is_exact() {
        return vec![text.to_owned()];
    }
    let mut all = Vec::new();
    let fronts: &[&str] = if text.starts_with("*.") { &FRONTS } else { &[""] };
    for front in fronts {
        let whole = match text.strip_prefix("*.") {
            Some(rest) => format!("{front}.{rest}"),
            None => text.to_owned(),
        };
        for fill in FILLS {
            let host = whole.replace('*', fill);
            if Host::parse(host.as_bytes()).is_ok_and(|host| pattern.matches(&host)) {
                all.push(host);
            }
        }
    }
    all.dedup();
    all
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for File { file, kind, entries } in &self.files {
            let noun = if *entries == 1 { "entry" } else { "entries" };
            writeln!(f, "{file}: {entries} {noun}, read as {}", <&str>::from(*kind))?;
        }
        if self.missing.is_empty() {
            writeln!(f, "\nnothing is missing")?;
        } else {
            writeln!(f, "\nmissing: {}", self.missing.len())?;
        }
        for Missing { pattern, category, agent_sees } in &self.missing {
            writeln!(f, "  {pattern} ({}): {agent_sees}", category.as_str())?;
        }
        if !self.wider.is_empty() {
            writeln!(f, "\nwider than needed: {}", self.wider.len())?;
        }
        for Wider { entry, lets_in } in &self.wider {
            writeln!(f, "  {entry}: also lets {lets_in} in")?;
        }
        if !self.unneeded.is_empty() {
            writeln!(f, "\nnot needed for Amazon Connect: {}", self.unneeded.len())?;
        }
        for entry in &self.unneeded {
            writeln!(f, "  {entry}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
