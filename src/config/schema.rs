//! `config schema`: the JSON Schema of the configuration file, for editors. Built from the list
//! of keys, so it cannot differ from what is read.

use serde_json::{Value as Json, json};

use super::Config;
use super::load::DEFAULT;
use super::section::Section as _;
use super::sections::Allow;

/// The JSON Schema (draft 2020-12) of a configuration file.
pub fn schema() -> Json {
    let mut properties = serde_json::Map::new();
    // The defaults as the file writes them: `Config` would have this machine's absolute paths.
    let defaults: Json = toml::from_str(DEFAULT).unwrap_or_default();
    for about in Config::about() {
        let name = about.name;
        let mut section = about.schema(&[]);
        if let Some(keys) = section["properties"].as_object_mut() {
            for (key, schema) in keys {
                schema["default"] = defaults[name][key].clone();
            }
        }
        properties.insert(name.to_owned(), section);
    }
    let allow = Allow::about();
    let (name, text) = (allow.name, allow.text);
    let items = allow.schema(&["pattern"]);
    let list = json!({ "type": "array", "description": text, "items": items, "default": [] });
    properties.insert(name.to_owned(), list);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ccpgate configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_default_and_a_meaning() {
        let schema = schema();
        for (section, keys) in Config::keys() {
            let about = &schema["properties"][section];
            assert!(about["description"].as_str().is_some_and(|text| text.len() > 10), "{section}");
            let table = if section == "allow" { &about["items"] } else { about };
            assert_eq!(table["additionalProperties"], json!(false), "{section}");
            for key in keys {
                let property = &table["properties"][key];
                assert!(property["description"].is_string(), "{section}.{key}");
                let required = (section, *key) == ("allow", "pattern");
                assert_eq!(property["default"].is_null(), required, "{section}.{key}");
            }
        }
        assert_eq!(schema["properties"]["policy"]["properties"]["tls"]["enum"], json!(["sni", "tls", "off"]));
    }

    #[test]
    fn the_embedded_default_has_no_other_keys() {
        let defaults: toml::Table = toml::from_str(DEFAULT).unwrap();
        for (section, keys) in Config::keys().into_iter().filter(|(name, _)| *name != "allow") {
            let table = defaults[section].as_table().unwrap();
            assert_eq!(table.len(), keys.len(), "{section}");
        }
    }
}
