//! Reads the lists that other proxies and firewalls have: Squid configurations, PAC files, plain domain
//! lists, and lists of URLs for firewalls. Each entry says what it lets through or keeps out.
//!
//! A PAC file isn't run: the names in it count, whatever it answers for them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use strum::IntoStaticStr;

use super::shape::{Shape, name, shown};
use super::squid;

/// What kind of list a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    Squid,
    Pac,
    Domains,
    Edl,
}

impl Kind {
    /// Whether it judges UDP as well, so that names of media servers belong on it.
    #[must_use]
    pub fn is_firewall(self) -> bool {
        matches!(self, Self::Domains | Self::Edl)
    }
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// As it stands in the file.
    pub text: String,
    pub(super) shape: Shape,
    pub deny: bool,
}

/// A list that was read.
#[derive(Clone, Debug)]
pub struct List {
    pub kind: Kind,
    pub entries: Vec<Foreign>,
    /// What could not be read, one line each.
    pub remarks: Vec<String>,
}

/// How many entries one list may have.
const MOST: usize = 500_000;

/// Gives the text of a file that another one names.
pub type Open<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads a list; `open` is asked for files that it includes.
///
/// # Errors
///
/// There is no entry in it, or too many.
pub fn read(text: &str, open: Open<'_>) -> Result<List, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let kind = kind(text);
    let mut list = List { kind, entries: Vec::new(), remarks: Vec::new() };
    match kind {
        Kind::Pac => pac(text, &mut list),
        Kind::Squid => {
            let read = squid::read(text, open, MOST);
            list.remarks = read.remarks;
            for (text, shape, deny) in read.entries {
                add(&mut list, &text, shape, deny);
            }
        }
        Kind::Domains | Kind::Edl => lines(text, kind, &mut list),
    }
    match list.entries.len() {
        0 => {
            let remarks = list.remarks.iter().map(|remark| format!(" ({remark})")).collect::<String>();
            Err(format!(
                "no entry of a list is in it{remarks}; expected a Squid configuration, a PAC file, or a name a line"
            ))
        }
        n if n > MOST => Err(format!("{n} entries, and {MOST} are read at most")),
        _ => Ok(list),
    }
}

fn kind(text: &str) -> Kind {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let squid = |line: &str| ["acl ", "http_access ", "include "].iter().any(|word| line.starts_with(word));
    if text.contains("FindProxyForURL") {
        Kind::Pac
    } else if lines().any(squid) {
        Kind::Squid
    } else if lines().any(is_url_entry) {
        Kind::Edl
    } else {
        Kind::Domains
    }
}

/// Whether a line is an entry of a URL list: a host with a path, or with a token `^`. Addresses, comments
/// and the scheme of a pasted URL have slashes, too.
fn is_url_entry(line: &str) -> bool {
    let word =
        line.split(['#', ';']).next().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let word = word.split_once("://").map_or(word, |(_, rest)| rest);
    let host = word.split_once('/').map(|(host, _)| host);
    word.parse::<IpNet>().is_err()
        && (word.contains('^') || host.is_some_and(|host| host.contains(['.', '*'])))
}

fn lines(text: &str, kind: Kind, list: &mut List) {
    for line in text.lines() {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        let entry = entry.split_whitespace().next().unwrap_or_default();
        if entry.is_empty() || entry.parse::<IpAddr>().is_ok() || entry.parse::<IpNet>().is_ok() {
            continue;
        }
        let rest = entry.split_once("://").map_or(entry, |(_, rest)| rest);
        let shape = if kind == Kind::Edl { tokens(rest) } else { domain(rest) };
        add(list, entry, shape, false);
    }
}

fn add(list: &mut List, text: &str, shape: Option<Shape>, deny: bool) {
    match shape {
        Some(shape) => list.entries.push(Foreign { text: text.to_owned(), shape, deny }),
        None => list.remarks.push(format!("{:?} can't be read, and is left out", shown(text))),
    }
}

/// A line of a plain list.
fn domain(text: &str) -> Option<Shape> {
    if let Some(below) = text.strip_prefix("*.") {
        return match name(below)? {
            below if below.contains('*') => Some(Shape::Glob(format!("*.{below}"))),
            below => Some(Shape::Below(below)),
        };
    }
    if let Some(from) = text.strip_prefix('.') {
        return name(from).filter(|from| !from.contains('*')).map(Shape::From);
    }
    match name(text)? {
        glob if glob.contains('*') => Some(Shape::Glob(glob)),
        host => Some(Shape::Host(host)),
    }
}

/// A line for Palo Alto: tokens between dots, ended by a slash.
fn tokens(text: &str) -> Option<Shape> {
    let (host, open) = match text.split_once('/') {
        Some((host, _)) => (host, false),
        None => (text, true),
    };
    let host = host.split(':').next().unwrap_or(host);
    let plain = host.replace('^', "a");
    name(&plain)?;
    let tokens = host.trim_end_matches('.').to_ascii_lowercase().split('.').map(str::to_owned).collect();
    Some(Shape::Tokens { tokens, open })
}

/// The names in a PAC file, by the function that they are given to.
fn pac(text: &str, list: &mut List) {
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'']) {
        let quote = if rest[at..].starts_with('"') { '"' } else { '\'' };
        let before = &rest[..at];
        let inside = &rest[at + 1..];
        let Some(end) = inside.find([quote, '\n']) else { break };
        let literal = &inside[..end];
        rest = &inside[end + 1..];
        let call = before.rsplit([';', '{', '}', '|', '&', '\n']).next().unwrap_or_default();
        let lower = literal.to_ascii_lowercase();
        let shape = if call.contains("dnsDomainIs") {
            let bare = lower.trim_start_matches('.');
            name(bare).map(|_| Shape::Suffix(lower.clone()))
        } else if lower.contains('*') {
            name(lower.trim_start_matches('*').trim_start_matches('.')).map(|_| Shape::Glob(lower.clone()))
        } else if let Some(bare) = lower.strip_prefix('.') {
            name(bare).map(Shape::Below)
        } else {
            name(&lower).map(Shape::Host)
        };
        // Most texts in a program are no hosts; results and addresses aren't, either.
        if let Some(shape) = shape.filter(|_| literal.parse::<IpAddr>().is_err()) {
            list.entries.push(Foreign { text: literal.to_owned(), shape, deny: false });
        }
    }
}
