//! Finds the patterns that match a host, in time that hardly depends on how many there are.
//!
//! An exact host is one hash lookup. A pattern with stars is filed under the literal labels at its end, its
//! suffix. Each end of the host that has the length of a suffix, and begins at a label, is one more lookup.
//! That decides `*.suffix`. The others are found by the text before their first star: with one star, as in
//! `rtc*.suffix`, a comparison decides; with more, globset does (one glob takes most of the time that a
//! decision may take). AWS has no name with more than one; administrators' own patterns may, and a matcher
//! that others have tested for years decides them. A lookup allocates nothing, except the scratch space of
//! a glob at its first use. Ports, ranks and reasons are not known here.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use globset::{Candidate, GlobBuilder, GlobMatcher};

use super::Pattern;
use crate::target::{Host, MAX_NAME};

/// Patterns by number.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Host, Vec<u32>, RandomState>,
    /// By literal suffix.
    wild: HashMap<Box<str>, Bucket, RandomState>,
    suffix_lengths: Lengths,
}

/// The patterns with one literal suffix.
#[derive(Debug, Default)]
struct Bucket {
    /// `*.suffix`: matched by every host below the suffix.
    below: Vec<u32>,
    /// All others, by what stands before their first star.
    partial: HashMap<Box<str>, Vec<(u32, Head)>, RandomState>,
    prefix_lengths: Lengths,
}

/// What stands before the suffix, and how it is matched.
#[derive(Debug)]
enum Head {
    /// One star within a label, and what follows it there.
    OneStar {
        after: Box<str>,
    },
    Glob(GlobMatcher),
}

impl Index {
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = (u32, &'a Pattern)>) -> Self {
        let mut index = Self::default();
        for (id, pattern) in patterns {
            if let Some(host) = pattern.as_host() {
                index.exact.entry(host.clone()).or_default().push(id);
                continue;
            }
            let suffix = pattern.literal_suffix();
            index.suffix_lengths.insert(suffix.len());
            let bucket = index.wild.entry(suffix.into()).or_default();
            if pattern.is_subdomains() {
                bucket.below.push(id);
                continue;
            }
            let prefix = pattern.literal_prefix();
            bucket.prefix_lengths.insert(prefix.len());
            bucket.partial.entry(prefix.into()).or_default().push((id, Head::of(pattern)));
        }
        index
    }

    /// Calls `found` with the number of every pattern that matches, exact ones first.
    pub(super) fn each(&self, host: &Host, mut found: impl FnMut(u32)) {
        if let Some(ids) = self.exact.get(host) {
            ids.iter().copied().for_each(&mut found);
        }
        let Host::Name(name) = host else { return };
        if self.wild.is_empty() || name.len() > MAX_NAME {
            return;
        }
        for length in self.suffix_lengths.iter() {
            let Some(suffix) = suffix_at_label(name, length) else {
                continue;
            };
            let Some(bucket) = self.wild.get(suffix) else {
                continue;
            };
            bucket.below.iter().copied().for_each(&mut found);
            if !bucket.partial.is_empty() {
                bucket.each_partial(name, length, &mut found);
            }
        }
    }
}

impl Bucket {
    /// `suffix` is the length of the bucket's suffix, which ends the name.
    fn each_partial(&self, name: &str, suffix: usize, found: &mut impl FnMut(u32)) {
        let dot = usize::from(suffix > 0);
        let head = &name[..name.len() - suffix - dot];
        for length in self.prefix_lengths.iter() {
            let entries = name.get(..length).and_then(|prefix| self.partial.get(prefix));
            for (id, entry) in entries.into_iter().flatten() {
                if entry.matches(name, head, length) {
                    found(*id);
                }
            }
        }
    }
}

impl Head {
    fn of(pattern: &Pattern) -> Self {
        let text = pattern.as_str();
        let suffix = pattern.literal_suffix();
        let dot = usize::from(!suffix.is_empty());
        let head = &text[..text.len() - suffix.len() - dot];
        match head.split_once('*') {
            // A leading `*.` covers several labels: not a star within one.
            Some((_, after)) if !after.contains('*') && !text.starts_with("*.") => {
                Self::OneStar { after: after.into() }
            }
            _ => Self::Glob(glob(pattern)),
        }
    }

    /// `head` is the name without the suffix, and `prefix` the length of the pattern's literal
    /// beginning, with which the name begins.
    fn matches(&self, name: &str, head: &str, prefix: usize) -> bool {
        match self {
            Self::OneStar { after } => head
                .get(prefix..)
                .and_then(|rest| rest.strip_suffix(&**after))
                .is_some_and(|run| !run.contains('.')),
            Self::Glob(matcher) => {
                let mut path = [0; MAX_NAME];
                let path = &mut path[..name.len()];
                for (to, from) in path.iter_mut().zip(name.bytes()) {
                    *to = if from == b'.' { b'/' } else { from };
                }
                matcher.is_match_candidate(&Candidate::from_bytes(&*path))
            }
        }
    }
}

/// The last `length` bytes of the name, if they begin a label and are not the whole name. A length of 0
/// fits any name.
fn suffix_at_label(name: &str, length: usize) -> Option<&str> {
    if length == 0 {
        return Some("");
    }
    let before = name.len().checked_sub(length + 1)?;
    (name.as_bytes()[before] == b'.').then(|| &name[before + 1..])
}

/// globset matches paths: with dots as slashes and a literal separator a `*` stays in its label,
/// and `**/*/` is one or more labels.
fn glob(pattern: &Pattern) -> GlobMatcher {
    let path = pattern.as_str().replace('.', "/");
    let path = match path.strip_prefix("*/") {
        Some(tail) => format!("**/*/{tail}"),
        None => path,
    };
    GlobBuilder::new(&path)
        .literal_separator(true)
        .build()
        .expect("a parsed pattern holds letters, digits, `-`, `_`, dots and single stars")
        .compile_matcher()
}

/// A set of lengths from 0 to 255.
#[derive(Debug, Default)]
struct Lengths([u64; 4]);

impl Lengths {
    fn insert(&mut self, length: usize) {
        debug_assert!(length <= MAX_NAME);
        if let Some(word) = self.0.get_mut(length / 64) {
            *word |= 1 << (length % 64);
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| index * 64 + rest.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], host: &str) -> Vec<u32> {
        let patterns: Vec<_> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let index = Index::new((0..).zip(&patterns));
        let mut ids = Vec::new();
        index.each(&Host::parse(host.as_bytes()).unwrap(), |id| ids.push(id));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn finds_all_that_match() {
        let patterns = [
            "a.b.example.com",
            "*.example.com",
            "*.b.example.com",
            "a*.b.example.com",
            "*.b*.example.com",
            "a.*.example.com",
            "*.com",
            "a.b.example.*",
            "c*.b.example.com",
            "192.0.2.1",
        ];
        assert_eq!(found(&patterns, "a.b.example.com"), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(found(&patterns, "b.example.com"), [1, 6]);
        assert_eq!(found(&patterns, "example.com"), [6]);
        assert_eq!(found(&patterns, "x.a.b.example.com"), [1, 2, 4, 6]);
        assert_eq!(found(&patterns, "192.0.2.1"), [9]);
        assert_eq!(found(&patterns, "192.0.2.2"), [0_u32; 0]);
    }

    #[test]
    fn lengths_hold_every_length() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths.iter().count(), 0);
        for length in [0, 1, 63, 64, 127, 128, 253] {
            lengths.insert(length);
        }
        assert_eq!(lengths.iter().collect::<Vec<_>>(), [0, 1, 63, 64, 127, 128, 253]);
    }
}
