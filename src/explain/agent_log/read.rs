//! The file that the panel's "Download logs" gives: a JSON array of entries. Keeps what is needed of each,
//! whatever else it contains and however deeply nested.
//!
//! Texts are cut and control characters replaced, since a terminal shows them.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many characters of a line are kept: the words come first, session descriptions follow.
const LINE: usize = 600;

/// One entry of the log, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// By the desk's clock; none where the entry has no time that can be read.
    pub time: Option<Timestamp>,
    /// The words, followed by type and message of the exception.
    pub text: String,
    /// `ERROR` or `CRITICAL`.
    pub error: bool,
    /// `snapshot.skew`: AWS's clock minus the desk's, in milliseconds.
    pub skew_ms: Option<i64>,
}

/// Reads a whole log.
///
/// # Errors
///
/// What isn't JSON, or not such an array, with the line and the column where that shows.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    const EXPECTED: &str = "expected the JSON array that \"Download logs\" in the panel's settings gives";
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(format!("line 1, column 1: the file is UTF-16; save it as UTF-8; {EXPECTED}"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let raw: Vec<Raw> = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line().max(1), error.column().max(1));
        let text = error.to_string();
        let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
        format!("line {line}, column {column}: {why}; {EXPECTED}")
    })?;
    if !raw.is_empty() && raw.iter().all(|entry| entry.text.is_none()) {
        return Err(format!("line 1, column 1: no entry has a `text`; {EXPECTED}"));
    }
    Ok(raw.into_iter().map(Entry::from).collect())
}

impl From<Raw> for Entry {
    fn from(raw: Raw) -> Self {
        let mut text = shown(&raw.text.map_or_else(String::new, |text| text.0));
        let Exception { kind, message } = raw.exception.0;
        for part in [kind, message].into_iter().flatten() {
            text.push(' ');
            text.push_str(&shown(&part.0));
        }
        let level = raw.level.map(|level| level.0).unwrap_or_default();
        Self {
            time: raw.time.0.0,
            text: text.trim().to_owned(),
            error: level == "ERROR" || level == "CRITICAL",
            skew_ms: raw.objects.0.0,
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(LINE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Deserialize)]
#[serde(expecting = "an entry of the log, an object")]
struct Raw {
    #[serde(default)]
    time: Loose<Time>,
    #[serde(default)]
    level: Option<Words>,
    #[serde(default)]
    text: Option<Words>,
    #[serde(default)]
    exception: Loose<Exception>,
    #[serde(default)]
    objects: Loose<Objects>,
}

/// A string. A half of a surrogate pair, which JavaScript may cut, is replaced.
struct Words(String);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Words, E> {
                Ok(Words(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What is taken from a value of any kind: nothing, unless a method is overridden.
trait Take<'de>: Default {
    fn text(_: &str) -> Self {
        Self::default()
    }

    fn number(_: f64) -> Self {
        Self::default()
    }

    fn items<A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn fields<A: MapAccess<'de>>(mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// A value of any kind, read as far as `T` takes something from it. No kind is an error, and what is
/// not taken may be nested as deep as it likes.
#[derive(Default)]
struct Loose<T>(T);

impl<'de, T: Take<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(PhantomData)).map(Loose)
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Take<'de>> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, number: i64) -> Result<T, E> {
        Ok(T::number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<T, E> {
        Ok(T::number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        T::items(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::fields(fields)
    }
}

/// As JavaScript writes a date, or its milliseconds.
#[derive(Default)]
struct Time(Option<Timestamp>);

impl Take<'_> for Time {
    fn text(text: &str) -> Self {
        Self(text.parse().ok())
    }

    fn number(ms: f64) -> Self {
        Self(Timestamp::from_millisecond(ms as i64).ok())
    }
}

#[derive(Default)]
struct Exception {
    kind: Option<Words>,
    message: Option<Words>,
}

impl<'de> Take<'de> for Exception {
    fn fields<A: MapAccess<'de>>(mut fields: A) -> Result<Self, A::Error> {
        let mut found = Self::default();
        while let Some(key) = fields.next_key::<String>()? {
            match key.as_str() {
                "type" => found.kind = fields.next_value()?,
                "message" => found.message = fields.next_value()?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// The skew in a list of logged objects: `[{"snapshot": {"skew": …}}]`.
#[derive(Default)]
struct Objects(Option<i64>);

impl<'de> Take<'de> for Objects {
    fn items<A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut found = None;
        while let Some(Loose(Logged(skew))) = items.next_element()? {
            found = found.or(skew);
        }
        Ok(Self(found))
    }
}

#[derive(Default)]
struct Logged(Option<i64>);

impl<'de> Take<'de> for Logged {
    fn fields<A: MapAccess<'de>>(mut fields: A) -> Result<Self, A::Error> {
        let mut found = None;
        while let Some(key) = fields.next_key::<String>()? {
            if key == "snapshot" {
                found = fields.next_value::<Loose<Snapshot>>()?.0.0;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Self(found))
    }
}

#[derive(Default)]
struct Snapshot(Option<i64>);

impl<'de> Take<'de> for Snapshot {
    fn fields<A: MapAccess<'de>>(mut fields: A) -> Result<Self, A::Error> {
        let mut found = None;
        while let Some(key) = fields.next_key::<String>()? {
            if key == "skew" {
                found = fields.next_value::<Loose<Milliseconds>>()?.0.0;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Self(found))
    }
}

#[derive(Default)]
struct Milliseconds(Option<i64>);

impl Take<'_> for Milliseconds {
    fn number(ms: f64) -> Self {
        // Thirty years: no clock is further off.
        Self((ms.abs() < 1e12).then_some(ms as i64))
    }
}
