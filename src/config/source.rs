//! Where a value of the configuration came from: the names of the layers, and the record that
//! `config show` prints and error messages quote.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::Metadata;

/// One layer of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The embedded default.
    Default,
    /// The configuration file, as it was named.
    File(PathBuf),
    /// A variable of the environment, by its name.
    Environment(String),
    /// A `--set` flag.
    Set,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// The layer that figment remembers for a value.
pub(super) fn source_of(metadata: &Metadata) -> Source {
    match &metadata.source {
        Some(figment::Source::File(path)) => Source::File(path.clone()),
        Some(figment::Source::Custom(name)) => Source::Environment(name.clone()),
        _ if metadata.name == Source::Set.to_string() => Source::Set,
        _ => Source::Default,
    }
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset in a text.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        Lines::of(text).position(offset)
    }
}

/// A text and where its lines begin, for many positions in it.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { text, starts: starts.collect() }
    }

    /// The place of a byte offset; the end of the text for an offset beyond it.
    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or(&self.text[start..]);
        Position { line, column: before.chars().count() + 1 }
    }
}

/// Which layer each key's value came from, and where in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Several sources for one key are possible where tables merge (`dns.hosts`).
    pub(super) sources: BTreeMap<String, Vec<Source>>,
    pub(super) positions: BTreeMap<String, Position>,
}

impl Provenance {
    /// The layers that a key's value came from (`proxy.listen`, `allow`, `allow[0]`); `default`
    /// for a key that is not recorded.
    pub fn of(&self, key: &str) -> &[Source] {
        self.sources.get(key).map_or(&[Source::Default], Vec::as_slice)
    }

    /// The place of a key in the file; none where the value came from elsewhere.
    pub(crate) fn position(&self, key: &str) -> Option<Position> {
        match self.recorded(key)? {
            (recorded, Source::File(_)) => {
                self.positions.get(key).or_else(|| self.positions.get(recorded)).copied()
            }
            _ => None,
        }
    }

    /// The key itself or, for a part of a value, the key above it; with the strongest layer.
    pub(super) fn recorded<'a>(&self, key: &'a str) -> Option<(&'a str, &Source)> {
        let table = key.split(".\"").next().unwrap_or(key);
        let list = table.split('[').next().unwrap_or(table);
        let item = key.strip_suffix(']').and_then(|key| key.rfind('[')).map(|at| &key[..at]);
        [Some(key), item, Some(table), Some(list)]
            .into_iter()
            .flatten()
            .find_map(|key| Some((key, self.sources.get(key)?.last()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources, load};
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        assert_eq!(Position::of("ab\nö=x", 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of("ab\nö=x", 6), Position { line: 2, column: 3 });
        assert_eq!(Position::of("ab", 99), Position { line: 1, column: 3 });
    }

    #[test]
    fn a_later_problem_finds_its_source_and_place() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        let text = "[policy]\ndeny = [\"a\", \"b\"]\n[[allow]]\npattern = \"c\"\n\
                    [egress.connect_to]\n\"[::1]:1\" = \"127.0.0.1:2\"\n";
        std::fs::write(&file, text).unwrap();
        let set = vec!["egress.connect_to.'d:1'=127.0.0.1:3".to_owned()];
        let sources = Sources { file: Some(file.clone()), set, ..Sources::default() };
        let provenance = load(&sources).unwrap().provenance;
        let at = |key: &str| {
            let problem = provenance.problem(key, None, "");
            (problem.source, problem.position.map(|position| position.line))
        };
        let file = Source::File(file);
        assert_eq!(at("policy.deny[1]"), (file.clone(), Some(2)));
        assert_eq!(at("allow[0].pattern"), (file.clone(), Some(4)));
        assert_eq!(at("allow[0].ports"), (file.clone(), Some(3)));
        assert_eq!(at("egress.connect_to.\"[::1]:1\""), (file, Some(6)));
        assert_eq!(at("egress.connect_to.\"d:1\""), (Source::Set, None));
        assert_eq!(at("proxy.name"), (Source::Default, None));
        assert_eq!(Config::default().policy.deny, Vec::new());
    }
}
