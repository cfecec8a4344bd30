//! `ccpgate explain --symptom`: what an agent's panel or log says, and what it proves.
//!
//! Fuzzy, because agents read aloud and people retype. Pure: it reads only the catalogue.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use super::fuzzy::{Normal, find};
use crate::catalogue::{Symptom, symptoms};
use crate::cause::Cause;
use crate::policy::Category;

/// How many characters of a text are compared; what follows is cut.
pub(crate) const LONGEST: usize = 8192;

/// The answer. Serialises to the object of `explain --symptom --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub schema_version: u32,
    /// As asked, cut to [`LONGEST`].
    pub symptom: String,
    /// The best first.
    pub matches: Vec<Match>,
    #[serde(skip)]
    pub cut: bool,
}

/// One known text and what it means.
#[derive(Debug, Serialize)]
pub(crate) struct Match {
    /// Of the catalogue's row, stable.
    pub id: &'static str,
    /// The known text.
    pub text: String,
    /// Up to 1.
    pub similarity: f64,
    /// False: it isn't the network's fault.
    pub network: bool,
    /// The likeliest first.
    pub categories: Vec<Category>,
    /// Seconds from accepting the call until the text appears.
    pub when_s: Option<u32>,
    pub means: &'static str,
    /// What tells the possible readings apart.
    pub decides: Option<&'static str>,
    pub remedy: &'static str,
    /// What a test of the network would name, the likeliest first.
    pub causes: &'static [Cause],
}

/// Looks the text up among all known texts.
#[must_use]
pub(crate) fn explain(text: &str) -> Answer {
    let cut = text.chars().nth(LONGEST).is_some();
    let symptom = text.chars().take(LONGEST).collect();
    let asked = Normal::new(text, LONGEST);
    let mut hits: Vec<Hit> = KNOWN.iter().filter_map(|row| row.hit(&asked)).collect();
    // Texts that explain more come first; those of which the asked text is only a part, last.
    hits.sort_by(|a, b| b.rank().cmp(&a.rank()).then(b.similarity.total_cmp(&a.similarity)));
    let mut kept: Vec<Hit> = Vec::new();
    for hit in hits {
        if !kept.iter().any(|better| better.rank() > hit.rank() && better.covers(&hit)) {
            kept.push(hit);
        }
    }
    let rows: Vec<&Symptom> = kept.iter().filter(|hit| !hit.partial).map(|hit| hit.row).collect();
    kept.retain(|hit| !is_hidden(hit.row, &rows));
    Answer { schema_version: 1, symptom, matches: kept.into_iter().map(Match::from).collect(), cut }
}

/// Whether the row adds nothing to the others.
pub(super) fn is_hidden(row: &Symptom, among: &[&Symptom]) -> bool {
    among.iter().any(|other| other.id != row.id && (row.weak && !other.weak || other.hides.contains(&row.id)))
}

/// The rows with their texts in normal form.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let normal = |text: &String| Normal::new(text, LONGEST);
    let texts = |row: &Symptom| row.texts.iter().map(|t| t.parts().iter().map(normal).collect()).collect();
    symptoms().iter().map(|row| Known { row, texts: texts(row) }).collect()
});

/// How the known texts begin.
static BEGINNINGS: LazyLock<HashSet<Vec<char>>> = LazyLock::new(|| {
    let firsts = KNOWN.iter().flat_map(|known| &known.texts).filter_map(|parts| parts.first());
    firsts.filter_map(|part| part.beginnings().next().map(<[char]>::to_vec)).collect()
});

/// The rows that a text of a log speaks of, word for word: a machine wrote it.
pub(super) struct Lines;

impl Lines {
    /// Rows that explain more come first.
    pub(super) fn of(text: &str) -> Vec<&'static Symptom> {
        let said = Normal::new(text, LONGEST);
        // A quick test: most lines of a log have no word that begins like a known text.
        if !said.beginnings().any(|begin| BEGINNINGS.contains(begin)) {
            return Vec::new();
        }
        let mut rows: Vec<(usize, &'static Symptom)> = KNOWN
            .iter()
            .filter(|known| known.row.log)
            .filter_map(|known| Some((known.longest_in(&said)?, known.row)))
            .collect();
        rows.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

struct Known {
    row: &'static Symptom,
    texts: Vec<Vec<Normal>>,
}

impl Known {
    /// The length of the longest of its texts that stands word for word in a text.
    fn longest_in(&self, said: &Normal) -> Option<usize> {
        let all = |parts: &&Vec<Normal>| {
            let mut from = 0;
            parts.iter().all(|part| match said.position(part, from) {
                Some(at) => {
                    from = at + part.len();
                    true
                }
                None => false,
            })
        };
        let length = |parts: &Vec<Normal>| parts.iter().map(Normal::len).sum();
        self.texts.iter().filter(all).map(length).max()
    }

    /// The best of the row's texts.
    fn hit(&self, asked: &Normal) -> Option<Hit> {
        let mut best: Option<Hit> = None;
        for (text, parts) in self.row.texts.iter().zip(&self.texts) {
            let (mut from, mut start, mut found, mut length, mut partial) = (0, usize::MAX, 0, 0, false);
            let all = parts.iter().all(|part| {
                let Some(place) = find(part, asked, from) else { return false };
                start = start.min(place.start);
                from = place.end;
                found += place.found;
                length += part.len();
                partial |= place.partial;
                true
            });
            if all && best.as_ref().is_none_or(|known| (!partial, found) > known.rank()) {
                let text = text.parts().join(" … ");
                let similarity = found as f64 / length as f64;
                best = Some(Hit { row: self.row, text, found, similarity, start, end: from, partial });
            }
        }
        best
    }
}

struct Hit {
    row: &'static Symptom,
    text: String,
    /// Characters of the text that were found.
    found: usize,
    similarity: f64,
    start: usize,
    end: usize,
    /// The asked text is only a part of the known one.
    partial: bool,
}

impl Hit {
    fn rank(&self) -> (bool, usize) {
        (!self.partial, self.found)
    }

    /// Whether this hit explains most of what the other one explains.
    fn covers(&self, other: &Self) -> bool {
        let shared = self.end.min(other.end).saturating_sub(self.start.max(other.start));
        2 * shared > other.end - other.start
    }
}

impl From<Hit> for Match {
    fn from(hit: Hit) -> Self {
        let row = hit.row;
        Self {
            id: &row.id,
            text: hit.text,
            similarity: (hit.similarity * 100.0).round() / 100.0,
            network: row.network,
            categories: row.categories(),
            when_s: row.after_s,
            means: &row.means,
            decides: row.decides.as_deref(),
            remedy: row.remedy(),
            causes: &row.causes,
        }
    }
}

/// A few lines a match for people, without a line break at the end.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matches.is_empty() {
            return f.write_str(
                "nothing that the panel or its log is known to say; give the words of the banner, or of \
                 the line with ERROR in the agent's log",
            );
        }
        for (at, found) in self.matches.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{:?}: ", found.text)?;
            let categories: Vec<&str> = found.categories.iter().map(|c| c.as_str()).collect();
            match (found.network, &categories[..]) {
                (false, _) => f.write_str("not the network")?,
                (true, []) => f.write_str("perhaps the network")?,
                (true, _) => f.write_str(&categories.join(", then "))?,
            }
            write!(f, "\n  means    {}", found.means)?;
            if let Some(seconds) = found.when_s {
                write!(f, "\n  when     {seconds} s after accepting")?;
            }
            if let Some(decides) = found.decides {
                write!(f, "\n  decides  {decides}")?;
            }
            write!(f, "\n  do       {}", found.remedy)?;
            if let Some(cause) = found.causes.first() {
                write!(
                    f,
                    "\n  owner    {}, where it is {cause}",
                    cause.about().owner.as_str(),
                    cause = cause.as_str()
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "symptom_tests.rs"]
mod tests;
