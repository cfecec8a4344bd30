//! The kinds of keys: for each, how a value of any layer is read, written back, and described to
//! a JSON Schema. Which key is of which kind stands in `sections`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::choice::Words;
use super::notation;
use super::problem::quoted;
use super::reading::{Reading, as_text};

/// How the value of a key is written.
pub(super) trait Kind {
    type Value;
    /// Reads a value, or reports what is wrong with it.
    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value>;
    /// The value as the user could have written it.
    fn write(&self, value: &Self::Value) -> toml::Value;
    /// JSON Schema of the value.
    fn schema(&self) -> Json;
    /// The value where the key is absent; none where it is required.
    fn missing(&self) -> Option<Self::Value> {
        None
    }
}

/// A value that is written as a string. Numbers count as their digits (an instance may be
/// called 12345).
pub(super) struct Text<T> {
    /// What would be valid: "expected …".
    pub expects: &'static str,
    pub parse: fn(&str) -> Result<T, String>,
    pub write: fn(&T) -> String,
}

/// A string kind whose values print as they are read.
pub(super) fn text<T: fmt::Display>(
    expects: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Text<T> {
    Text { expects, parse, write: T::to_string }
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<T> {
        let Some(text) = as_text(value) else {
            reading.fault(key, value, format!("expected {}", self.expects));
            return None;
        };
        match (self.parse)(text.trim()) {
            Ok(read) => Some(read),
            Err(why) => {
                let gap = if why.is_empty() { "" } else { "; " };
                reading.fault(key, value, format!("{why}{gap}expected {}", self.expects));
                None
            }
        }
    }

    fn write(&self, value: &T) -> toml::Value {
        toml::Value::String((self.write)(value))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string" })
    }
}

/// A span of time; `zero` tells whether none at all is a sensible value.
pub(super) struct Span {
    pub zero: bool,
}

impl Kind for Span {
    type Value = Duration;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Duration> {
        const EXPECTED: &str = r#"expected a duration such as "90s", "8h" or "1h 30m""#;
        let text = as_text(value).unwrap_or_default();
        let why = match notation::duration(text.trim()) {
            Ok(Duration::ZERO) if !self.zero => "must be longer than nothing".to_owned(),
            Ok(duration) => return Some(duration),
            Err(why) => why,
        };
        reading.fault(key, value, format!("{why}; {EXPECTED}"));
        None
    }

    fn write(&self, value: &Duration) -> toml::Value {
        toml::Value::String(notation::duration_text(*value))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+ *[A-Za-z]+( *[0-9]+ *[A-Za-z]+)*$" })
    }
}

/// A number of bytes between two bounds.
pub(super) struct Size {
    pub least: usize,
    pub most: usize,
}

impl Kind for Size {
    type Value = usize;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<usize> {
        let read = as_text(value).and_then(|text| notation::size(text.trim()).ok());
        match read {
            Some(bytes) if (self.least..=self.most).contains(&bytes) => read,
            _ => {
                let (least, most) = (notation::size_text(self.least), notation::size_text(self.most));
                let message = format!(r#"expected a size from {least} to {most}, such as "16KiB""#);
                reading.fault(key, value, message);
                None
            }
        }
    }

    fn write(&self, value: &usize) -> toml::Value {
        toml::Value::String(notation::size_text(*value))
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [
            { "type": "string", "pattern": "^[0-9]+ *([KMGkmg]?[Ii]?[Bb])?$" },
            { "type": "integer", "minimum": self.least, "maximum": self.most },
        ] })
    }
}

/// A whole number between two bounds.
pub(super) struct Whole<T> {
    pub least: T,
    pub most: T,
}

impl<T> Kind for Whole<T>
where
    T: Copy + PartialOrd + fmt::Display + TryFrom<i128>,
    i64: TryFrom<T>,
{
    type Value = T;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<T> {
        let number = match value {
            Value::Num(_, number) => number.to_i128(),
            // The environment has nothing but strings.
            Value::String(tag, text) if reading.is_textual(*tag) => text.trim().parse().ok(),
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(read) if self.least <= read && read <= self.most => Some(read),
            _ => {
                let (least, most) = (self.least, self.most);
                reading.fault(key, value, format!("expected a whole number from {least} to {most}"));
                None
            }
        }
    }

    fn write(&self, value: &T) -> toml::Value {
        toml::Value::Integer(i64::try_from(*value).unwrap_or(i64::MAX))
    }

    fn schema(&self) -> Json {
        let bound = |value| i64::try_from(value).unwrap_or(i64::MAX);
        json!({ "type": "integer", "minimum": bound(self.least), "maximum": bound(self.most) })
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<bool> {
        let read = match value {
            Value::Bool(_, flag) => Some(*flag),
            Value::String(tag, text) if reading.is_textual(*tag) => text.trim().parse().ok(),
            _ => None,
        };
        if read.is_none() {
            reading.fault(key, value, "expected true or false, without quotes".to_owned());
        }
        read
    }

    fn write(&self, value: &bool) -> toml::Value {
        toml::Value::Boolean(*value)
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }
}

/// One of a few words.
pub(super) struct OneOf<E>(PhantomData<E>);

pub(super) fn one_of<E: Words>() -> OneOf<E> {
    OneOf(PhantomData)
}

impl<E: Words> Kind for OneOf<E> {
    type Value = E;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<E> {
        let text = as_text(value).unwrap_or_default();
        let read = E::EVERY.iter().copied().find(|choice| choice.word() == text.trim());
        if read.is_none() {
            let words: Vec<String> = E::EVERY.iter().map(|e| format!("{:?}", e.word())).collect();
            reading.fault(key, value, format!("expected one of {}", words.join(", ")));
        }
        read
    }

    fn write(&self, value: &E) -> toml::Value {
        toml::Value::String(value.word().to_owned())
    }

    fn schema(&self) -> Json {
        let words: Vec<&str> = E::EVERY.iter().map(|choice| choice.word()).collect();
        json!({ "type": "string", "enum": words })
    }
}

/// A list without duplicates. In the environment and after `--set` also a string with commas.
pub(super) struct List<K> {
    pub item: K,
    pub least: usize,
}

pub(super) fn list<K>(item: K) -> List<K> {
    List { item, least: 0 }
}

pub(super) fn list_of_some<K>(item: K) -> List<K> {
    List { item, least: 1 }
}

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value> {
        let split;
        let items = match value {
            Value::Array(_, items) => items,
            _ if reading.is_textual(value.tag()) && as_text(value).is_some() => {
                let text = as_text(value).unwrap_or_default();
                let text = text.trim();
                let pieces = text.split(',').filter(|_| !text.is_empty());
                split = pieces.map(|piece| Value::String(value.tag(), piece.trim().to_owned())).collect();
                &split
            }
            _ => {
                let hint = as_text(value).map(|text| format!(", did you mean [{text:?}]?"));
                reading.fault(key, value, format!("expected a list{}", hint.unwrap_or_default()));
                return None;
            }
        };
        if items.len() < self.least {
            reading.fault(key, value, "expected at least one".to_owned());
            return None;
        }
        let mut read = Vec::with_capacity(items.len());
        let mut sound = true;
        for (index, item) in items.iter().enumerate() {
            let place = format!("{key}[{index}]");
            match self.item.read(&place, item, reading) {
                Some(item_read) if read.contains(&item_read) => {
                    reading.fault(&place, item, "listed twice".to_owned());
                    sound = false;
                }
                Some(item_read) => read.push(item_read),
                None => sound = false,
            }
        }
        sound.then_some(read)
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        toml::Value::Array(value.iter().map(|item| self.item.write(item)).collect())
    }

    fn schema(&self) -> Json {
        let mut schema = json!({ "type": "array", "items": self.item.schema(), "uniqueItems": true });
        if self.least > 0 {
            schema["minItems"] = json!(self.least);
        }
        schema
    }
}

/// A table whose keys users choose.
pub(super) struct Table<T, K> {
    /// What would be a valid key: "expected … as key".
    pub expects: &'static str,
    pub entry: fn(&str) -> Result<T, String>,
    pub item: K,
}

impl<T: Ord + fmt::Display, K: Kind> Kind for Table<T, K> {
    type Value = BTreeMap<T, K::Value>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value> {
        let Value::Dict(_, dict) = value else {
            let message = "expected a table such as { \"NAME\" = VALUE }".to_owned();
            reading.fault(key, value, message);
            return None;
        };
        let mut read = BTreeMap::new();
        let mut sound = true;
        for (name, item) in dict {
            let place = format!("{key}.{}", quoted(name));
            let entry = match (self.entry)(name) {
                Ok(entry) if !read.contains_key(&entry) => Some(entry),
                Ok(entry) => {
                    reading.fault(&place, item, format!("the same as another entry, {entry}"));
                    None
                }
                Err(why) => {
                    let gap = if why.is_empty() { "" } else { "; " };
                    let message = format!("{why}{gap}expected {} as key", self.expects);
                    reading.fault(&place, item, message);
                    None
                }
            };
            match (entry, self.item.read(&place, item, reading)) {
                (Some(entry), Some(item)) => {
                    read.insert(entry, item);
                }
                _ => sound = false,
            }
        }
        sound.then_some(read)
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        let entry = |(key, item): (&T, &K::Value)| (key.to_string(), self.item.write(item));
        toml::Value::Table(value.iter().map(entry).collect())
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": self.item.schema() })
    }
}

/// A file, counted from the directory of the configuration file that names it, from the working
/// directory otherwise. Not opened here.
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<PathBuf> {
        match value {
            Value::String(tag, text) if !text.is_empty() && !text.contains('\0') => {
                Some(reading.resolve(*tag, Path::new(text)))
            }
            _ => {
                reading.fault(key, value, "expected the path of a file".to_owned());
                None
            }
        }
    }

    fn write(&self, value: &PathBuf) -> toml::Value {
        toml::Value::String(value.to_string_lossy().into_owned())
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A file, or `""` for none.
pub(super) struct OptionalPath;

impl Kind for OptionalPath {
    type Value = Option<PathBuf>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value> {
        match value {
            Value::String(_, text) if text.is_empty() => Some(None),
            _ => FilePath.read(key, value, reading).map(Some),
        }
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        value.as_ref().map_or_else(|| toml::Value::String(String::new()), |path| FilePath.write(path))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string" })
    }
}

/// A key that may be absent from an item of a list of tables.
pub(super) struct Or<K, F>(pub K, pub F);

impl<K: Kind, F: Fn() -> K::Value> Kind for Or<K, F> {
    type Value = K::Value;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<K::Value> {
        self.0.read(key, value, reading)
    }

    fn write(&self, value: &K::Value) -> toml::Value {
        self.0.write(value)
    }

    fn schema(&self) -> Json {
        let mut schema = self.0.schema();
        schema["default"] = json!(self.0.write(&(self.1)()));
        schema
    }

    fn missing(&self) -> Option<K::Value> {
        Some((self.1)())
    }
}

/// Whether a list is `["*"]`, names only, or a mixture of both, which is wrong.
pub(super) struct StarOr<K>(pub List<K>);

impl<K: Kind<Value = String>> Kind for StarOr<K> {
    type Value = Vec<String>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Vec<String>> {
        let read = self.0.read(key, value, reading)?;
        if read.len() > 1 && read.iter().any(|item| item == "*") {
            let message = r#""*" stands for all of them: expected ["*"] alone, or names without it"#;
            reading.fault(key, value, message.to_owned());
            return None;
        }
        Some(read)
    }

    fn write(&self, value: &Vec<String>) -> toml::Value {
        self.0.write(value)
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }
}

