//! The shape of `symptoms.toml`: what the panel and its log say, and what that proves. Data only; `explain`
//! does the matching.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::catalogue;
use crate::cause::Cause;
use crate::policy::Category;

/// The embedded rows, parsed at first use.
pub fn symptoms() -> &'static [Symptom] {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        symptom: Vec<Symptom>,
    }
    static SYMPTOMS: LazyLock<Vec<Symptom>> = LazyLock::new(|| {
        let file: File = toml::from_str(include_str!("symptoms.toml"))
            .expect("the embedded symptoms are well formed: the test `references_resolve` reads them");
        file.symptom
    });
    &SYMPTOMS
}

/// One row; the head of `symptoms.toml` explains the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symptom {
    pub id: String,
    pub texts: Vec<Text>,
    /// Ids of endpoints, the likeliest first.
    pub endpoints: Vec<String>,
    #[serde(default)]
    pub causes: Vec<Cause>,
    /// False: the network has nothing to do with it.
    #[serde(default = "yes")]
    pub network: bool,
    pub verdict: Side,
    pub story: Story,
    /// Seconds until the text appears.
    pub after_s: Option<u32>,
    pub means: String,
    pub decides: Option<String>,
    pub remedy: Option<String>,
    /// Ids of rows that add nothing where this one matches.
    #[serde(default)]
    pub hides: Vec<String>,
    #[serde(default)]
    pub weak: bool,
    /// False: never a line of the log.
    #[serde(default = "yes")]
    pub log: bool,
    pub source: Vec<String>,
}

impl Symptom {
    /// The categories of its endpoints, the likeliest first.
    #[must_use]
    pub fn categories(&self) -> Vec<Category> {
        let mut found = Vec::new();
        for row in self.endpoints.iter().filter_map(|id| catalogue().endpoint(id)) {
            if !found.contains(&row.category) {
                found.push(row.category);
            }
        }
        found
    }

    /// What to do: the row's own words, or those of its likeliest cause.
    #[must_use]
    pub(crate) fn remedy(&self) -> &str {
        match (&self.remedy, self.causes.first()) {
            (Some(remedy), _) => remedy,
            (None, Some(cause)) => cause.about().remedy,
            (None, None) => "",
        }
    }
}

/// One sentence, or several that have to be there in this order.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Text {
    One(String),
    InOrder(Vec<String>),
}

impl Text {
    pub fn parts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::InOrder(texts) => texts,
        }
    }
}

/// Whose side a failure lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Network,
    Proxy,
    Aws,
    Desk,
    Unknown,
}

/// What lines of a log belong to; lines of one story that are close together are one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Story {
    /// From the offer of a call to its first sound.
    Call,
    /// The sound of a call under way.
    Sound,
    /// The WebSocket.
    Line,
    Api,
    Login,
    Desk,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn references_resolve() {
        let ids: BTreeSet<&str> = symptoms().iter().map(|row| row.id.as_str()).collect();
        assert!(ids.len() > 20);
        assert_eq!(ids.len(), symptoms().len(), "ids are unique");
        let mut texts = BTreeSet::new();
        for row in symptoms() {
            for id in &row.endpoints {
                assert!(catalogue().endpoint(id).is_some(), "{}: {id}", row.id);
            }
            assert!(row.hides.iter().all(|id| ids.contains(id.as_str()) && *id != row.id), "{}", row.id);
            assert!(!row.source.is_empty(), "{}", row.id);
            assert!(row.source.iter().all(|id| catalogue().sources.contains_key(id)), "{}", row.id);
            assert!(!row.texts.is_empty() && !row.means.is_empty() && !row.remedy().is_empty(), "{}", row.id);
            assert!(row.texts.iter().all(|text| !text.parts().is_empty()), "{}", row.id);
            assert!(row.texts.iter().all(|text| texts.insert(text.parts())), "{}: a text twice", row.id);
            if !row.network {
                assert_ne!(row.verdict, Side::Network, "{}", row.id);
                assert!(row.causes.is_empty(), "{}", row.id);
            }
            assert_ne!(row.verdict, Side::Proxy, "{}: only what the proxy saw says that", row.id);
        }
    }
}
