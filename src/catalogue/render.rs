//! The allow list as text: for people, for programs, and for other proxies' configurations.
//!
//! Pure: rules in, one string with a final newline out; the order of the rules is kept.

use std::fmt::Write as _;

use serde::Serialize;
use strum::{EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::policy::{Breadth, Category, Generation, Protocol, Rule};

/// How `ccpgate allowlist` prints; its help says the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString, EnumMessage)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Columns under one heading a category, sources below.
    Table,
    /// An array of objects.
    Json,
    /// Each pattern once, one a line.
    Txt,
}

/// Prints `rules` in their order.
pub fn render(rules: &[Rule], format: Format) -> String {
    match format {
        Format::Table => table(rules),
        Format::Json => json(rules),
        Format::Txt => txt(rules),
    }
}

fn table(rules: &[Rule]) -> String {
    let mut sources: Vec<&str> = Vec::new();
    let mut rows =
        vec![["pattern", "port", "category", "generation", "breadth", "carries"].map(str::to_owned)];
    for rule in rules {
        let at = sources.iter().position(|known| *known == rule.source).unwrap_or_else(|| {
            sources.push(&rule.source);
            sources.len() - 1
        });
        rows.push([
            rule.pattern.as_str().to_owned(),
            ports(rule),
            rule.category.as_str().to_owned(),
            <&str>::from(rule.generation).to_owned(),
            <&str>::from(rule.breadth).to_owned(),
            format!("{} [{}]", rule.carries, at + 1),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        // The last column is not padded, so that no line ends in spaces.
        let _ = writeln!(text, "{}", row[5]);
    }
    if !sources.is_empty() {
        text.push_str("\nsources\n");
    }
    for (at, source) in sources.iter().enumerate() {
        let _ = writeln!(text, "{:>4} {source}", format!("[{}]", at + 1));
    }
    text
}

/// Such as `443/tcp` or `80,443/tcp`.
fn ports(rule: &Rule) -> String {
    let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
    format!("{}/{}", ports.join(","), <&str>::from(rule.protocol))
}

/// The keys that scripts rely on; adding is fine, renaming is not.
#[derive(Serialize)]
struct Line<'a> {
    pattern: &'a str,
    ports: &'a [u16],
    protocol: Protocol,
    category: Category,
    generation: Generation,
    breadth: Breadth,
    carries: &'a str,
    agent_sees: &'a str,
    source: &'a str,
}

fn json(rules: &[Rule]) -> String {
    let lines: Vec<Line<'_>> = rules
        .iter()
        .map(|rule| Line {
            pattern: rule.pattern.as_str(),
            ports: &rule.ports,
            protocol: rule.protocol,
            category: rule.category,
            generation: rule.generation,
            breadth: rule.breadth,
            carries: &rule.carries,
            agent_sees: &rule.agent_sees,
            source: &rule.source,
        })
        .collect();
    let mut text =
        serde_json::to_string_pretty(&lines).expect("strings, numbers and unit variants always serialise");
    text.push('\n');
    text
}

fn txt(rules: &[Rule]) -> String {
    let mut seen = std::collections::HashSet::new();
    let mut text = String::new();
    for pattern in rules.iter().map(|rule| rule.pattern.as_str()).filter(|pattern| seen.insert(*pattern)) {
        text.push_str(pattern);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Feature, resolve};
    use super::*;

    fn rules() -> Vec<Rule> {
        let choice = Choice { features: Feature::VARIANTS.to_vec(), ..Choice::default() };
        resolve(&choice).rules
    }

    #[test]
    fn table_is_aligned_and_names_its_sources() {
        let rules = rules();
        let text = render(&rules, Format::Table);
        let (body, sources) = text.split_once("\n\nsources\n").expect("both parts");
        let column = body.lines().next().expect("heading").find("carries").expect("column");
        for (line, rule) in body.lines().skip(1).zip(&rules) {
            assert!(line.starts_with(rule.pattern.as_str()) && line.ends_with(']'), "{line}");
            assert!(line[column..].starts_with(&rule.carries), "{line}");
        }
        assert_eq!(body.lines().count(), rules.len() + 1);
        assert!(sources.contains(" [1] AWS ") && sources.ends_with('\n'));
        assert_eq!(render(&[], Format::Table).lines().count(), 1);
    }

    #[test]
    fn json_has_the_promised_keys() {
        let rules = rules();
        let value: serde_json::Value = serde_json::from_str(&render(&rules, Format::Json)).expect("JSON");
        let array = value.as_array().expect("array");
        assert_eq!(array.len(), rules.len());
        for object in array {
            for key in ["pattern", "protocol", "category", "generation", "breadth", "carries", "source"] {
                assert!(object[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {object}");
            }
            assert!(object["ports"].as_array().is_some_and(|ports| !ports.is_empty()));
        }
        assert_eq!(render(&[], Format::Json), "[]\n");
    }

    #[test]
    fn txt_has_each_pattern_once() {
        let text = render(&rules(), Format::Txt);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| **line == "*.chime.aws").count(), 1);
        assert!(lines.contains(&"*.my.connect.aws"));
    }
}
