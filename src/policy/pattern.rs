//! Stand-in for the patterns of branch `core`, which replaces this file at the merge.

use crate::target::Host;

/// A host pattern: `*` within a label, a leading `*.` for one or more labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Box<str>);

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host pattern")]
pub struct PatternError(String);

impl Pattern {
    /// # Errors
    /// Characters or labels that no host name has.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let valid = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '*');
        let label =
            |l: &str| (1..=63).contains(&l.len()) && l.chars().all(valid) && !l.contains("**");
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(PatternError(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    pub fn matches(&self, host: &Host) -> bool {
        let Host::Name(host) = host else { return false };
        let Some(suffix) = self.0.strip_prefix("*.") else {
            return labels(&self.0, host);
        };
        host.match_indices('.')
            .any(|(dot, _)| labels(suffix, &host[dot + 1..]))
    }
}

fn labels(pattern: &str, host: &str) -> bool {
    pattern.split('.').count() == host.split('.').count()
        && pattern
            .split('.')
            .zip(host.split('.'))
            .all(|(p, h)| label(p.as_bytes(), h.as_bytes()))
}

fn label(pattern: &[u8], host: &[u8]) -> bool {
    match pattern.split_first() {
        None => host.is_empty(),
        Some((b'*', rest)) => (0..=host.len()).any(|skip| label(rest, &host[skip..])),
        Some((byte, rest)) => host
            .split_first()
            .is_some_and(|(h, hs)| h == byte && label(rest, hs)),
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
