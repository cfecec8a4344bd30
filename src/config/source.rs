//! Where a value of the configuration came from: the names of the layers, and the record that
//! `config show` prints and error messages quote.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::problem::{Position, Problem};

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
    pub fn position(&self, key: &str) -> Option<Position> {
        let parent = key.split('[').next().unwrap_or(key);
        let in_file = [key, parent].iter().find_map(|key| self.sources.get(*key));
        match in_file.map(Vec::as_slice) {
            Some([Source::File(_)]) => {
                self.positions.get(key).or_else(|| self.positions.get(parent)).copied()
            }
            _ => None,
        }
    }

    /// A problem that was found after loading, in terms of what the user wrote: `key` as above,
    /// or with a subscript (`policy.deny[2]`, `allow[0].pattern`).
    pub fn problem(&self, key: &str, value: Option<&str>, message: impl Into<String>) -> Problem {
        let known = |key: &str| self.sources.get(key).and_then(|sources| sources.last());
        let parent = key.split('[').next().unwrap_or(key);
        let source = known(key).or_else(|| known(parent)).cloned().unwrap_or(Source::Default);
        Problem {
            source,
            position: self.position(key),
            key: Some(key.to_owned()),
            value: value.map(super::problem::quoted),
            message: message.into(),
        }
    }
}
