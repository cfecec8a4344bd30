//! The PAC file: sends hosts of the allow list to the proxies and all others elsewhere.
//!
//! It repeats the host half of the policy in JavaScript that old engines read (no newer than ES3): tables
//! for exact names and for `*.suffix`, regular expressions for stars within labels. It doesn't use
//! `shExpMatch`, whose `*` crosses dots. It resolves nothing, so that no lookup leaks or delays (`isInNet`
//! would resolve, so the file reads addresses itself). No `DIRECT` follows the proxies, so that a dead
//! proxy opens no way around. The proxy judges ports and deny patterns: it refuses a host with both an
//! allow and a deny pattern, with a reason.

pub mod answer;
pub mod constant;
mod direct;
#[cfg(feature = "pac-engine")]
pub mod engine;
pub(crate) mod file;
pub mod own;
pub mod proxies;
pub mod rendezvous;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

pub use direct::Direct;

use crate::policy::{Pattern, Policy, Protocol};
use crate::target::Host;

/// How many patterns share one regular expression, so that none grows beyond what engines take.
const ALTERNATIVES: usize = 100;

/// What the file answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// For the allow list, in order: the ports of one proxy name and scheme, such as
    /// `HTTPS proxy1.corp:3129`. A host begins with the port that its name hashes to, and the
    /// others of the row follow; a row of one port is the same for all hosts. With no row hosts
    /// of the allow list are answered as all others are.
    pub listed: Vec<Vec<String>>,
    /// For every other host.
    pub otherwise: String,
    /// The hosts that are answered with `DIRECT`, besides localhost, even where the allow list has them.
    pub direct: Vec<Direct>,
}

impl Answers {
    /// Whether hosts are spread over the ports of a proxy.
    fn has_lanes(&self) -> bool {
        self.listed.iter().any(|row| row.len() > 1)
    }
}

/// Writes the PAC file: pure ASCII, about 50 bytes for each pattern. Chrome reads files up to 1 MiB.
#[must_use]
pub fn render(policy: &Policy, answers: &Answers) -> String {
    head(answers) + &tail(policy, answers, answers.has_lanes())
}

/// The lines that name the proxies.
fn head(answers: &Answers) -> String {
    let mut pac = String::new();
    pac.push_str("// ccpgate: hosts of the allow list go to the proxy, all others do not.\n");
    variable(&mut pac, "LISTED", &proxies(answers, answers.has_lanes()));
    variable(&mut pac, "OTHERWISE", &quote(&answers.otherwise));
    pac
}

/// All that follows: tables, and the functions that read them. Of the answers it has only the hosts that are
/// direct.
fn tail(policy: &Policy, answers: &Answers, lanes: bool) -> String {
    let listed = Tables::of(
        policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp).map(|rule| &rule.pattern),
    );
    let past = Past::of(&answers.direct);
    let mut pac = String::new();
    pac.push_str("// Single hosts, with a dot before them.\n");
    variable(&mut pac, "HOSTS", &set(&listed.hosts));
    pac.push_str("// Everything below these names, but not the names.\n");
    variable(&mut pac, "BELOW", &set(&listed.below));
    pac.push_str("// What may stand before these names.\n");
    variable(&mut pac, "BEFORE", &heads(&listed.before));
    pac.push_str("// The same for hosts that never go to a proxy.\n");
    variable(&mut pac, "DIRECT_HOSTS", &set(&past.names.hosts));
    variable(&mut pac, "DIRECT_BELOW", &set(&past.names.below));
    variable(&mut pac, "DIRECT_BEFORE", &heads(&past.names.before));
    pac.push_str("// Prefix length and 16-bit groups.\n");
    variable(&mut pac, "DIRECT_NETWORKS", &format!("[{}]", past.networks.join(", ")));
    variable(&mut pac, "DIRECT_PLAIN", if past.plain { "true" } else { "false" });
    pac.push_str(script::LOOKUP);
    pac.push_str(if lanes { script::LANES } else { script::ONE_LANE });
    pac.push_str(script::FIND);
    pac
}

/// What `LISTED` is: a result, or rows of results to be put in order for each host.
fn proxies(answers: &Answers, lanes: bool) -> String {
    if lanes {
        let row = |row: &Vec<String>| row.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", ");
        let rows: Vec<_> = answers.listed.iter().map(|words| format!("[{}]", row(words))).collect();
        return format!("[{}]", rows.join(", "));
    }
    match answers.listed.concat().as_slice() {
        [] => quote(&answers.otherwise),
        words => quote(&words.join("; ")),
    }
}

/// The hosts that never go to a proxy.
struct Past {
    names: Tables,
    /// Each as a JavaScript array.
    networks: Vec<String>,
    plain: bool,
}

impl Past {
    fn of(direct: &[Direct]) -> Self {
        let mut names = Tables::default();
        // `localhost` and what is below it never leave the machine (RFC 6761 section 6.3).
        names.hosts.insert(".localhost".to_owned());
        names.below.insert(".localhost".to_owned());
        let mut networks = vec!["[8, 32512, 0]".to_owned(), "[128, 0, 0, 0, 0, 0, 0, 0, 1]".to_owned()];
        let mut plain = false;
        for entry in direct {
            match entry {
                Direct::Plain => plain = true,
                Direct::Network(network) => networks.push(groups(*network)),
                Direct::Pattern(pattern) => names.add(pattern),
            }
        }
        Self { names, networks, plain }
    }
}

/// A network as the file has it: prefix length, then two groups of 16 bits or eight.
fn groups(network: IpNet) -> String {
    let network = direct::canonical(network);
    let groups: Vec<String> = match network.addr() {
        IpAddr::V4(four) => four
            .octets()
            .chunks(2)
            .map(|pair| (u16::from(pair[0]) << 8 | u16::from(pair[1])).to_string())
            .collect(),
        IpAddr::V6(six) => six.segments().iter().map(u16::to_string).collect(),
    };
    format!("[{}, {}]", network.prefix_len(), groups.join(", "))
}

/// The patterns by the way they are looked up. Every key begins with a dot or is empty, so that
/// none is a name that JavaScript objects have by themselves, such as `__proto__`.
#[derive(Default)]
struct Tables {
    hosts: BTreeSet<String>,
    below: BTreeSet<String>,
    /// By literal suffix, the expressions for what stands before it.
    before: BTreeMap<String, BTreeSet<String>>,
}

impl Tables {
    fn of<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let mut tables = Self::default();
        patterns.for_each(|pattern| tables.add(pattern));
        tables
    }

    fn add(&mut self, pattern: &Pattern) {
        let text = pattern.as_str();
        let dotted = |suffix: &str| match suffix {
            "" => String::new(),
            suffix => format!(".{suffix}"),
        };
        if let Some(host) = pattern.as_host() {
            self.hosts.insert(dotted(text));
            if let Host::Ip(IpAddr::V6(address)) = host
                && address.to_ipv4_mapped().is_some()
            {
                // Browsers write the embedded IPv4 address in hexadecimal.
                let [.., high, low] = address.segments();
                self.hosts.insert(format!(".::ffff:{high:x}:{low:x}"));
            }
            return;
        }
        let suffix = dotted(pattern.literal_suffix());
        if pattern.is_subdomains() {
            self.below.insert(suffix);
            return;
        }
        let head = expression(text.strip_suffix(&suffix).unwrap_or(text));
        self.before.entry(suffix).or_default().insert(head);
    }
}

/// What matches the labels before the literal suffix.
fn expression(head: &str) -> String {
    let (rest, mut expression) = match head.strip_prefix("*.") {
        // One or more labels: hosts have no empty ones.
        Some(rest) => (rest, r".+\.".to_owned()),
        None => (head, String::new()),
    };
    for (index, label) in rest.split('.').enumerate() {
        if index > 0 {
            expression.push_str(r"\.");
        }
        if label == "*" {
            expression.push_str("[^.]+");
        } else {
            // Patterns hold nothing else that a regular expression reads in its own way.
            expression.push_str(&label.replace('*', "[^.]*"));
        }
    }
    expression
}

fn expressions(heads: &BTreeSet<String>) -> String {
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let list: Vec<_> =
        heads.chunks(ALTERNATIVES).map(|chunk| format!("/^(?:{})$/", chunk.join("|"))).collect();
    format!("[{}]", list.join(", "))
}

fn variable(pac: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(pac, "var {name} = {value};");
}

fn set(keys: &BTreeSet<String>) -> String {
    object(keys.iter().map(|key| (key, "1")))
}

fn heads(before: &BTreeMap<String, BTreeSet<String>>) -> String {
    let lists: Vec<_> = before.iter().map(|(key, heads)| (key, expressions(heads))).collect();
    object(lists.iter().map(|(key, list)| (*key, list.as_str())))
}

/// An object literal, one key on a line, without the trailing comma that old engines refuse.
fn object<'a>(entries: impl Iterator<Item = (&'a String, &'a str)>) -> String {
    let lines: Vec<_> = entries.map(|(key, value)| format!("\n  {}: {value}", quote(key))).collect();
    match lines.as_slice() {
        [] => "{}".to_owned(),
        lines => format!("{{{}\n}}", lines.join(",")),
    }
}

/// A JavaScript string literal in ASCII, safe in HTML as well.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            ' '..='~' if !matches!(character, '<' | '>' | '&') => quoted.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(quoted, "\\u{unit:04x}");
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
