//! Reads the lists that other proxies and firewalls have: Squid configurations, PAC files, plain domain
//! lists, and lists of URLs for firewalls. Each entry says what it lets through or keeps out.
//!
//! A PAC file isn't run: the names in it count, whatever it answers for them.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::Regex;
use serde::Serialize;
use strum::IntoStaticStr;

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

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Host(String),
    /// A name and all below it.
    From(String),
    /// All below a name.
    Below(String),
    /// Anything that ends so, in the middle of a label as well.
    Suffix(String),
    /// A star crosses dots.
    Glob(String),
    /// Tokens from the left; `open`: more may follow.
    Tokens {
        tokens: Vec<String>,
        open: bool,
    },
    Regex(Regex),
    Everything,
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
pub(super) const MOST: usize = 500_000;

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
        Kind::Squid => super::squid::squid(text, open, &mut list),
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

pub(super) fn name(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*');
    let fine = name.contains('.') && name.len() <= 253 && name.bytes().all(fits);
    (fine && !name.starts_with('.') && !name.contains("..")).then_some(name)
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

pub(super) fn add(list: &mut List, text: &str, shape: Option<Shape>, deny: bool) {
    match shape {
        Some(shape) => list.entries.push(Foreign { text: text.to_owned(), shape, deny }),
        None => list.remarks.push(format!("{:?} can't be read, and is left out", shown(text))),
    }
}

pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
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

impl Shape {
    /// Whether it stands for the host, which is in lower case.
    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => host == name,
            Self::From(name) => host == name || below(host, name),
            Self::Below(name) => below(host, name),
            Self::Suffix(suffix) => host.ends_with(suffix.as_str()),
            Self::Glob(glob) => crossing(glob.as_bytes(), host.as_bytes()),
            Self::Tokens { tokens, open } => fits(tokens, &host.split('.').collect::<Vec<_>>(), *open),
            Self::Regex(regex) => regex.is_match(host.as_bytes()),
            Self::Everything => true,
        }
    }

    /// Hosts that it stands for.
    pub(super) fn samples(&self) -> Vec<String> {
        let under = |name: &str| ["other", "a.other"].map(|label| format!("{label}.{name}")).to_vec();
        match self {
            Self::Host(name) => vec![name.clone()],
            Self::From(name) => std::iter::once(name.clone()).chain(under(name)).collect(),
            Self::Below(name) => under(name),
            Self::Suffix(suffix) => match suffix.strip_prefix('.') {
                Some(name) => under(name),
                None => vec![suffix.clone(), format!("other{suffix}"), format!("other.{suffix}")],
            },
            Self::Glob(glob) => {
                ["other", "other.example", "a"].iter().map(|fill| glob.replace('*', fill)).collect()
            }
            Self::Tokens { tokens, open } => {
                let host = tokens.join(".").replace(['*', '^'], "other");
                let mut all = vec![host.clone()];
                if *open {
                    all.push(format!("{host}.evil.example"));
                }
                all
            }
            Self::Regex(_) => Vec::new(),
            Self::Everything => vec!["other.example".to_owned()],
        }
    }
}

fn below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// A star crosses dots, as in `shExpMatch`: greedy, with one step back to the last star.
fn crossing(glob: &[u8], host: &[u8]) -> bool {
    let (mut g, mut h) = (0, 0);
    let mut retry = None;
    while h < host.len() {
        match glob.get(g) {
            Some(b'*') => {
                g += 1;
                retry = Some((g, h));
            }
            Some(c) if *c == host[h] => {
                g += 1;
                h += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    g = after;
                    h = from + 1;
                    retry = Some((after, h));
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == b'*')
}

/// `*` stands for one or more labels, `^` for one. Keeps to how many labels the tokens so far can have
/// taken, so that many stars cost no more than few.
fn fits(tokens: &[String], labels: &[&str], open: bool) -> bool {
    let mut taken = vec![false; labels.len() + 1];
    taken[0] = true;
    for token in tokens {
        let mut next = vec![false; labels.len() + 1];
        for (at, label) in labels.iter().enumerate() {
            next[at + 1] = match token.as_str() {
                "*" => taken[at] || next[at],
                "^" => taken[at],
                token => taken[at] && token == *label,
            };
        }
        taken = next;
    }
    if open { taken.contains(&true) } else { taken[labels.len()] }
}
