//! Which keys there are, and which one a wrong name was most likely meant to be.

use super::Config;
use super::problem::nearest;

/// Why a section's name is wrong; none where it is right.
pub(super) fn section(name: &str) -> Option<String> {
    let known = Config::keys();
    if known.iter().any(|(section, _)| *section == name) {
        return None;
    }
    let names = known.iter().map(|(section, _)| *section);
    let nearest = nearest(name, names.clone()).unwrap_or_default();
    let all = names.collect::<Vec<_>>().join(", ");
    Some(format!("unknown section, did you mean `{nearest}`? The sections are {all}"))
}

/// Why a key's name is wrong; none where it is right.
pub(super) fn key(section: &str, name: &str) -> Option<String> {
    let known = Config::keys();
    let keys = known.iter().find(|(known, _)| *known == section)?.1;
    if keys.contains(&name) {
        return None;
    }
    // The right name in the wrong section says more than a similar one in the right section.
    let elsewhere = known.iter().find(|(_, keys)| keys.contains(&name));
    let nearest = match elsewhere {
        Some((other, _)) => format!("{other}.{name}"),
        None => nearest(name, keys.iter().copied()).unwrap_or_default().to_owned(),
    };
    let all = keys.join(", ");
    Some(format!("unknown key, did you mean `{nearest}`? The keys of {section} are {all}"))
}

/// Why a value cannot stand above all sections.
pub(super) fn homeless(name: &str) -> String {
    let known = Config::keys();
    if let Some((section, _)) = known.iter().find(|(section, _)| *section == name) {
        return format!("expected a section: write [{section}] and its keys below");
    }
    let section = known.iter().find(|(_, keys)| keys.contains(&name));
    match section {
        Some((section, _)) => {
            format!("unknown key outside of any section, did you mean `{section}.{name}`?")
        }
        None => self::section(name).unwrap_or_default(),
    }
}
