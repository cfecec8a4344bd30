//! A host pattern of the allow or deny list: its normal form and what it matches.
//!
//! `*` is any run of characters, also an empty one, within one label; a leading `*.` stands for
//! one or more whole labels, never for none. An IP literal is matched by nothing but the same
//! literal. The matcher here takes one pattern at a time and is the plain statement of those rules; the index
//! over all patterns is next door.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::target::{Host, MAX_LABEL, MAX_NAME, TargetError, ends_in_number};

/// One pattern in normal form: lower case, A-labels, no trailing dot, IPv6 without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Box<str>,
    /// Set when there is no `*`: the one host that is matched.
    exact: Option<Host>,
}

/// Why a text is not a pattern. Where there is a likely correction, the message contains it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("pattern is empty; expected a host such as \"login.idp.example\"")]
    Empty,
    #[error("pattern {text:?} is a URL, and patterns are hosts; write {write:?}")]
    Url { text: String, write: String },
    #[error("pattern {text:?} has a path, and patterns are hosts; write {write:?}")]
    Path { text: String, write: String },
    #[error("pattern {text:?} is an address range, and a pattern names single addresses; list each one")]
    Range { text: String },
    #[error(
        "pattern {text:?} has a port, and ports stand beside it; write {write:?} with `ports = [{port}]`"
    )]
    Port { text: String, write: String, port: String },
    #[error("pattern {text:?} has user information; write {write:?}")]
    Userinfo { text: String, write: String },
    #[error(
        "pattern {text:?}: `**` is not known; a leading `*.` already covers one or more labels, so write {write:?}"
    )]
    DoubleStar { text: String, write: String },
    #[error("pattern {text:?} is too broad: {why}; name the host or its domain, as in \"*.idp.example\"")]
    TooBroad { text: String, why: &'static str },
    #[error("pattern {text:?}: `{}` cannot stand in a pattern; valid are letters, digits, `-`, `_`, dots and `*`", .character.escape_default())]
    Character { text: String, character: char },
    #[error(
        "pattern {text:?}: `*` cannot stand in a label with characters outside ASCII; write the label in punycode (xn--)"
    )]
    StarInUnicode { text: String },
    #[error(
        "pattern {text:?} ends in a number without being an address; write an IPv4 address as four decimal numbers, without `*`"
    )]
    Numeric { text: String },
    #[error("pattern {text:?}: {cause}")]
    Host { text: String, cause: TargetError },
}

impl Pattern {
    /// Reads a pattern and brings it into normal form.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(address) = ipv6(text) {
            return Ok(Self::exact(Host::Ip(address.into())));
        }
        refuse_what_is_not_a_host(text)?;
        let name = to_ascii(text)?;
        let name = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
        if name.chars().all(|c| c == '*') {
            return Err(PatternError::TooBroad { text: text.to_owned(), why: "it names no domain" });
        }
        check_labels(text, &name)?;
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::exact(Host::Ip(address.into())));
        }
        let all_digits = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'*'));
        if ends_in_number(&name) || all_digits {
            return Err(PatternError::Numeric { text: text.to_owned() });
        }
        if name.contains('*') {
            return Ok(Self { text: name.into(), exact: None });
        }
        Ok(Self::exact(Host::Name(name.into())))
    }

    /// Why an allow rule should hardly be this broad: every owner of some domain under a top-level
    /// domain satisfies it (`*.com`, `shop*.com`, `example.*`).
    #[must_use]
    pub fn too_broad(&self) -> Option<&'static str> {
        let mut labels = self.text.rsplit('.');
        let (last, second) = (labels.next()?, labels.next().unwrap_or(""));
        if self.is_exact() {
            None
        } else if last.contains('*') {
            Some("`*` stands in the last label")
        } else if second.contains('*') {
            Some("it matches names directly under a top-level domain")
        } else {
            None
        }
    }

    /// The pattern that matches this host alone.
    #[must_use]
    pub fn exact(host: Host) -> Self {
        Self { text: host.to_string().into(), exact: Some(host) }
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no `*`.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    /// The one host it matches, if it has no `*`.
    #[must_use]
    pub fn as_host(&self) -> Option<&Host> {
        self.exact.as_ref()
    }

    /// Whether the host is one that the pattern stands for. Does not allocate.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        let name = match (&self.exact, host) {
            (Some(exact), host) => return exact == host,
            (None, Host::Ip(_)) => return false,
            (None, Host::Name(name)) => name,
        };
        let (tail, deep) = match self.text.strip_prefix("*.") {
            Some(tail) => (tail, true),
            None => (&*self.text, false),
        };
        let mut host_labels = name.rsplit('.');
        for label in tail.rsplit('.') {
            match host_labels.next() {
                Some(found) if label_matches(label, found) => {}
                _ => return false,
            }
        }
        // A leading `*.` needs at least one label more; any other pattern none.
        host_labels.next().is_some() == deep
    }

    /// The part after the last label that holds a `*`: `rtc*.a.b` gives `a.b`, `*.a.b` gives `a.b`,
    /// `a.b*` nothing. For an exact pattern it is the whole text.
    #[must_use]
    pub fn literal_suffix(&self) -> &str {
        match self.text.rfind('*') {
            None => &self.text,
            Some(star) => self.text[star..].find('.').map_or("", |dot| &self.text[star + dot + 1..]),
        }
    }

    /// The part before the first `*`.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or(&self.text)
    }

    /// Whether the pattern is `*.` before literal labels and nothing else.
    #[must_use]
    pub fn is_subdomains(&self) -> bool {
        self.text.strip_prefix("*.").is_some_and(|tail| !tail.contains('*'))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Whether one label matches one label of a pattern: greedy, with one step back to the last `*`.
pub(super) fn label_matches(pattern: &str, label: &str) -> bool {
    let (pattern, label) = (pattern.as_bytes(), label.as_bytes());
    let (mut p, mut l) = (0, 0);
    let mut retry = None;
    while l < label.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, l));
        } else if pattern.get(p) == Some(&label[l]) {
            p += 1;
            l += 1;
        } else if let Some((after_star, from)) = retry {
            p = after_star;
            l = from + 1;
            retry = Some((after_star, l));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.parse().ok()
}

/// URLs, paths, ports and user information, each with the entry that was probably meant.
fn refuse_what_is_not_a_host(text: &str) -> Result<(), PatternError> {
    let owned = text.to_owned();
    let (scheme, rest) = match text.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, text.strip_prefix("//").unwrap_or(text)),
    };
    let authority = rest.split(['/', '\\', '#']).next().unwrap_or(rest);
    let host_port = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (host_port, None),
    };
    let write = host.strip_suffix('.').unwrap_or(host).to_lowercase();
    if scheme {
        return Err(PatternError::Url { text: owned, write });
    }
    if text.contains('/') {
        let (before, after) = text.split_once('/').unwrap_or((text, ""));
        let address = before.parse::<Ipv4Addr>().is_ok() || ipv6(before).is_some();
        if address && after.parse::<u8>().is_ok() {
            return Err(PatternError::Range { text: owned });
        }
        return Err(PatternError::Path { text: owned, write });
    }
    if text.contains('@') {
        return Err(PatternError::Userinfo { text: owned, write });
    }
    if let Some(port) = port
        && (host.starts_with('[') || !host.contains(':'))
    {
        let port = if port.is_empty() { "443" } else { port }.to_owned();
        return Err(PatternError::Port { text: owned, write, port });
    }
    if text.contains("**") {
        let mut write = text.to_lowercase();
        while write.contains("**") {
            write = write.replace("**", "*");
        }
        return Err(PatternError::DoubleStar { text: owned, write });
    }
    Ok(())
}

/// U-labels become A-labels, label by label, so that a label with a `*` is left alone.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, PatternError> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    let mut name = String::with_capacity(text.len());
    // The other dots of UTS 46 separate labels, too.
    for (index, label) in text.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).enumerate() {
        if index > 0 {
            name.push('.');
        }
        if label.is_ascii() {
            name.push_str(label);
            continue;
        }
        if label.contains('*') {
            return Err(PatternError::StarInUnicode { text: text.to_owned() });
        }
        let ascii = idna::domain_to_ascii_cow(label.as_bytes(), idna::AsciiDenyList::STD3)
            .map_err(|_| PatternError::Host { text: text.to_owned(), cause: TargetError::Idna })?;
        // Compatibility mapping can make ASCII punctuation out of other characters: a wide `＊`
        // must not become a star.
        if let Some(character) = ascii.chars().find(|&c| !c.is_ascii_alphanumeric() && c != '-') {
            return Err(PatternError::Character { text: text.to_owned(), character });
        }
        name.push_str(&ascii);
    }
    Ok(Cow::Owned(name))
}

fn check_labels(text: &str, name: &str) -> Result<(), PatternError> {
    let wrong = |cause| PatternError::Host { text: text.to_owned(), cause };
    if let Some(character) =
        name.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*')))
    {
        return Err(PatternError::Character { text: text.to_owned(), character });
    }
    if name.len() > MAX_NAME {
        return Err(wrong(TargetError::NameTooLong));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(wrong(TargetError::EmptyLabel));
        }
        if label.bytes().filter(|&byte| byte != b'*').count() > MAX_LABEL {
            return Err(wrong(TargetError::LabelTooLong));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
