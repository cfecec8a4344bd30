//! The lists that firewalls fetch by themselves: prefixes of Option 2, and names, each in its consumer's
//! form: an entry a line, in order, with no comments unless they are asked for.

use super::list::{self, Product};
use crate::digest::short_hex;
use crate::policy::Policy;
use crate::ranges::select::{Selection, Set};
use crate::ranges::table::Family;

/// So many bytes of a digest tell two texts apart.
const BYTES: usize = 16;

/// A list, by what is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The name in its path, `/edl/NAME.txt`, and in metrics.
    pub name: &'static str,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Prefixes of one family, or of both.
    Prefixes(Set, Option<Family>),
    Names(Product),
}

const fn prefixes(name: &'static str, set: Set, family: Option<Family>) -> Fetched {
    Fetched { name, what: What::Prefixes(set, family) }
}

const fn names(name: &'static str, product: Product) -> Fetched {
    Fetched { name, what: What::Names(product) }
}

const FOUR: Option<Family> = Some(Family::Ipv4);
const SIX: Option<Family> = Some(Family::Ipv6);

/// All of them. A plain list of domains is in the form of Check Point's, which is the plainest.
pub static ALL: [Fetched; 19] = [
    prefixes("media-udp-3478", Set::Media, None),
    prefixes("media-udp-3478-v4", Set::Media, FOUR),
    prefixes("media-udp-3478-v6", Set::Media, SIX),
    prefixes("video-udp-3478", Set::Video, None),
    prefixes("video-udp-3478-v4", Set::Video, FOUR),
    prefixes("video-udp-3478-v6", Set::Video, SIX),
    prefixes("ec2-443", Set::Ec2, None),
    prefixes("ec2-443-v4", Set::Ec2, FOUR),
    prefixes("ec2-443-v6", Set::Ec2, SIX),
    prefixes("cloudfront-443", Set::Cloudfront, None),
    prefixes("cloudfront-443-v4", Set::Cloudfront, FOUR),
    prefixes("cloudfront-443-v6", Set::Cloudfront, SIX),
    prefixes("s3-443", Set::S3, None),
    prefixes("s3-443-v4", Set::S3, FOUR),
    prefixes("s3-443-v6", Set::S3, SIX),
    names("paloalto-urls", Product::Paloalto),
    names("checkpoint-domains", Product::Checkpoint),
    names("umbrella", Product::Umbrella),
    names("domains", Product::Checkpoint),
];

/// What a list is made of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub policy: &'a Policy,
    /// None where `[ranges]` names nothing, or nothing of it could be used yet.
    pub prefixes: Option<Prefixes<'a>>,
}

/// What a configuration needs of a version of ip-ranges.json.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes<'a> {
    pub selection: &'a Selection,
    /// `createDate` of the version.
    pub create_date: &'a str,
    pub sync_token: u64,
}

/// A list that was made. It has one entry at least: an empty one would close a firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// In order, each once.
    pub entries: Vec<String>,
    /// What should be known of them.
    comments: Vec<String>,
}

/// Why there is no such list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// There are no prefixes to make it of.
    NoRanges,
    /// AWS has none of that family, or the configuration needs none.
    Nothing,
}

impl Fetched {
    /// Whether it is made of prefixes.
    #[must_use]
    pub fn needs_ranges(&self) -> bool {
        matches!(self.what, What::Prefixes(..))
    }

    /// Whether AWS promises that new entries are published 30 days before they are used.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        matches!(self.what, What::Prefixes(set, _) if set.is_promised())
    }

    /// What one of its entries is called.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        if self.needs_ranges() { "prefix" } else { "name" }
    }

    /// Makes the list.
    ///
    /// # Errors
    /// Why there is none.
    pub fn make(&self, source: &Source<'_>) -> Result<Made, Absent> {
        let made = match self.what {
            What::Names(product) => {
                let list::Export { entries, text, .. } = list::export(source.policy, product);
                let head = "Amazon Connect by name, by ccpgate".to_owned();
                let notes = entries.iter().map(list::Entry::note);
                Made {
                    entries: text.lines().map(str::to_owned).collect(),
                    comments: std::iter::once(head).chain(notes).collect(),
                }
            }
            What::Prefixes(set, family) => {
                let Prefixes { selection, create_date, sync_token } =
                    source.prefixes.ok_or(Absent::NoRanges)?;
                let table = &selection.of(set).ok_or(Absent::Nothing)?.table;
                let four = table.ipv4().into_iter().map(|net| net.to_string());
                let six = table.ipv6().into_iter().map(|net| net.to_string());
                let entries = match family {
                    Some(Family::Ipv4) => four.collect(),
                    Some(Family::Ipv6) => six.collect(),
                    None => four.chain(six).collect(),
                };
                let regions = selection.regions.join(", ");
                let head = format!("Amazon Connect in {regions}: {}, by ccpgate", set.name());
                let version = format!("ip-ranges.json of {create_date}, syncToken {sync_token}");
                Made { entries, comments: vec![head, version] }
            }
        };
        if made.entries.is_empty() { Err(Absent::Nothing) } else { Ok(made) }
    }
}

impl Made {
    /// The text that is served: an entry a line.
    #[must_use]
    pub fn text(&self, comments: bool) -> String {
        let mut text = String::new();
        let above = self.comments.iter().filter(|_| comments).map(|comment| ("# ", comment));
        for (mark, line) in above.chain(self.entries.iter().map(|entry| ("", entry))) {
            text.push_str(mark);
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// What tells a text from all others, as an entity tag.
#[must_use]
pub fn tag(text: &str) -> String {
    format!("\"{}\"", short_hex::<BYTES>(text.as_bytes()))
}

/// The list of a path such as `/edl/domains.txt`.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static Fetched> {
    let name = path.strip_prefix("/edl/")?.strip_suffix(".txt")?;
    ALL.iter().find(|list| list.name == name)
}

#[cfg(test)]
#[path = "edl_tests.rs"]
mod tests;
