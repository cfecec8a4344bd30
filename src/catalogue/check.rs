//! Whether the values of `[connect]` can be meant: regions that exist, aliases and buckets that are
//! names. Every problem at once, each with its key and, where one is near, the likely value.
//!
//! No endpoint is known here: the outcome is a [`Chosen`] that `resolve.rs` fills names with.

use std::collections::BTreeMap;

use super::{Catalogue, ConnectChoice, Region};

/// A value of `[connect]` that cannot be meant. The text begins with the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    #[error("connect.regions: empty; name at least one Region, or \"*\" for all; known: {known}")]
    NoRegion { known: String },
    #[error("connect.regions: unknown region {value:?}; {}known: {known}", did_you_mean(.near))]
    UnknownRegion { value: String, near: Vec<String>, known: String },
    #[error(
        "connect.regions: {value:?} ({name}) is not offered as the region of an instance: {reason}; \
         known: {known}"
    )]
    RegionNotOffered { value: String, name: String, reason: String, known: String },
    #[error(
        "connect.instances: {value:?} is not an instance alias; {}valid is one DNS label: 1 to 63 \
         letters, digits and inner hyphens, or \"*\" for any instance", did_you_mean(.near)
    )]
    Instance { value: String, near: Vec<String> },
    #[error(
        "connect.attachment_buckets: {value:?} is not an S3 bucket name; {}valid are 3 to 63 \
         lower-case letters, digits, dots and inner hyphens, no wildcard and no address", did_you_mean(.near)
    )]
    Bucket { value: String, near: Vec<String> },
    #[error("{key}: {value:?} is not a host name: {reason}")]
    Name { key: &'static str, value: String, reason: String },
}

impl CatalogueError {
    /// The configuration key at fault.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::NoRegion { .. } | Self::UnknownRegion { .. } | Self::RegionNotOffered { .. } => {
                "connect.regions"
            }
            Self::Instance { .. } => "connect.instances",
            Self::Bucket { .. } => "connect.attachment_buckets",
            Self::Name { key, .. } => key,
        }
    }
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("did you mean {}? ", near.join(" or ")),
    }
}

/// A choice whose names are valid.
pub(crate) struct Chosen<'a> {
    pub choice: &'a ConnectChoice,
    pub regions: BTreeMap<&'static str, &'static Region>,
    /// Lower case, without `*`, in the order given.
    pub instances: Vec<String>,
    pub any_instance: bool,
}

impl<'a> Chosen<'a> {
    /// All problems at once, in the order of the keys.
    pub(crate) fn check(
        catalogue: &'static Catalogue,
        choice: &'a ConnectChoice,
    ) -> Result<Self, Vec<CatalogueError>> {
        let mut errors = Vec::new();
        let mut regions = BTreeMap::new();
        if choice.regions.is_empty() {
            errors.push(CatalogueError::NoRegion { known: known(catalogue) });
        }
        for value in &choice.regions {
            match catalogue.regions.get_key_value(value.as_str()) {
                _ if value == "*" => regions.extend(catalogue.offered()),
                Some((code, region)) if region.not_offered.is_none() => {
                    regions.insert(code.as_str(), region);
                }
                found => errors.push(region_error(catalogue, value, found.map(|(_, r)| r))),
            }
        }
        let mut instances = Vec::new();
        for value in choice.instances.iter().filter(|value| *value != "*") {
            if is_label(value) {
                instances.push(value.to_ascii_lowercase());
            } else {
                errors.push(CatalogueError::Instance { value: value.clone(), near: alias_in(value) });
            }
        }
        for value in &choice.attachment_buckets {
            if !is_bucket(value) {
                errors.push(CatalogueError::Bucket { value: value.clone(), near: bucket_in(value) });
            }
        }
        if errors.is_empty() {
            let any_instance = choice.instances.iter().any(|value| value == "*");
            Ok(Self { choice, regions, instances, any_instance })
        } else {
            Err(errors)
        }
    }
}

fn known(catalogue: &Catalogue) -> String {
    catalogue.offered().map(|(code, _)| code).collect::<Vec<_>>().join(" ")
}

fn region_error(catalogue: &Catalogue, value: &str, found: Option<&Region>) -> CatalogueError {
    let known = known(catalogue);
    let value = value.to_owned();
    match found {
        Some(Region { name, not_offered: Some(reason), .. }) => {
            CatalogueError::RegionNotOffered { value, name: name.clone(), reason: reason.clone(), known }
        }
        _ => CatalogueError::UnknownRegion { near: near_regions(catalogue, &value), value, known },
    }
}

/// The closest codes, and only close ones: two edits at most, or the same letters but for the
/// number; a list of everything would not help.
fn near_regions(catalogue: &Catalogue, value: &str) -> Vec<String> {
    let value = value.trim().to_ascii_lowercase();
    let distances: Vec<(usize, &str)> =
        catalogue.offered().map(|(code, _)| (strsim::damerau_levenshtein(code, &value), code)).collect();
    let Some(best) = distances.iter().map(|(distance, _)| *distance).min() else {
        return Vec::new();
    };
    let near = distances.into_iter().filter(|(distance, _)| *distance == best && best <= 2);
    near.map(|(_, code)| code.to_owned()).collect()
}

/// One DNS label as a host name has it (RFC 1123 section 2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The alias in what was pasted from an address bar, when there is one.
fn alias_in(value: &str) -> Vec<String> {
    let host = value.rsplit("://").next().unwrap_or(value);
    let label = host.split(['.', '/', ':']).next().unwrap_or(host).trim();
    if is_label(label) && label != value { vec![format!("{label:?}")] } else { Vec::new() }
}

/// S3's rules for bucket names, which are also what keeps the name one or more DNS labels.
fn is_bucket(text: &str) -> bool {
    let lower = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    (3..=63).contains(&text.len())
        && lower
        && text.split('.').all(is_label)
        && text.parse::<std::net::Ipv4Addr>().is_err()
        && !["xn--", "sthree-"].iter().any(|prefix| text.starts_with(prefix))
        && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3", ".amazonaws.com"]
            .iter()
            .any(|suffix| text.ends_with(suffix))
}

/// The bucket in a pasted S3 address.
fn bucket_in(value: &str) -> Vec<String> {
    let host = value.rsplit("://").next().unwrap_or(value);
    let bucket = host.split('/').next().unwrap_or(host);
    let bucket = bucket.split(".s3.").next().unwrap_or(bucket).to_ascii_lowercase();
    if is_bucket(&bucket) && bucket != value { vec![format!("{bucket:?}")] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(choice: &ConnectChoice) -> Vec<String> {
        match Chosen::check(super::super::catalogue(), choice) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_default_is_valid() {
        assert!(errors(&ConnectChoice::default()).is_empty());
    }

    #[test]
    fn unknown_regions_list_near_ones() {
        let regions = strings(&["us-west2"]);
        let text = errors(&ConnectChoice { regions, ..ConnectChoice::default() }).remove(0);
        let start =
            "connect.regions: unknown region \"us-west2\"; did you mean us-west-2? known: af-south-1 ";
        assert!(text.starts_with(start), "{text}");
        let regions = strings(&["moon"]);
        let text = errors(&ConnectChoice { regions, ..ConnectChoice::default() }).remove(0);
        assert!(text.starts_with("connect.regions: unknown region \"moon\"; known: "), "{text}");
    }

    #[test]
    fn mumbai_is_not_offered() {
        let regions = strings(&["ap-south-1"]);
        let text = errors(&ConnectChoice { regions, ..ConnectChoice::default() }).remove(0);
        assert!(text.contains("Mumbai") && text.contains("not offered"), "{text}");
        assert!(!text.contains("known: ap-south-1"));
    }

    #[test]
    fn all_errors_come_at_once() {
        let choice = ConnectChoice {
            regions: strings(&["us-west2", "mars", "eu-west-2"]),
            instances: strings(&["https://acme.my.connect.aws/ccp-v2", "-x", ""]),
            attachment_buckets: strings(&[
                "*",
                "Acme",
                "acme.s3.us-west-2.amazonaws.com",
                "10.0.0.1",
                "a..b",
            ]),
            ..ConnectChoice::default()
        };
        let texts = errors(&choice);
        assert_eq!(texts.len(), 10, "{texts:#?}");
        assert!(texts[2].contains("did you mean \"acme\"?"), "{}", texts[2]);
        assert!(texts[3].starts_with("connect.instances: \"-x\""), "{}", texts[3]);
        assert!(texts[5].starts_with("connect.attachment_buckets: \"*\""), "{}", texts[5]);
        assert!(texts[6].contains("did you mean \"acme\"?"), "{}", texts[6]);
        let none = ConnectChoice { regions: Vec::new(), ..ConnectChoice::default() };
        assert!(errors(&none)[0].starts_with("connect.regions: empty"));
    }

    #[test]
    fn buckets_follow_the_rules_of_s3() {
        for good in ["abc", "acme-files", "files.acme.example", "0a0", &"a".repeat(63)] {
            assert!(is_bucket(good), "{good}");
        }
        for bad in ["ab", "a.-b", "-ab", "ab-", "a_b", "xn--abc", "x-s3alias", "*.abc", &"a".repeat(64)] {
            assert!(!is_bucket(bad), "{bad}");
        }
    }
}
