//! `config show`: the configuration in effect, each value with the layer it came from. As TOML
//! it is a valid configuration file again. Of secrets it has the paths of their files, and what may be one in
//! a value, as in the query of a URL: that only where its owner reads it.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::section::{Reader, Section as _};
use super::{Loaded, Source};
use crate::catalogue::Choice;

/// `[connect]` of a file that stands for this choice: every key of it.
pub(crate) fn connect_table(connect: &Choice) -> toml::Table {
    connect.write(Reader::Owner).into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl Loaded {
    /// TOML, each key followed by a comment with its source.
    pub fn to_toml(&self) -> String {
        self.toml(Reader::Owner)
    }

    /// The same as anybody may see it: without what may be a secret.
    pub(crate) fn to_toml_for_anybody(&self) -> String {
        self.toml(Reader::Anybody)
    }

    fn toml(&self, reader: Reader) -> String {
        let mut out = String::new();
        for (section, keys) in self.config.write(reader) {
            // Writing to a string cannot fail; so below.
            let _ = writeln!(out, "[{section}]");
            for (key, value) in keys {
                let source = self.sources(&format!("{section}.{key}"));
                let _ = writeln!(out, "{key} = {value} # {source}");
            }
            out.push('\n');
        }
        if self.config.allow.is_empty() {
            let _ = writeln!(out, "# no [[allow]] # {}", self.sources("allow"));
        }
        for (index, allow) in self.config.allow.iter().enumerate() {
            let _ = writeln!(out, "[[allow]] # {}", self.sources("allow"));
            for (key, value) in allow.write(reader) {
                let source = self.sources(&format!("allow[{index}].{key}"));
                let _ = writeln!(out, "{key} = {value} # {source}");
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    /// JSON: an object from key (`proxy.listen`, `allow`) to `{"value": …, "source": …}`.
    pub fn to_json(&self) -> Json {
        let mut all = Map::new();
        let mut add = |key: String, value: Json| {
            let source = self.sources(&key);
            all.insert(key, json!({ "value": value, "source": source }));
        };
        for (section, keys) in self.config.write(Reader::Owner) {
            for (key, value) in keys {
                add(format!("{section}.{key}"), json!(value));
            }
        }
        let table = |allow: &super::Allow| {
            let keys =
                allow.write(Reader::Owner).into_iter().map(|(key, value)| (key.to_owned(), json!(value)));
            Json::Object(keys.collect())
        };
        add("allow".to_owned(), self.config.allow.iter().map(table).collect());
        Json::Object(all)
    }

    fn sources(&self, key: &str) -> String {
        let sources = self.provenance.of(key).iter().map(Source::to_string).collect::<Vec<_>>();
        // A path may have any character; a comment ends with its line.
        sources.join(", ").replace(char::is_control, "?")
    }
}
