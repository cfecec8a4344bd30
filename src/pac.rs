//! The PAC file: sends hosts of the allow list to the proxies and all others elsewhere.
//!
//! It repeats the host half of the policy in JavaScript that old engines read (no newer than
//! ES3): tables for exact names and for `*.suffix`, regular expressions for stars within labels.
//! `shExpMatch` is no use, since its `*` crosses dots; nothing is resolved, so no lookup leaks or
//! delays; and there is no `DIRECT` behind the proxies, so a dead proxy never opens a way around.
//! Ports and deny patterns are the proxy's to judge: a host with both an allow and a deny pattern
//! is sent there and refused there, with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use crate::policy::{Pattern, Policy, Protocol};
use crate::target::Host;

/// How many patterns share one regular expression, so that none grows beyond what engines take.
const ALTERNATIVES: usize = 100;

/// Writes the PAC file: pure ASCII, about 50 bytes for each pattern. Chrome reads files up to 1 MiB.
///
/// `proxies` are the entries for the allow list in order, such as `HTTPS proxy1.corp:3129` or
/// `PROXY proxy1.corp:3128`; `otherwise` is the answer for every other host. Without proxies every
/// host gets `otherwise`.
#[must_use]
pub fn render(policy: &Policy, proxies: &[String], otherwise: &str) -> String {
    let tables = Tables::of(
        policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp).map(|rule| &rule.pattern),
    );
    let listed = if proxies.is_empty() { otherwise.to_owned() } else { proxies.join("; ") };
    let mut pac = String::new();
    pac.push_str("// ccpgate: hosts of the allow list go to the proxy, all others do not.\n");
    variable(&mut pac, "LISTED", &quote(&listed));
    variable(&mut pac, "OTHERWISE", &quote(otherwise));
    pac.push_str("// Single hosts, with a dot before them.\n");
    variable(&mut pac, "HOSTS", &object(tables.hosts.iter().map(|key| (key, "1"))));
    pac.push_str("// Everything below these names, but not the names.\n");
    variable(&mut pac, "BELOW", &object(tables.below.iter().map(|key| (key, "1"))));
    pac.push_str("// What may stand before these names.\n");
    let before: Vec<_> = tables.before.iter().map(|(key, heads)| (key, expressions(heads))).collect();
    variable(&mut pac, "BEFORE", &object(before.iter().map(|(key, list)| (*key, list.as_str()))));
    pac.push_str(LOOKUP);
    pac
}

const LOOKUP: &str = r#"
function isListed(host) {
  var at, end, list, i;
  if (HOSTS["." + host] === 1) {
    return true;
  }
  for (at = host.length; at > 0; at = host.lastIndexOf(".", at - 1)) {
    end = host.substring(at);
    if (BELOW[end] === 1) {
      return true;
    }
    list = BEFORE[end];
    for (i = 0; list && i < list.length; i++) {
      if (list[i].test(host.substring(0, at))) {
        return true;
      }
    }
  }
  return false;
}

function FindProxyForURL(url, host) {
  host = String(host).toLowerCase();
  if (host.charAt(0) === "[" && host.charAt(host.length - 1) === "]") {
    host = host.substring(1, host.length - 1);
  }
  if (host.charAt(host.length - 1) === ".") {
    host = host.substring(0, host.length - 1);
  }
  return isListed(host) ? LISTED : OTHERWISE;
}
"#;

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
        for pattern in patterns {
            let text = pattern.as_str();
            let dotted = |suffix: &str| match suffix {
                "" => String::new(),
                suffix => format!(".{suffix}"),
            };
            if let Some(host) = pattern.as_host() {
                tables.hosts.insert(dotted(text));
                if let Host::Ip(IpAddr::V6(address)) = host
                    && address.to_ipv4_mapped().is_some()
                {
                    // Browsers write the embedded IPv4 address in hexadecimal.
                    let [.., high, low] = address.segments();
                    tables.hosts.insert(format!(".::ffff:{high:x}:{low:x}"));
                }
                continue;
            }
            let suffix = dotted(pattern.literal_suffix());
            if pattern.is_subdomains() {
                tables.below.insert(suffix);
                continue;
            }
            let head = expression(text.strip_suffix(&suffix).unwrap_or(text));
            tables.before.entry(suffix).or_default().insert(head);
        }
        tables
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
