//! Which hosts an entry of a foreign list stands for.

use regex::bytes::Regex;

use crate::policy::Pattern;
use crate::target::Host;

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
    /// As this proxy matches it.
    Pattern(Pattern),
    Everything,
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
            Self::Pattern(pattern) => Host::parse(host.as_bytes()).is_ok_and(|host| pattern.matches(&host)),
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
            // Hosts that aren't known beforehand.
            Self::Regex(_) => Vec::new(),
            Self::Pattern(pattern) => {
                ["other", "a.other", "a"].iter().map(|fill| pattern.as_str().replace('*', fill)).collect()
            }
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

/// A host name, or one with stars, as it is compared: without a dot at its end, in lower case.
pub(super) fn name(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*');
    let fine = name.contains('.') && name.len() <= 253 && name.bytes().all(fits);
    (fine && !name.starts_with('.') && !name.contains("..")).then_some(name)
}

/// The beginning of a text that a message quotes.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
