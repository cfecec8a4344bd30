//! A host pattern of the allow or deny list: its normal form and what it matches.
//!
//! `*` is any run of characters, also an empty one, within one label; a leading `*.` stands for one or more
//! whole labels, never for none. An IP literal is matched by nothing but the same literal. The matcher here
//! takes one pattern at a time and is the plain statement of those rules; the index over all patterns is in
//! `index`.

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

/// Why a text is not a pattern, and what was probably meant. Printed, it says both; the caller adds the
/// text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    cause: Cause,
    write: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Cause {
    #[error("it is empty")]
    Empty,
    #[error("this is a URL, and patterns are hosts")]
    Url,
    #[error("it has a path, and patterns are hosts")]
    Path,
    #[error("this is an address range, and a pattern names single addresses: list each one")]
    Range,
    #[error("it has a port, and ports stand beside it")]
    Port(Option<u16>),
    #[error("it has user information, and patterns are hosts")]
    Userinfo,
    #[error("a leading dot is not known here")]
    LeadingDot,
    #[error("`**` is not known, and a leading `*.` already covers one or more labels")]
    DoubleStar,
    #[error("it is too broad, it names no domain")]
    TooBroad,
    #[error("`{}` cannot stand in a pattern; valid are letters, digits, `-`, `_`, dots and `*`", .0.escape_default())]
    Character(char),
    #[error("`*` cannot stand in a label with characters outside ASCII: spell the label in punycode (xn--)")]
    StarInUnicode,
    #[error(
        "it ends in a number without being an address: an IPv4 address is four decimal numbers, without `*`"
    )]
    Numeric,
    #[error("{0}")]
    Host(TargetError),
}

impl PatternError {
    /// Why, without what was meant.
    #[must_use]
    pub(crate) fn reason(&self) -> String {
        self.cause.to_string()
    }

    /// The patterns that may have been meant; each of them parses.
    #[must_use]
    pub(crate) fn corrections(&self) -> &[String] {
        &self.write
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match &self.write[..] {
            [one] => write!(f, ", write {one:?}")?,
            [below, itself] => {
                write!(
                    f,
                    ", write {below:?} for the names below it, {itself:?} for that name itself, or both"
                )?;
            }
            _ => return Ok(()),
        }
        match self.cause {
            Cause::Port(Some(port)) => write!(f, " with `ports = [{port}]`"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a pattern and brings it into normal form.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        Self::read(text).map_err(|cause| PatternError { write: meant(text), cause })
    }

    fn read(text: &str) -> Result<Self, Cause> {
        if text.is_empty() {
            return Err(Cause::Empty);
        }
        if let Some(address) = ipv6(text) {
            return Ok(Self::exact(Host::Ip(address.into())));
        }
        refuse_what_is_not_a_host(text)?;
        let name = to_ascii(text)?;
        let name = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
        if name.contains('*') && name.chars().all(|c| matches!(c, '*' | '.')) {
            return Err(Cause::TooBroad);
        }
        check_labels(&name)?;
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::exact(Host::Ip(address.into())));
        }
        let all_digits = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'*'));
        if ends_in_number(&name) || all_digits {
            return Err(Cause::Numeric);
        }
        if name.contains('*') {
            return Ok(Self { text: name.into(), exact: None });
        }
        Ok(Self::exact(Host::Name(name.into())))
    }

    /// Why a pattern is probably too broad for an allow rule: everybody can register a domain that it
    /// matches (`*.com`, `shop*.com`, `example.*`).
    #[must_use]
    pub(crate) fn too_broad(&self) -> Option<&'static str> {
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
    pub(crate) fn exact(host: Host) -> Self {
        Self { text: host.to_string().into(), exact: Some(host) }
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no `*`.
    #[must_use]
    pub(crate) fn is_exact(&self) -> bool {
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
    pub(crate) fn literal_suffix(&self) -> &str {
        match self.text.rfind('*') {
            None => &self.text,
            Some(star) => self.text[star..].find('.').map_or("", |dot| &self.text[star + dot + 1..]),
        }
    }

    /// The part before the first `*`.
    #[must_use]
    pub(crate) fn literal_prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or(&self.text)
    }

    /// Whether the pattern is `*.` before literal labels and nothing else.
    #[must_use]
    pub(crate) fn is_subdomains(&self) -> bool {
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
pub(crate) fn label_matches(pattern: &str, label: &str) -> bool {
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

/// The parts of a text that may have been pasted from an address bar. `Target::parse_human` can't take it
/// apart: what is wrong here may still hold a pattern, which has stars.
struct Parts<'a> {
    scheme: bool,
    host: &'a str,
    port: Option<&'a str>,
}

fn parts(text: &str) -> Parts<'_> {
    let (scheme, rest) = match text.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, text.strip_prefix("//").unwrap_or(text)),
    };
    let authority = rest.split(['/', '\\', '#', '?']).next().unwrap_or(rest);
    let host_port = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (host_port, None),
    };
    Parts { scheme, host, port }
}

/// The patterns that were probably meant by a text that is none: the text without scheme, user, port, path,
/// doubled stars and dots. In other products a leading dot stands for a domain with all names below it,
/// which are two patterns here.
fn meant(text: &str) -> Vec<String> {
    let mut host = parts(text).host.trim_end_matches('.').to_lowercase();
    while host.contains("**") {
        host = host.replace("**", "*");
    }
    let dotted = host.starts_with('.');
    let labels: Vec<&str> = host.split('.').filter(|label| !label.is_empty()).collect();
    let plain = labels.join(".");
    let candidates =
        if dotted && !plain.starts_with('*') { vec![format!("*.{plain}"), plain] } else { vec![plain] };
    candidates.into_iter().filter(|write| write != text && Pattern::read(write).is_ok()).collect()
}

/// Refuses URLs, paths, ports and user information, and what other products write for a domain.
fn refuse_what_is_not_a_host(text: &str) -> Result<(), Cause> {
    let Parts { scheme, host, port } = parts(text);
    if scheme {
        return Err(Cause::Url);
    }
    if text.contains('/') {
        let (before, after) = text.split_once('/').unwrap_or((text, ""));
        let address = before.parse::<Ipv4Addr>().is_ok() || ipv6(before).is_some();
        return Err(if address && after.parse::<u8>().is_ok() { Cause::Range } else { Cause::Path });
    }
    if text.contains('@') {
        return Err(Cause::Userinfo);
    }
    if let Some(port) = port
        && (host.starts_with('[') || !host.contains(':'))
    {
        let port = if port.is_empty() { "443" } else { port };
        return Err(Cause::Port(port.parse().ok().filter(|port| *port != 0)));
    }
    if text.contains("**") {
        return Err(Cause::DoubleStar);
    }
    if text.strip_prefix('.').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('.')) {
        return Err(Cause::LeadingDot);
    }
    Ok(())
}

/// U-labels become A-labels, label by label, so that a label with a `*` is left alone.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, Cause> {
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
            return Err(Cause::StarInUnicode);
        }
        let ascii = idna::domain_to_ascii_cow(label.as_bytes(), idna::AsciiDenyList::STD3)
            .map_err(|_| Cause::Host(TargetError::Idna))?;
        // Compatibility mapping can make ASCII punctuation out of other characters: a wide `＊`
        // must not become a star.
        if let Some(character) = ascii.chars().find(|&c| !c.is_ascii_alphanumeric() && c != '-') {
            return Err(Cause::Character(character));
        }
        name.push_str(&ascii);
    }
    Ok(Cow::Owned(name))
}

fn check_labels(name: &str) -> Result<(), Cause> {
    if let Some(character) =
        name.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*')))
    {
        return Err(Cause::Character(character));
    }
    if name.len() > MAX_NAME {
        return Err(Cause::Host(TargetError::NameTooLong));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(Cause::Host(TargetError::EmptyLabel));
        }
        if label.bytes().filter(|&byte| byte != b'*').count() > MAX_LABEL {
            return Err(Cause::Host(TargetError::LabelTooLong));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
