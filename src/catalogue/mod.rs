//! The endpoint catalogue: what AWS documents that an agent's browser must reach, as data.
//!
//! Here is the shape of `endpoints.toml`, which is embedded and read once. [`resolve()`] makes rules of it
//! for one configuration, [`find_elsewhere`] finds what a denied host belongs to, [`render()`] prints
//! rules. No I/O, no clock; nothing here decides whether a target is allowed.

mod choice;
mod elsewhere;
mod origin;
mod render;
mod resolve;
mod service_endpoint;
mod shared;
mod symptoms;
mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::policy::{Breadth, Category, Generation, Protocol};

pub use choice::{Choice, Feature, SignIn, Wildcards};
pub(crate) use elsewhere::rows_of;
pub use elsewhere::{Elsewhere, Need, find_elsewhere, find_elsewhere_given};
pub use origin::{instance_id, origin};
pub use render::{Format, render};
pub use resolve::{Resolved, resolve};
pub use shared::{is_of_a_service, open_to_strangers};
pub use symptoms::{Side, Story, Symptom, Text, symptoms};
pub use values::{alias, bucket, region};

/// Whether a host is the own name of an instance in `choice`, such as `acme.my.connect.aws`.
#[must_use]
pub fn is_own_name(choice: &Choice, host: &str) -> bool {
    let rows = catalogue().endpoints.iter().filter(|row| !row.retired);
    let patterns = || rows.clone().flat_map(|row| &row.patterns).filter(|p| p.contains("{instance}"));
    let aliases = choice.instances.iter().filter(|alias| *alias != "*");
    aliases
        .into_iter()
        .any(|alias| patterns().any(|p| p.replace("{instance}", alias).eq_ignore_ascii_case(host)))
}

/// The embedded catalogue, parsed at first use.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        toml::from_str(include_str!("endpoints.toml"))
            .expect("the embedded catalogue is well formed: the test `catalogue_parses` reads it")
    });
    &CATALOGUE
}

/// All of `endpoints.toml`; its head explains the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// The day the facts were gathered, `YYYY-MM-DD`.
    pub as_of: String,
    pub sources: BTreeMap<String, Source>,
    /// By AWS code such as `us-west-2`, including those that cannot be chosen.
    pub regions: BTreeMap<String, Region>,
    pub global: GlobalRanges,
    #[serde(rename = "endpoint")]
    pub endpoints: Vec<Endpoint>,
    #[serde(rename = "address")]
    pub addresses: Vec<Address>,
}

impl Catalogue {
    /// The Regions that Connect instances run in, sorted by code.
    pub fn offered(&self) -> impl Iterator<Item = (&str, &Region)> {
        self.regions
            .iter()
            .filter(|(_, region)| region.not_offered.is_none())
            .map(|(code, region)| (code.as_str(), region))
    }

    /// The row with this id.
    pub fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|row| row.id == id)
    }

    /// The row of Option 2 with this id.
    pub fn address(&self, id: &str) -> Option<&Address> {
        self.addresses.iter().find(|row| row.id == id)
    }

    /// Title and address of a row's first, that is its best, source.
    pub fn source_text(&self, ids: &[String]) -> String {
        match ids.first().and_then(|id| self.sources.get(id)) {
            Some(Source { title, address: Some(address) }) => format!("{title}, {address}"),
            Some(Source { title, address: None }) => title.clone(),
            None => String::new(),
        }
    }
}

/// A page or file that facts come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub title: String,
    /// Public URL; the training text has none.
    pub address: Option<String>,
}

/// An AWS Region and the names that AWS publishes for it alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Such as `US West (Oregon)`.
    pub name: String,
    /// `aws` or `aws-us-gov`.
    pub partition: String,
    pub turn: Vec<String>,
    pub static_cloudfront: Vec<String>,
    pub login_cloudfront: Vec<String>,
    #[serde(default)]
    pub telecom: Vec<String>,
    /// The panel's files come from the instance's own name, no CloudFront host is needed.
    #[serde(default)]
    pub static_from_instance: bool,
    /// Why the Region cannot be chosen.
    pub not_offered: Option<String>,
    /// `AMAZON_CONNECT` prefixes in CIDR notation.
    pub ipv4: Vec<String>,
    pub ipv6: Vec<String>,
    pub note: Option<String>,
}

/// `AMAZON_CONNECT` prefixes that hold for every Region.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalRanges {
    pub ipv4: Vec<String>,
    pub ipv6: Vec<String>,
    pub source: Vec<String>,
}

/// One row: names that belong together, and when they are needed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub id: String,
    pub category: Category,
    #[serde(default)]
    pub patterns: Vec<String>,
    pub list: Option<RegionList>,
    #[serde(default)]
    pub regions: Vec<String>,
    #[serde(default)]
    pub except_regions: Vec<String>,
    #[serde(default)]
    pub also_in: Vec<String>,
    pub signin: Option<SignIn>,
    pub feature: Option<Feature>,
    #[serde(default)]
    pub media: bool,
    pub instances: Option<Instances>,
    #[serde(default)]
    pub legacy_only: bool,
    pub gives_way_to: Option<String>,
    #[serde(default)]
    pub retired: bool,
    #[serde(default)]
    pub anywhere: bool,
    pub ports: Vec<u16>,
    pub protocol: Protocol,
    pub generation: Generation,
    pub breadth: Breadth,
    pub remedy: Option<String>,
    pub carries: String,
    pub agent_sees: String,
    /// Ids in [`Catalogue::sources`], the best first.
    pub source: Vec<String>,
    pub note: Option<String>,
}

impl Endpoint {
    /// Whether the row exists in that Region at all.
    pub(crate) fn holds_in(&self, region: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|code| code == region);
        (self.regions.is_empty() || named(&self.regions)) && !named(&self.except_regions)
    }

    /// Whether its names differ from Region to Region, or exist in some only.
    pub(crate) fn is_regional(&self) -> bool {
        self.list.is_some()
            || !self.regions.is_empty()
            || self.patterns.iter().any(|pattern| pattern.contains("{region}"))
    }
}

/// Which list of [`Region`] a row takes its names from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionList {
    Turn,
    StaticCloudfront,
    LoginCloudfront,
    Telecom,
}

impl RegionList {
    pub(crate) fn of(self, region: &Region) -> &[String] {
        match self {
            Self::Turn => &region.turn,
            Self::StaticCloudfront => &region.static_cloudfront,
            Self::LoginCloudfront => &region.login_cloudfront,
            Self::Telecom => &region.telecom,
        }
    }
}

/// Whether a row stands for the named instances or for `instances = ["*"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    Named,
    Any,
}

/// A row of Option 2: what a firewall lets through by address.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub id: String,
    /// `service` of ip-ranges.json.
    pub service: Option<String>,
    /// `region` of ip-ranges.json, `{region}` for each chosen one, `*` for all entries.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Fixed prefixes instead of a service.
    #[serde(default)]
    pub cidrs: Vec<String>,
    /// Single ports, or ranges such as `49152-65535`.
    pub ports: Vec<String>,
    pub protocol: Protocol,
    /// `outbound`, or `inbound` for what a stateless firewall must let back in.
    pub direction: Direction,
    pub source: Vec<String>,
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Outbound,
    Inbound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogue_parses() {
        let catalogue = catalogue();
        assert!(catalogue.endpoints.len() > 40);
        assert_eq!(catalogue.offered().count(), 12);
        assert_eq!(catalogue.regions.len(), 13);
    }

    #[test]
    fn references_resolve() {
        let catalogue = catalogue();
        let mut ids: Vec<&str> = catalogue.endpoints.iter().map(|row| row.id.as_str()).collect();
        for row in &catalogue.endpoints {
            assert_eq!(row.patterns.is_empty(), row.list.is_some(), "{}", row.id);
            assert!(!row.ports.is_empty() && row.ports.is_sorted(), "{}", row.id);
            assert_eq!(row.breadth == Breadth::Shared && !row.retired, row.remedy.is_some(), "{}", row.id);
            for region in row.regions.iter().chain(&row.except_regions).chain(&row.also_in) {
                assert!(catalogue.regions.contains_key(region), "{}: {region}", row.id);
            }
            if let Some(id) = &row.gives_way_to {
                assert!(catalogue.endpoint(id).is_some(), "{}: {id}", row.id);
            }
        }
        let sources = catalogue.endpoints.iter().map(|row| &row.source);
        let sources = sources.chain(catalogue.addresses.iter().map(|row| &row.source));
        for source in sources.chain([&catalogue.global.source]) {
            assert!(!source.is_empty());
            for id in source {
                assert!(catalogue.sources.contains_key(id), "{id}");
            }
        }
        ids.sort_unstable();
        let rows = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), rows, "ids are unique");
    }

    #[test]
    fn prefixes_are_networks() {
        let catalogue = catalogue();
        let regions = catalogue.regions.values().flat_map(|r| r.ipv4.iter().chain(&r.ipv6));
        let fixed = catalogue.addresses.iter().flat_map(|row| &row.cidrs);
        for prefix in regions.chain(fixed).chain(&catalogue.global.ipv4).chain(&catalogue.global.ipv6) {
            let net: ipnet::IpNet = prefix.parse().expect(prefix);
            assert_eq!(net.trunc(), net);
        }
    }
}
