//! The kinds of `egress.proxy` and `ranges.url`. Apart from the others, because what is written there, by
//! mistake or not, may hold a password or a signature, which no message repeats.

use figment::value::Value;
use serde_json::{Value as Json, json};

use super::kind::Kind;
use super::problem::{as_text, without_query, without_secret};
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

    fn show(&self, value: &Self::Value) -> toml::Value {
        let shown = value.as_ref().map(|url| without_query(&url.to_string()));
        toml::Value::String(shown.unwrap_or_default())
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^$|^[Hh][Tt][Tt][Pp][Ss]://[^@/?#]+" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_query() {
        let shown = |text: &str| OptionalUrl.show(&Some(Url::parse(text).unwrap()));
        assert_eq!(
            shown("https://mirror.corp/x?who=a@b&sig=S3cret").as_str(),
            Some("https://mirror.corp/x?...")
        );
        assert_eq!(shown("https://mirror.corp/x").as_str(), Some("https://mirror.corp/x"));
        assert_eq!(OptionalUrl.show(&None).as_str(), Some(""));
    }
}
