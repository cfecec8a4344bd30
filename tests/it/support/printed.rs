//! The commands of the documentation, as they are printed.

use std::fs;
use std::path::Path;

/// The shell scripts below a heading (`## …`) of a page, up to the next heading of any level.
#[track_caller]
pub(crate) fn printed(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let text = format!("\n{text}");
    let section = text.split_once(&format!("\n{heading}\n")).map(|(_, rest)| rest);
    let section = section.unwrap_or_else(|| panic!("{page} has no section {heading}"));
    // A comment of a script begins like a heading.
    let ends = section.match_indices("\n#").find(|(at, _)| section[..*at].matches("\n```").count() % 2 == 0);
    let section = &section[..ends.map_or(section.len(), |(at, _)| at)];
    let scripts: Vec<String> = section
        .split("\n```sh\n")
        .skip(1)
        .map(|rest| rest.split_once("\n```\n").or_else(|| rest.split_once("\n```")))
        .map(|script| script.expect("a fence is closed").0.to_owned())
        .collect();
    assert!(!scripts.is_empty(), "no commands below {heading}");
    scripts
}
