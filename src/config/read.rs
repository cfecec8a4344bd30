//! One pass over the merged layers, which the kinds of keys read from and report to. Knows for each value
//! which layer it came from; judges no values.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::{Dict, Tag, Value};

use super::problem::{Problem, shown};
use super::source::{Position, Provenance, Source, source_of};

pub(super) struct Reading<'a> {
    pub figment: &'a Figment,
    pub provenance: Provenance,
    pub problems: Vec<Problem>,
}

impl Reading<'_> {
    /// Remembers where the value of a key came from.
    pub(super) fn record(&mut self, key: &str, value: &Value) {
        let sources = self.sources(value);
        self.provenance.sources.insert(key.to_owned(), sources);
    }

    /// Reports a key that a table lacks.
    pub(super) fn missing(&mut self, table: &Table<'_>, name: &str) {
        let source = self.source(table.tag);
        let position = self.position(&source, &table.key);
        let message = format!("the key `{name}` is missing");
        self.problems.push(Problem { source, position, key: Some(table.key.clone()), value: None, message });
    }

    /// Reports a value that is wrong.
    pub(super) fn fault(&mut self, key: &str, value: &Value, message: String) {
        let source = self.source(value.tag());
        let position = self.position(&source, key);
        let (key, value) = (Some(key.to_owned()), Some(shown(value)));
        self.problems.push(Problem { source, position, key, value, message });
    }

    fn position(&self, source: &Source, key: &str) -> Option<Position> {
        match source {
            Source::File(_) => self.provenance.positions.get(key).copied(),
            _ => None,
        }
    }

    /// The layer that a value came from.
    pub(super) fn source(&self, tag: Tag) -> Source {
        self.figment.get_metadata(tag).map_or(Source::Default, source_of)
    }

    /// The layers of a value; those of its entries where tables merge.
    fn sources(&self, value: &Value) -> Vec<Source> {
        let mut sources = match value {
            Value::Dict(_, dict) if !dict.is_empty() => {
                dict.values().map(|item| self.source(item.tag())).collect()
            }
            _ => vec![self.source(value.tag())],
        };
        sources.sort();
        sources.dedup();
        sources
    }

    /// Whether all values of the layer are strings, so that `"5"` may be a number.
    pub(super) fn is_textual(&self, tag: Tag) -> bool {
        matches!(self.source(tag), Source::Environment(_) | Source::Set)
    }

    /// The absolute form of a path, from where its layer counts.
    pub(super) fn resolve(&self, tag: Tag, path: &Path) -> PathBuf {
        let path = match self.source(tag) {
            Source::File(file) => file.parent().unwrap_or(Path::new("")).join(path),
            _ => path.to_owned(),
        };
        // Fails only where the working directory is gone; then the relative path is as good.
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// A table that is being read: a section, or an item of a list of tables.
pub(super) struct Table<'a> {
    pub key: String,
    pub dict: &'a Dict,
    pub tag: Tag,
}
