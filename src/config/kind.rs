//! The kinds of keys: for each, how a value of any layer is read, written back, and described to
//! a JSON Schema. Which key is of which kind stands in `sections`.

pub(super) mod many;

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::Value;
use serde_json::{Value as Json, json};
use strum::VariantArray;

use super::notation;
use super::problem::{as_text, sentence};
use super::read::{Reading, Table};

/// How the value of a key is written.
pub(super) trait Kind {
    type Value;
    /// Reads a value, or reports what is wrong with it.
    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value>;
    /// The value as the user could have written it.
    fn write(&self, value: &Self::Value) -> toml::Value;
    /// The same as anybody may see it: without what may be a secret.
    fn show(&self, value: &Self::Value) -> toml::Value {
        self.write(value)
    }
    /// JSON Schema of the value.
    fn schema(&self) -> Json;
    /// The value where the key is absent; none where it is required.
    fn missing(&self) -> Option<Self::Value> {
        None
    }
}

/// Reads one key of a table. An absent key without a default is a problem of the table.
pub(super) fn read_key<K: Kind>(
    kind: &K,
    table: &Table<'_>,
    name: &str,
    reading: &mut Reading<'_>,
) -> Option<K::Value> {
    let Some(value) = table.dict.get(name) else {
        let default = kind.missing();
        if default.is_none() {
            reading.missing(table, name);
        }
        return default;
    };
    let key = format!("{}.{name}", table.key);
    reading.record(&key, value);
    kind.read(&key, value, reading)
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
pub(super) fn text<T: fmt::Display>(expects: &'static str, parse: fn(&str) -> Result<T, String>) -> Text<T> {
    Text { expects, parse, write: T::to_string }
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<T> {
        let Some(text) = as_text(value) else {
            reading.fault(key, value, sentence("", self.expects));
            return None;
        };
        match (self.parse)(text.trim()) {
            Ok(read) => Some(read),
            Err(why) => {
                reading.fault(key, value, sentence(&why, self.expects));
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

/// A span of time.
pub(super) struct Span {
    pub least: Duration,
    /// What none at all means, where that is a value of its own.
    pub none: Option<&'static str>,
}

impl Kind for Span {
    type Value = Duration;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Duration> {
        const EXPECTS: &str = r#"a duration such as "90s", "8h" or "1h 30m""#;
        let text = as_text(value).unwrap_or_default();
        let why = match notation::duration(text.trim()) {
            Ok(duration @ Duration::ZERO) if self.none.is_some() => return Some(duration),
            Ok(Duration::ZERO) if !self.least.is_zero() => "must be longer than nothing".to_owned(),
            Ok(duration) if duration < self.least => {
                let none = self.none.map_or_else(String::new, |none| format!(", or 0s, which is {none}"));
                format!("must be at least {}{none}", notation::duration_text(self.least))
            }
            Ok(duration) => return Some(duration),
            Err(why) => why,
        };
        reading.fault(key, value, sentence(&why, EXPECTS));
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
            // Values from the environment are always strings.
            Value::String(tag, text) if reading.is_textual(*tag) => text.trim().parse().ok(),
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(read) if self.least <= read && read <= self.most => Some(read),
            _ => {
                let (least, most) = (self.least, self.most);
                let quotes = match value {
                    Value::String(_, text) if text.parse::<i128>().is_ok() => ", without quotes",
                    _ => "",
                };
                let message = format!("expected a whole number from {least} to {most}{quotes}");
                reading.fault(key, value, message);
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

pub(super) fn one_of<E: Word>() -> OneOf<E> {
    OneOf(PhantomData)
}

/// A closed enum; messages and the schema list its words in its order.
pub(super) trait Word: Copy + VariantArray + Into<&'static str> {}

impl<E: Copy + VariantArray + Into<&'static str>> Word for E {}

fn words<E: Word>() -> impl Iterator<Item = &'static str> {
    E::VARIANTS.iter().map(|choice| (*choice).into())
}

impl<E: Word> Kind for OneOf<E> {
    type Value = E;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<E> {
        let text = as_text(value).unwrap_or_default();
        let read = E::VARIANTS.iter().copied().find(|choice| (*choice).into() == text.trim());
        if read.is_none() {
            let words: Vec<String> = words::<E>().map(|word| format!("{word:?}")).collect();
            reading.fault(key, value, format!("expected one of {}", words.join(", ")));
        }
        read
    }

    fn write(&self, value: &E) -> toml::Value {
        toml::Value::String((*value).into().to_owned())
    }

    fn schema(&self) -> Json {
        let words: Vec<&str> = words::<E>().collect();
        json!({ "type": "string", "enum": words })
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
