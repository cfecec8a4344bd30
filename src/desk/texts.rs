//! All words that the desk check says to people, in one table, `texts.json`, by language. A language is added
//! there and nowhere else: the page takes the first that the browser prefers, log and commands are English.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The table as it is handed to the page.
pub const TABLE: &str = include_str!("texts.json");
/// The language of everything but the page.
const HERE: &str = "en";

static ENGLISH: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let mut all: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(TABLE).expect("the table is JSON, which a test holds");
    all.remove(HERE).unwrap_or_default()
});

/// A text in English; none has the key for its text.
#[must_use]
pub fn text(key: &str) -> &str {
    ENGLISH.get(key).map_or(key, String::as_str)
}

/// The same with its `{gaps}` filled.
#[must_use]
pub fn filled(key: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text(key);
    while let Some((before, gap)) = rest.split_once('{') {
        let (name, after) = gap.split_once('}').unwrap_or((gap, ""));
        filled.push_str(before);
        filled.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::VariantArray;

    use super::*;
    use crate::policy::Category;

    fn gaps(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|gap| gap.split_once('}').map(|(name, _)| name)).collect()
    }

    #[test]
    fn all_languages_say_the_same_things_with_the_same_gaps() {
        let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(TABLE).unwrap();
        let english = &all[HERE];
        for (language, texts) in &all {
            assert!(texts.keys().eq(english.keys()), "{language}");
            for (key, text) in texts {
                assert_eq!(gaps(text), gaps(&english[key]), "{language}: {key}");
            }
        }
    }

    #[test]
    fn every_category_has_a_word() {
        for category in Category::VARIANTS {
            assert_ne!(text(&format!("category_{}", category.as_str())), "", "{category:?}");
            assert!(ENGLISH.contains_key(&format!("category_{}", category.as_str())), "{category:?}");
        }
    }

    #[test]
    fn what_fills_a_gap_is_not_read_again() {
        let values = [("count", "{all}".to_owned()), ("all", "5".to_owned())];
        assert!(filled("turn_dns_some", &values).contains("names of {all} of Amazon's 5 voice"));
        assert_eq!(filled("no such key", &[]), "no such key");
    }
}
