//! One layer at a time, from text to a table of known keys: TOML files, variables, `--set` flags. Unknown
//! keys are reported here, each with its suggestion. Values are judged after the layers merge, so that a
//! stronger layer can replace a wrong value.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, quoted, shown};
use super::source::{Lines, Position, Source};
use super::suggest;

/// A layer with nothing but known keys in it.
pub(super) struct Layer {
    pub source: Source,
    pub dict: Dict,
    /// Where the keys stand; empty for layers that are not files.
    pub positions: BTreeMap<String, Position>,
}

impl Layer {
    /// A TOML document. Wrong syntax leaves an empty layer.
    pub(super) fn document(source: Source, text: &str, problems: &mut Vec<Problem>) -> Self {
        let mut layer = Self { source, dict: Dict::new(), positions: BTreeMap::new() };
        let (document, errors) = DeTable::parse_recoverable(text);
        let (twice, errors): (Vec<_>, Vec<_>) =
            errors.into_iter().partition(|error| error.message() == "duplicate key");
        // A key that is written twice is an error of its own: the rest is read all the same.
        if errors.is_empty() {
            let mut outline = Outline { lines: Lines::of(text), positions: &mut layer.positions };
            layer.dict = outline.table("", document.get_ref());
            layer.keep_known(problems);
            let spans = twice.iter().filter_map(toml::de::Error::span).collect();
            problems.extend(layer.written_twice(text, spans));
        }
        problems.extend(errors.iter().map(|error| Problem {
            source: layer.source.clone(),
            position: error.span().map(|span| Position::of(text, span.start)),
            key: None,
            value: None,
            message: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
        }));
        layer
    }

    /// A TOML document as far as it can be read, with whatever keys it has.
    pub(super) fn legible(source: Source, text: &str) -> Self {
        let mut layer = Self { source, dict: Dict::new(), positions: BTreeMap::new() };
        let (document, _) = DeTable::parse_recoverable(text);
        let mut outline = Outline { lines: Lines::of(text), positions: &mut layer.positions };
        layer.dict = outline.table("", document.get_ref());
        layer
    }

    /// Reports the keys at these places, which repeat others. To find the first of each, all of them are
    /// renamed and the text is read once more.
    fn written_twice(&self, text: &str, spans: Vec<Range<usize>>) -> Vec<Problem> {
        let probe = |at: usize| format!("--second-{at}--");
        let mut renamed = text.to_owned();
        let mut places: Vec<(usize, &Range<usize>)> = spans.iter().enumerate().collect();
        places.sort_by_key(|(_, span)| Reverse(span.start));
        for (at, span) in places {
            renamed.replace_range(span.clone(), &probe(at));
        }
        let mut positions = BTreeMap::new();
        let (document, _) = DeTable::parse_recoverable(&renamed);
        Outline { lines: Lines::of(&renamed), positions: &mut positions }.table("", document.get_ref());
        let problem = |(at, span): (usize, &Range<usize>)| {
            let name = unquoted(&text[span.clone()]).unwrap_or_default();
            let ends = |key: &&String| key.trim_end_matches('"').ends_with(&probe(at));
            let mut key =
                positions.keys().find(ends).map_or(name.clone(), |key| key.replace(&probe(at), &name));
            // The table around it may be a repetition, too.
            for (other, span) in spans.iter().enumerate() {
                key = key.replace(&probe(other), &unquoted(&text[span.clone()]).unwrap_or_default());
            }
            let first = positions
                .get(&key)
                .map_or(String::new(), |first| format!(", the first time in line {}", first.line));
            Problem {
                source: self.source.clone(),
                position: Some(Position::of(text, span.start)),
                key: Some(key),
                value: None,
                message: format!("written twice{first}: keep one of the two"),
            }
        };
        spans.iter().enumerate().map(problem).collect()
    }

    /// A variable `CCPGATE_SECTION__KEY`; none where the name is not of this form.
    pub(super) fn variable(name: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let (section, key) = section_and_key(name)?;
        let path = [section.to_ascii_lowercase(), key.to_ascii_lowercase()];
        let source = Source::Environment(name.to_owned());
        let text = if text.contains(char::REPLACEMENT_CHARACTER) {
            Err("not valid UTF-8".to_owned())
        } else {
            Ok(text)
        };
        Some(Self::assignment(source, &path, text, problems))
    }

    /// A flag's `section.key=value`.
    pub(super) fn flag(flag: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let path_and_text = split_unquoted(flag, '=').and_then(|(path, text)| {
            let mut path_parts = Vec::new();
            let mut rest = path;
            while let Some((part, others)) = split_unquoted(rest, '.') {
                path_parts.push(unquoted(part)?);
                rest = others;
            }
            path_parts.push(unquoted(rest)?);
            (path_parts.len() > 1 || path_parts == ["allow"]).then_some((path_parts, text))
        });
        let Some((path, text)) = path_and_text else {
            problems.push(Problem {
                source: Source::Set,
                position: None,
                key: Some(quoted(flag)),
                value: None,
                message: "expected SECTION.KEY=VALUE, such as log.level=debug".to_owned(),
            });
            return None;
        };
        Some(Self::assignment(Source::Set, &path, Ok(text), problems))
    }

    fn assignment(
        source: Source,
        path: &[String],
        text: Result<&str, String>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut layer = Self { source, dict: Dict::new(), positions: BTreeMap::new() };
        match text.and_then(value_of) {
            Ok(value) => {
                let nest = |inner, name: &String| Value::from(Dict::from([(name.clone(), inner)]));
                if let Value::Dict(_, dict) = path.iter().rev().fold(value, nest) {
                    layer.dict = dict;
                }
                layer.keep_known(problems);
            }
            Err(message) => problems.push(layer.problem(&path.join("."), None, message)),
        }
        layer
    }

    /// Drops and reports names that are no keys of the configuration.
    fn keep_known(&mut self, problems: &mut Vec<Problem>) {
        let mut kept = Dict::new();
        for (section, mut value) in std::mem::take(&mut self.dict) {
            let wrong = suggest::section(&section);
            match &mut value {
                Value::Array(_, items) if section == "allow" => {
                    for (index, item) in items.iter_mut().enumerate() {
                        if let Value::Dict(_, keys) = item {
                            self.keep_known_keys(&format!("allow[{index}]"), "allow", keys, problems);
                        }
                    }
                }
                _ if section == "allow" => {
                    let message = match self.source {
                        Source::File(_) => "expected a list of tables: write [[allow]], with two brackets",
                        _ => {
                            "expected a list of tables: use [[allow]] in the file, or --set 'allow=[{ pattern = \"…\" }]'"
                        }
                    };
                    problems.push(self.problem("allow", None, message.to_owned()));
                    continue;
                }
                Value::Dict(_, keys) if wrong.is_none() => {
                    self.keep_known_keys(&section, &section, keys, problems);
                }
                Value::Dict(..) => {
                    problems.push(self.problem(&section, None, wrong.unwrap_or_default()));
                    continue;
                }
                _ => {
                    let message = suggest::homeless(&section);
                    problems.push(self.problem(&section, Some(&value), message));
                    continue;
                }
            }
            kept.insert(section, value);
        }
        self.dict = kept;
    }

    fn keep_known_keys(&self, at: &str, section: &str, keys: &mut Dict, problems: &mut Vec<Problem>) {
        keys.retain(|name, value| {
            let wrong = suggest::key(section, name);
            if let Some(message) = &wrong {
                problems.push(self.problem(&format!("{at}.{name}"), Some(value), message.clone()));
            }
            wrong.is_none()
        });
    }

    fn problem(&self, key: &str, value: Option<&Value>, message: String) -> Problem {
        Problem {
            source: self.source.clone(),
            position: self.positions.get(key).copied(),
            key: Some(key.to_owned()),
            value: value.map(shown),
            message,
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let metadata = Metadata::named(self.source.to_string());
        match &self.source {
            Source::Default | Source::Set => metadata,
            Source::File(path) => metadata.source(path.as_path()),
            Source::Environment(name) => metadata.source(name.as_str()),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// A value in the environment or after `--set`: TOML where it begins like a TOML list, table or
/// quoted string, else text as it stands. `[::1]:3128` is text, too.
fn value_of(text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    let closing = match trimmed.chars().next() {
        Some('[') => ']',
        Some('{') => '}',
        Some(quote @ ('"' | '\'')) => quote,
        _ => return Ok(Value::from(text)),
    };
    match DeValue::parse(trimmed) {
        Ok(value) => {
            let mut outline = Outline { lines: Lines::of(trimmed), positions: &mut BTreeMap::new() };
            Ok(outline.value("", value.get_ref()))
        }
        Err(_) if !trimmed.ends_with(closing) => Ok(Value::from(text)),
        Err(error) => {
            Err(format!("{} is not valid TOML: {}", quoted(text), error.message().replace('\n', ", ")))
        }
    }
}

/// The two of a variable `CCPGATE_SECTION__KEY`; none where the name is not of this form.
pub(super) fn section_and_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("CCPGATE_")?.split_once("__").filter(|(section, _)| !section.is_empty())
}

/// Splits at the first `at` outside of quotes.
fn split_unquoted(text: &str, at: char) -> Option<(&str, &str)> {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == at => return Some((&text[..index], &text[index + c.len_utf8()..])),
            None => {}
        }
    }
    None
}

fn unquoted(part: &str) -> Option<String> {
    let part = part.trim();
    let inner = ['"', '\'']
        .iter()
        .find_map(|quote| part.strip_prefix(*quote).and_then(|part| part.strip_suffix(*quote)));
    let part = inner.unwrap_or(part);
    (!part.is_empty()).then(|| part.to_owned())
}

/// Turns a parsed document into figment's values and notes where each key stands.
struct Outline<'a> {
    lines: Lines<'a>,
    positions: &'a mut BTreeMap<String, Position>,
}

impl Outline<'_> {
    fn table(&mut self, at: &str, table: &DeTable<'_>) -> Dict {
        let mut dict = Dict::new();
        for (name, value) in table {
            let name_text = name.get_ref();
            // As in messages: `dns.hosts."a.example"`, where users choose the last part.
            let key = match at {
                "" => name_text.to_string(),
                _ if at.contains('.') => format!("{at}.{}", quoted(name_text)),
                _ => format!("{at}.{name_text}"),
            };
            self.note(&key, name);
            dict.insert(name_text.to_string(), self.value(&key, value.get_ref()));
        }
        dict
    }

    fn value(&mut self, key: &str, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(digits.as_str()),
            },
            // No key takes such a value; as text it shows in messages as it was written.
            DeValue::Float(digits) => Value::from(digits.as_str()),
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Boolean(flag) => Value::from(*flag),
            DeValue::Table(table) => Value::from(self.table(key, table)),
            DeValue::Array(items) => {
                let item = |(index, item): (usize, &Spanned<DeValue<'_>>)| {
                    let key = format!("{key}[{index}]");
                    self.note(&key, item);
                    self.value(&key, item.get_ref())
                };
                Value::from(items.iter().enumerate().map(item).collect::<Vec<_>>())
            }
        }
    }

    fn note<T>(&mut self, key: &str, spanned: &Spanned<T>) {
        self.positions.insert(key.to_owned(), self.lines.position(spanned.span().start));
    }
}
