//! What can be wrong with a configuration, and the sentence that says so. Every problem names its source,
//! its key, the value found and what would be valid; other files find them.

use std::fmt;

use figment::value::Value;

use super::Config;
use super::source::{Position, Provenance, Source};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, variable or flag at fault.
    pub source: Source,
    /// Where in the file, counted from 1.
    pub position: Option<Position>,
    /// The key as a path, `proxy.listen[1]`; none where the whole source is at fault.
    pub key: Option<String>,
    /// The value as it was written, shortened.
    pub value: Option<String>,
    /// Why it is wrong and what would be valid.
    pub message: String,
}

impl Problem {
    /// Whether the problem is about this key, a part of it, or, for a section's name, a key of that
    /// section. A problem without a key is about everything.
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.key.as_deref().is_none_or(|named| {
            named.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

impl Provenance {
    /// A problem that was found after loading, in terms of what the user wrote: `key` as above,
    /// or with a subscript (`policy.deny[2]`, `allow[0].pattern`).
    pub(crate) fn problem(&self, key: &str, value: Option<&str>, message: impl Into<String>) -> Problem {
        let source = self.recorded(key).map_or(Source::Default, |(_, source)| source.clone());
        Problem {
            source,
            position: self.position(key),
            key: Some(key.to_owned()),
            value: value.map(quoted),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match (&self.key, &self.value) {
            (Some(key), Some(value)) => write!(f, ": {key} = {value}: ")?,
            (Some(key), None) => write!(f, ": {key}: ")?,
            (None, _) => write!(f, ": ")?,
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, at once; one line each. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    pub problems: Vec<Problem>,
    pub(super) rest: Option<Box<Config>>,
}

impl ConfigErrors {
    /// The configuration with defaults in place of all that is wrong, so that more can be checked. None
    /// where a key of `section` is wrong.
    #[must_use]
    pub(crate) fn rest_if_sound(&self, section: &str) -> Option<&Config> {
        self.rest.as_deref().filter(|_| self.problems.iter().all(|problem| !problem.concerns(section)))
    }
}

impl From<Problem> for ConfigErrors {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem], rest: None }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Why a value is wrong, if there is more to say than that it is, and what would be valid.
pub(super) fn sentence(why: &str, expects: &str) -> String {
    match why {
        "" => format!("expected {expects}"),
        // After a question mark a new sentence begins.
        _ if why.ends_with('?') => format!("{why} Expected {expects}"),
        _ => format!("{why}; expected {expects}"),
    }
}

/// A value from outside for a message: quoted, escaped, at most 60 characters.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// A string, or the digits of a number.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(_, number) => number.to_i128().map(|number| number.to_string()),
        _ => None,
    }
}

/// A URL for a message: what stands before the last `@` is left out, but for the scheme, and what follows the path.
pub(super) fn without_secret(text: &str) -> String {
    match (text.find(['?', '#']), text.rfind('@')) {
        // A password with such a sign, or a query with an `@`: nothing tells which.
        (Some(sign), Some(at)) if sign < at => {
            text.split_once("://").map_or_else(|| "...".to_owned(), |(scheme, _)| format!("{scheme}://..."))
        }
        _ => without_query(&without_user(text)),
    }
}

/// Whether a text may be a URL, or part of one, that holds a secret.
fn may_hold_secret(text: &str) -> bool {
    let has_query = text.split_once('?').is_some_and(|(_, query)| query.contains('='));
    text.contains("://") || text.contains(['@', '#']) || has_query
}

/// A URL without what follows the path.
pub(super) fn without_query(text: &str) -> String {
    match text.find(['?', '#']) {
        Some(at) => format!("{}...", &text[..=at]),
        None => text.to_owned(),
    }
}

fn without_user(text: &str) -> String {
    match (text.rsplit_once('@'), text.split_once("://")) {
        (Some((_, host)), Some((scheme, _))) if !scheme.contains('@') => format!("{scheme}://...@{host}"),
        (Some((_, host)), _) => format!("...@{host}"),
        _ => text.to_owned(),
    }
}

/// A value for a message, about as TOML writes it. Under a misspelt key it may be a URL that holds a secret, with or
/// without its scheme, so each is shown without.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::String(_, text) if may_hold_secret(text) => quoted(&without_secret(text)),
        Value::String(_, text) => quoted(text),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Array(_, items) => {
            let all = items.iter().map(shown).collect::<Vec<_>>().join(", ");
            if all.chars().count() > LONGEST {
                format!("[{}…]", all.chars().take(LONGEST).collect::<String>())
            } else {
                format!("[{all}]")
            }
        }
        Value::Dict(_, dict) if dict.is_empty() => "{}".to_owned(),
        Value::Dict(..) => "{ … }".to_owned(),
        _ => as_text(value).unwrap_or_else(|| "a value".to_owned()),
    }
}

/// The candidate that a typo was most likely meant to be; none when there are no candidates.
pub(super) fn nearest<'a>(typo: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typo = typo.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let plain = candidate.replace('-', "_");
            // A key cut short or spelt out (`timeout`, `listen_address`) is nearer than its
            // edit distance says.
            let related = plain.contains(&typo) || typo.contains(&plain);
            let distance = strsim::damerau_levenshtein(&typo, &plain);
            (if related && !typo.is_empty() { distance.min(2) } else { distance }, candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_gap_where_a_part_is_missing() {
        assert_eq!(sentence("", "a host"), "expected a host");
        assert_eq!(sentence("too long", "a host"), "too long; expected a host");
        assert_eq!(sentence("did you mean \"5s\"?", "a span"), "did you mean \"5s\"? Expected a span");
    }

    #[test]
    fn neither_user_nor_query_is_repeated() {
        for (text, shown) in [
            ("http://me:S3cret@parent.corp:8080", "http://...@parent.corp:8080"),
            ("me:S3cret@parent.corp", "...@parent.corp"),
            ("http://mirror.corp/x?sig=S3cret", "http://mirror.corp/x?..."),
            ("http://me:S3c?ret@mirror.corp/x?sig=S3cret#S3cret", "http://..."),
            ("http://mirror.corp/x?who=a@b&sig=S3cret", "http://..."),
            ("mirror.corp/x#S3cret@S3cret", "..."),
            ("mirror.corp#S3cret", "mirror.corp#..."),
            ("http://mirror.corp/x", "http://mirror.corp/x"),
        ] {
            assert_eq!(without_secret(text), shown, "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_secrets_whatever_key_it_is_written_to() {
        for (text, expected) in [
            ("me:S3cret@parent.corp:8080", r#""...@parent.corp:8080""#),
            ("mirror.corp/x?sig=S3cret", r#""mirror.corp/x?...""#),
            ("mirror.corp/x#S3cret", r#""mirror.corp/x#...""#),
            ("h?st.example", r#""h?st.example""#),
        ] {
            assert_eq!(shown(&Value::from(text)), expected);
        }
        let url = "https://me:S3cret@mirror.corp/x?sig=S3cret";
        assert_eq!(shown(&Value::from(url)), r#""https://...@mirror.corp/x?...""#);
        assert_eq!(shown(&Value::from(vec![url, "a?b"])), r#"["https://...@mirror.corp/x?...", "a?b"]"#);
    }

    #[test]
    fn a_typo_finds_its_key() {
        assert_eq!(nearest("lisen", ["name", "listen", "clients"]), Some("listen"));
        assert_eq!(nearest("listen_address", ["name", "listen", "clients"]), Some("listen"));
        assert_eq!(nearest("half-closed", ["drain", "half_closed"]), Some("half_closed"));
        assert_eq!(nearest("x", []), None);
    }
}
