//! The kinds of `egress.proxy` and `ranges.url`. Apart from the others, because what is written there by
//! mistake may hold a password, which no message repeats.

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::kind::Kind;
use super::problem::as_text;
use super::read::Reading;
use crate::egress::url::{ParentUrl, Url};

/// The URL of a parent proxy, or `""` for none.
pub(super) struct OptionalParent;

impl Kind for OptionalParent {
    type Value = Option<ParentUrl>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value> {
        const EXPECTED: &str = r#"expected "http://HOST:PORT" or "https://HOST:PORT""#;
        let text = as_text(value).unwrap_or_default();
        let why = match text.trim() {
            "" if matches!(value, Value::String(..)) => return Some(None),
            "" => EXPECTED.to_owned(),
            text => match ParentUrl::parse(text) {
                Ok(url) => return Some(Some(url)),
                Err(why) => format!("{why}; {EXPECTED}"),
            },
        };
        reading.fault(key, &Value::String(value.tag(), without_secret(&text)), why);
        None
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        toml::Value::String(value.as_ref().map_or_else(String::new, ToString::to_string))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^$|^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#]+:[0-9]+/?$" })
    }
}

/// Where a file is fetched from, over HTTPS; `""` for nowhere.
pub(super) struct OptionalUrl;

impl Kind for OptionalUrl {
    type Value = Option<Url>;

    fn read(&self, key: &str, value: &Value, reading: &mut Reading<'_>) -> Option<Self::Value> {
        const EXPECTED: &str =
            r#"expected "https://HOST/PATH", such as "https://ip-ranges.amazonaws.com/ip-ranges.json""#;
        let text = as_text(value).unwrap_or_default();
        let why = match text.trim() {
            "" if matches!(value, Value::String(..)) => return Some(None),
            "" => EXPECTED.to_owned(),
            text => match Url::parse(text) {
                Ok(url) if url.https => return Some(Some(url)),
                Ok(_) => format!("what comes over plain HTTP may be anybody's; {EXPECTED}"),
                Err(_) => EXPECTED.to_owned(),
            },
        };
        reading.fault(key, &Value::String(value.tag(), without_secret(&text)), why);
        None
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        toml::Value::String(value.as_ref().map_or_else(String::new, ToString::to_string))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^$|^[Hh][Tt][Tt][Pp][Ss]://[^@/?#]+" })
    }
}

/// What stands before the last `@` is left out, but for the scheme.
fn without_secret(text: &str) -> String {
    match (text.rsplit_once('@'), text.split_once("://")) {
        (Some((_, host)), Some((scheme, _))) if !scheme.contains('@') => format!("{scheme}://...@{host}"),
        (Some((_, host)), _) => format!("...@{host}"),
        _ => text.to_owned(),
    }
}
