//! Reads the lists that other proxies and firewalls have: Squid configurations, PAC files, plain domain
//! lists, and lists of URLs for firewalls. Each entry says what it lets through or keeps out.

mod pac;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
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
#[derive(Debug)]
pub struct List {
    pub kind: Kind,
    /// In the order in which they decide.
    pub entries: Vec<Foreign>,
    /// What could not be read, one line each.
    pub remarks: Vec<String>,
    /// Decides in place of the entries, which are then only what is told.
    judge: Option<Judge>,
}

/// Whether a host is on a list, or why that isn't known.
type Ask = dyn Fn(&str) -> Result<bool, String>;

/// Who is asked about each host: a program, or the rules of a proxy.
struct Judge {
    ask: Box<Ask>,
    known: RefCell<HashMap<String, bool>>,
    /// Why it can't be asked any more.
    trouble: Cell<Option<String>>,
}

impl Judge {
    fn new(ask: impl Fn(&str) -> Result<bool, String> + 'static) -> Self {
        Self { ask: Box::new(ask), known: RefCell::default(), trouble: Cell::default() }
    }

    /// Whether a host is on the list. A program that failed once isn't asked again: each question to it
    /// may take its whole time.
    fn lists(&self, host: &str) -> bool {
        let trouble = self.trouble.take();
        if trouble.is_some() {
            self.trouble.set(trouble);
            return false;
        }
        if let Some(known) = self.known.borrow().get(host) {
            return *known;
        }
        let answer = (self.ask)(host).unwrap_or_else(|why| {
            self.trouble.set(Some(why));
            false
        });
        self.known.borrow_mut().insert(host.to_owned(), answer);
        answer
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

impl List {
    /// Whether a host, in lower case, is on it: the first entry that stands for it decides.
    pub(super) fn lists(&self, host: &str) -> bool {
        if let Some(judge) = &self.judge {
            return judge.lists(host);
        }
        self.entries.iter().find(|entry| entry.shape.matches(host)).is_some_and(|entry| !entry.deny)
    }

    /// The remarks as far as people read them, and how many more there are.
    pub fn told(&self) -> impl Iterator<Item = String> {
        let left_out = self.remarks.len().saturating_sub(TOLD);
        let more = (left_out > 0).then(|| format!("and {left_out} more like these"));
        self.remarks.iter().take(TOLD).cloned().chain(more)
    }

    /// Why some of its answers aren't known; what was made of them says nothing then.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.judge.as_ref().and_then(|judge| judge.trouble.take())
    }
}

/// So many remarks are shown: a file of another kind has one for each of its lines.
const TOLD: usize = 10;

/// How many entries one list may have.
const MOST: usize = 500_000;

/// Gives the text of a file that another one names.
pub type Open<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads a list; `open` is asked for files that it includes.
///
/// # Errors
///
/// There is no entry in it, or too many, or a program can't be run.
pub fn read(text: &str, open: Open<'_>) -> Result<List, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let kind = kind(text);
    let mut list = List { kind, entries: Vec::new(), remarks: Vec::new(), judge: None };
    match kind {
        Kind::Pac => pac::pac(text, &mut list)?,
        Kind::Squid => {
            let mut read = squid::read(text, open, MOST);
            list.remarks = std::mem::take(&mut read.remarks);
            for (text, shape, deny) in std::mem::take(&mut read.entries) {
                add(&mut list, &text, shape, deny);
            }
            if !list.entries.is_empty() {
                let lets = read.into_judge();
                list.judge = Some(Judge::new(move |host| Ok(lets(host))));
            }
        }
        Kind::Domains | Kind::Edl => lines(text, kind, &mut list),
    }
    match list.entries.len() {
        0 if list.judge.is_none() => {
            let remarks = list.told().map(|remark| format!(" ({remark})")).collect::<String>();
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
    let squid = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("acl" | "http_access" | "include")) && words.next().is_some()
    };
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
