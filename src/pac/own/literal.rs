//! The few literals of JavaScript that our own PAC file holds: strings, numbers, `true` and `false`,
//! arrays, objects with strings for keys, and regular expressions of alternatives.

use std::collections::BTreeMap;

/// How deep values lie in values, in any file of ours.
const DEEPEST: usize = 4;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u32),
    Truth(bool),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    /// The alternatives of a regular expression, as heads of patterns.
    Expression(Vec<String>),
}

impl Value {
    pub(super) fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn number(self) -> Option<u32> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn truth(self) -> Option<bool> {
        if let Self::Truth(truth) = self { Some(truth) } else { None }
    }

    pub(super) fn list(self) -> Option<Vec<Self>> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    pub(super) fn map(self) -> Option<BTreeMap<String, Self>> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    pub(super) fn alternatives(self) -> Option<Vec<String>> {
        if let Self::Expression(heads) = self { Some(heads) } else { None }
    }
}

/// Reads lines of comments and `var NAME = VALUE;`; none where anything else stands there.
pub(super) fn variables(text: &str) -> Option<BTreeMap<String, Value>> {
    let mut rest = text.trim();
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
            continue;
        }
        let (name, after) = rest.strip_prefix("var ")?.split_once(" = ")?;
        let (value, after) = value(after, DEEPEST)?;
        rest = after.strip_prefix(';')?.trim_start();
        found.insert(name.to_owned(), value);
    }
    Some(found)
}

/// Reads one value; returns what stands behind it.
fn value(text: &str, depth: usize) -> Option<(Value, &str)> {
    let text = text.trim_start();
    let below = depth.checked_sub(1)?;
    match text.chars().next()? {
        '"' => string(text).map(|(text, rest)| (Value::Text(text), rest)),
        '0'..='9' => {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            Some((Value::Number(text[..end].parse().ok()?), &text[end..]))
        }
        't' => Some((Value::Truth(true), text.strip_prefix("true")?)),
        'f' => Some((Value::Truth(false), text.strip_prefix("false")?)),
        '/' => expression(text),
        '[' => {
            let mut list = Vec::new();
            let rest = items(&text[1..], ']', |text| {
                let (item, rest) = value(text, below)?;
                list.push(item);
                Some(rest)
            })?;
            Some((Value::List(list), rest))
        }
        '{' => {
            let mut map = BTreeMap::new();
            let rest = items(&text[1..], '}', |text| {
                let (key, rest) = string(text)?;
                let (item, rest) = value(rest.trim_start().strip_prefix(':')?, below)?;
                map.insert(key, item);
                Some(rest)
            })?;
            Some((Value::Map(map), rest))
        }
        _ => None,
    }
}

/// Reads items with commas between them up to an end; returns what stands behind it.
fn items<'a>(text: &'a str, end: char, mut item: impl FnMut(&'a str) -> Option<&'a str>) -> Option<&'a str> {
    let mut rest = text.trim_start();
    if let Some(behind) = rest.strip_prefix(end) {
        return Some(behind);
    }
    loop {
        rest = item(rest)?.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return rest.strip_prefix(end),
        }
    }
}

/// Reads a string as [`super::super::quote`] writes it.
fn string(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut units = Vec::new();
    let mut at = text.char_indices();
    while let Some((index, character)) = at.next() {
        match character {
            '"' => return Some((String::from_utf16(&units).ok()?, &text[index + 1..])),
            '\\' => match at.next()?.1 {
                'u' => {
                    let digits = text.get(index + 2..index + 6)?;
                    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                    units.push(u16::from_str_radix(digits, 16).ok().filter(|_| plain)?);
                    at.nth(3);
                }
                character @ ('"' | '\\') => units.push(character as u16),
                _ => return None,
            },
            '\n' => return None,
            character => units.extend_from_slice(character.encode_utf16(&mut [0; 2])),
        }
    }
    None
}

/// Reads `/^(?:A|B)$/`, each alternative as the head of a pattern that means the same.
fn expression(text: &str) -> Option<(Value, &str)> {
    let (inner, rest) = text.strip_prefix("/^(?:")?.split_once(")$/")?;
    let heads = inner.split('|').map(head).collect::<Option<_>>()?;
    Some((Value::Expression(heads), rest))
}

/// The head of a pattern that a regular expression of ours was made of.
fn head(expression: &str) -> Option<String> {
    let mut pattern = String::new();
    let mut rest = expression;
    if let Some(behind) = rest.strip_prefix(r".+\.") {
        pattern.push_str("*.");
        rest = behind;
    }
    while let Some(character) = rest.chars().next() {
        // A label of its own takes one character at least, part of one also none.
        if let Some(behind) = rest.strip_prefix("[^.]+") {
            let whole = (pattern.is_empty() || pattern.ends_with('.'))
                && (behind.is_empty() || behind.starts_with(r"\."));
            pattern.push('*');
            rest = Some(behind).filter(|_| whole)?;
        } else if let Some(behind) = rest.strip_prefix("[^.]*") {
            pattern.push('*');
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(r"\.") {
            pattern.push('.');
            rest = behind;
        } else if character.is_ascii_alphanumeric() || matches!(character, '-' | '_') {
            pattern.push(character);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(pattern)
}
