//! The kinds of keys whose values are made of other values: lists, tables, optional keys. The kinds of
//! single values are in `kind`.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::super::problem::{as_text, quoted, sentence, shown};
use super::super::read::Reading;
use super::Kind;

/// A list without duplicates. In the environment and after `--set` also a string with commas.
pub(crate) struct List<K> {
    pub item: K,
    pub least: usize,
}

pub(crate) fn list<K>(item: K) -> List<K> {
    List { item, least: 0 }
}

pub(crate) fn list_of_some<K>(item: K) -> List<K> {
    List { item, least: 1 }
}

impl<K: Kind<Value: PartialEq>> List<K> {
    /// The list that was probably meant by a single value, or by several in one string; none
    /// unless each of them is a valid item.
    fn meant(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<String> {
        let pieces = match value {
            Value::String(tag, text) => text
                .split([',', ';', ' '])
                .filter(|piece| !piece.is_empty())
                .map(|piece| Value::String(*tag, piece.to_owned()))
                .collect(),
            Value::Num(..) => vec![value.clone()],
            _ => return None,
        };
        let list = Value::Array(value.tag(), pieces);
        let problems = reading.problems.len();
        let read = self.read(key, &list, reading);
        reading.problems.truncate(problems);
        let list = shown(&list);
        // None for a list that the message would shorten: nobody could copy it.
        read.filter(|read| !read.is_empty() && !list.contains('…')).map(|_| list)
    }
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
                let hint = self.meant(key, value, reading).map(|list| format!(", did you mean {list}?"));
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

    fn show(&self, value: &Self::Value) -> toml::Value {
        toml::Value::Array(value.iter().map(|item| self.item.show(item)).collect())
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
pub(crate) struct Table<T, K> {
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
            reading.record(&place, item);
            let entry = match (self.entry)(name) {
                Ok(entry) if !read.contains_key(&entry) => Some(entry),
                Ok(entry) => {
                    reading.fault(&place, item, format!("the same as another entry, {entry}"));
                    None
                }
                Err(why) => {
                    let expects = format!("{} as key", self.expects);
                    reading.fault(&place, item, sentence(&why, &expects));
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

    fn show(&self, value: &Self::Value) -> toml::Value {
        let entry = |(key, item): (&T, &K::Value)| (key.to_string(), self.item.show(item));
        toml::Value::Table(value.iter().map(entry).collect())
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": self.item.schema() })
    }
}

/// A key that may be absent from an item of a list of tables.
pub(crate) struct Or<K, F>(pub K, pub F);

impl<K: Kind, F: Fn() -> K::Value> Kind for Or<K, F> {
    type Value = K::Value;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<K::Value> {
        self.0.read(key, value, reading)
    }

    fn write(&self, value: &K::Value) -> toml::Value {
        self.0.write(value)
    }

    fn show(&self, value: &K::Value) -> toml::Value {
        self.0.show(value)
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
pub(crate) struct StarOr<K>(pub List<K>);

impl<K: Kind<Value = String>> Kind for StarOr<K> {
    type Value = Vec<String>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Vec<String>> {
        if matches!(value, Value::Array(_, items) if items.is_empty()) {
            reading.fault(key, value, r#"expected at least one, or ["*"] for all"#.to_owned());
            return None;
        }
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

    fn show(&self, value: &Vec<String>) -> toml::Value {
        self.0.show(value)
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }
}
