//! Reads the values of `[connect]`: regions that exist, aliases and buckets that are names. Each reader
//! says why a text is none, with the likely value where one is similar; the configuration adds the key and
//! the place. No endpoint is known here; `resolve.rs` makes names from a [`Chosen`].

use std::collections::BTreeMap;

use super::{Choice, Region, catalogue};

/// Reads an item of `connect.regions`: the code of a Region that Connect is offered in, or `*`.
///
/// # Errors
/// Why it is none, with the nearest codes and all that are known.
pub fn region(text: &str) -> Result<String, String> {
    let known = || catalogue().offered().map(|(code, _)| code).collect::<Vec<_>>().join(" ");
    match catalogue().regions.get(text) {
        _ if text == "*" => Ok(text.to_owned()),
        Some(Region { not_offered: None, .. }) => Ok(text.to_owned()),
        Some(Region { name, not_offered: Some(reason), .. }) => {
            Err(format!("{name} is not offered as the region of an instance: {reason}; known: {}", known()))
        }
        None => match &near_regions(text)[..] {
            [] => Err(format!("unknown region; known: {}", known())),
            near => Err(format!("unknown region, did you mean {}? Known: {}", near.join(" or "), known())),
        },
    }
}

/// Reads an item of `connect.instances`: one DNS label in lower case, or `*`.
///
/// # Errors
/// Why it is none, with the alias where the text is an address that holds one.
pub fn alias(text: &str) -> Result<String, String> {
    if text == "*" || is_label(text) {
        return Ok(text.to_ascii_lowercase());
    }
    let host = host_of(text);
    let alias = host.split('.').next().unwrap_or(host).to_ascii_lowercase();
    if is_label(&alias) && host.contains('.') {
        return Err(format!(
            "the alias is the first label of the instance's host name, did you mean {alias:?}?"
        ));
    }
    Err(String::new())
}

/// Reads an item of `connect.attachment_buckets`: the name of one S3 bucket.
///
/// # Errors
/// Why it is none, with the bucket where the text is an address that holds one.
pub fn bucket(text: &str) -> Result<String, String> {
    if is_bucket(text) {
        return Ok(text.to_owned());
    }
    let host = host_of(text);
    let bucket = host.split(".s3").next().unwrap_or(host).to_ascii_lowercase();
    if is_bucket(&bucket) { Err(format!("did you mean {bucket:?}?")) } else { Err(String::new()) }
}

/// The host in what was pasted from an address bar.
fn host_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', ':', '?', '#']).next().unwrap_or(rest).trim()
}

/// The closest codes, quoted, and only close ones: two edits at most. A list of everything would
/// not help.
fn near_regions(value: &str) -> Vec<String> {
    let value = value.trim().to_ascii_lowercase();
    let distances: Vec<(usize, &str)> =
        catalogue().offered().map(|(code, _)| (strsim::damerau_levenshtein(code, &value), code)).collect();
    let Some(best) = distances.iter().map(|(distance, _)| *distance).min() else {
        return Vec::new();
    };
    let near = distances.into_iter().filter(|(distance, _)| *distance == best && best <= 2);
    near.map(|(_, code)| format!("{code:?}")).collect()
}

/// One DNS label of a host name (RFC 1123 section 2.1). Narrower than a label of [`crate::target::Host`],
/// which also takes `_`, and hyphens at the ends.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// S3's rules for bucket names ("General purpose bucket naming rules" in the Amazon S3 User Guide),
/// which are also what keeps the name one or more DNS labels.
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

/// A choice, with its regions looked up.
pub(crate) struct Chosen<'a> {
    pub choice: &'a Choice,
    pub regions: BTreeMap<&'static str, &'static Region>,
    /// Lower case, without `*`, in the order given.
    pub instances: Vec<String>,
    pub any_instance: bool,
}

impl<'a> Chosen<'a> {
    /// The values of `choice` are as the readers above return them; an unknown region has no names.
    pub(crate) fn of(choice: &'a Choice) -> Self {
        let mut regions = BTreeMap::new();
        for value in &choice.regions {
            match catalogue().regions.get_key_value(value.as_str()) {
                _ if value == "*" => regions.extend(catalogue().offered()),
                Some((code, region)) if region.not_offered.is_none() => {
                    regions.insert(code.as_str(), region);
                }
                _ => {}
            }
        }
        let instances = choice.instances.iter().filter(|value| *value != "*").cloned().collect();
        let any_instance = choice.instances.iter().any(|value| value == "*");
        Self { choice, regions, instances, any_instance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_regions_list_near_ones() {
        let text = region("us-west2").unwrap_err();
        let start = "unknown region, did you mean \"us-west-2\"? Known: af-south-1 ";
        assert!(text.starts_with(start), "{text}");
        let text = region("moon").unwrap_err();
        assert!(text.starts_with("unknown region; known: af-south-1 "), "{text}");
        for known in ["*", "us-gov-west-1", "eu-west-2"] {
            assert_eq!(region(known), Ok(known.to_owned()));
        }
    }

    #[test]
    fn mumbai_is_not_offered() {
        let text = region("ap-south-1").unwrap_err();
        assert!(text.contains("Mumbai") && text.contains("not offered"), "{text}");
        assert!(!text.contains("known: ap-south-1"));
    }

    #[test]
    fn what_was_pasted_from_an_address_bar_names_the_value() {
        for pasted in ["https://acme.my.connect.aws/ccp-v2", "Acme.awsapps.com", "acme.my.connect.aws:443"] {
            assert!(alias(pasted).unwrap_err().ends_with("did you mean \"acme\"?"), "{pasted}");
        }
        for wrong in ["-x", "", "a b", "*.my.connect.aws", "a_b"] {
            assert!(!alias(wrong).unwrap_err().contains("did you mean"), "{wrong}");
        }
        for pasted in [
            "Acme",
            "acme.s3.us-west-2.amazonaws.com",
            "https://acme.s3.amazonaws.com/a/b?c",
            "acme.s3-us-west-2.amazonaws.com",
        ] {
            assert!(bucket(pasted).unwrap_err().ends_with("did you mean \"acme\"?"), "{pasted}");
        }
        for wrong in ["*", "10.0.0.1", "a..b", ""] {
            assert_eq!(bucket(wrong), Err(String::new()), "{wrong}");
        }
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
