//! Which prefixes of a version one configuration needs: by the catalogue's rows of Option 2, for each
//! family by itself.
//!
//! AWS says of EC2 "GLOBAL and Region (GLOBAL only if a Region entry doesn't exist)", which can be read in
//! two ways. This room takes the narrower one unless `ranges.ec2_global` says otherwise; `left_out` counts
//! what the other would add.

use ipnet::IpNet;
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use super::table::Family;
use super::{Entry, GLOBAL, Ranges, Table};
use crate::catalogue::{Address, Choice, Feature, catalogue};
use crate::policy::{Category, Protocol};

/// A set of prefixes that a firewall lets through for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, VariantArray, IntoStaticStr)]
pub enum Set {
    /// The voice.
    #[strum(serialize = "media_udp_3478")]
    Media,
    /// Video and shared screens, with that feature alone. AWS gives it as fixed networks.
    #[strum(serialize = "video_udp_3478")]
    Video,
    /// The services behind the panel.
    #[strum(serialize = "ec2_tcp_443")]
    Ec2,
    /// The panel's files.
    #[strum(serialize = "cloudfront_tcp_443")]
    Cloudfront,
    /// Pictures of the sign-in, and attachments.
    #[strum(serialize = "s3_tcp_443")]
    S3,
}

impl Set {
    /// The name in lists, rules and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What AWS documents of it.
    #[must_use]
    pub fn row(self) -> &'static Address {
        let id = match self {
            Self::Media => "connect-media",
            Self::Video => "video",
            Self::Ec2 => "ec2",
            Self::Cloudfront => "cloudfront",
            Self::S3 => "s3",
        };
        catalogue().address(id).expect("the test `every_set_has_its_row` asks for each")
    }

    /// Those that are reached over TCP.
    pub fn tcp() -> impl Iterator<Item = Self> {
        Self::VARIANTS.iter().copied().filter(|set| set.row().protocol == Protocol::Tcp)
    }

    /// What most of the traffic to it is.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Self::Media | Self::Video => Category::Media,
            Self::Ec2 => Category::Api,
            Self::Cloudfront => Category::Static,
            Self::S3 => Category::Attachments,
        }
    }

    /// Whether any AWS customer can be behind these addresses. Those of Connect are its own.
    #[must_use]
    pub fn is_open_to_strangers(self) -> bool {
        match self {
            Self::Ec2 | Self::Cloudfront | Self::S3 => true,
            Self::Media | Self::Video => false,
        }
    }

    /// Whether AWS promises that new prefixes are published 30 days before they are used.
    #[must_use]
    pub fn is_promised(self) -> bool {
        self == Self::Media
    }
}

/// What a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Codes, in order, each once.
    pub regions: Vec<String>,
    /// Whether `*` asked for all of them.
    pub all: bool,
    media: bool,
    video: bool,
    ec2_global: bool,
}

impl Wanted {
    /// By `[connect]`, and by `ranges.ec2_global`.
    #[must_use]
    pub fn new(choice: &Choice, ec2_global: bool) -> Self {
        let all = choice.regions.iter().any(|region| region == "*");
        let mut regions: Vec<String> = match all {
            true => catalogue().offered().map(|(code, _)| code.to_owned()).collect(),
            false => choice.regions.clone(),
        };
        regions.sort_unstable();
        regions.dedup();
        let video = choice.media && choice.features.contains(&Feature::Video);
        Self { regions, all, media: choice.media, video, ec2_global }
    }

    /// The sets that it needs prefixes in.
    fn sets(&self) -> impl Iterator<Item = Set> {
        Set::VARIANTS.iter().copied().filter(|set| match set {
            Set::Video => self.video,
            // These four sets always exist, if only empty.
            Set::Media | Set::Ec2 | Set::Cloudfront | Set::S3 => true,
        })
    }
}

/// What is needed of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub regions: Vec<String>,
    /// The chosen regions of which the file has nothing.
    pub unknown_regions: Vec<String>,
    pub global_only: Vec<GlobalOnly>,
    pub left_out: Vec<LeftOut>,
    pub sets: Vec<Selected>,
}

/// The prefixes of one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub set: Set,
    /// As the file has them.
    pub entries: Vec<Entry>,
    /// Their addresses.
    pub table: Table,
}

/// A region in which a service has no prefix of its own, so that the global ones apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GlobalOnly {
    pub service: String,
    pub family: Family,
    pub region: String,
}

/// What another reading of AWS's words would add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub service: String,
    pub why: String,
    /// Prefixes, after aggregation.
    pub ipv4: usize,
    pub ipv6: usize,
}

impl Selection {
    /// Selects from a version.
    #[must_use]
    pub fn new(ranges: &Ranges, wanted: &Wanted) -> Self {
        let unknown = wanted.regions.iter().filter(|region| !ranges.knows_region(region));
        let mut selection = Self {
            regions: wanted.regions.clone(),
            unknown_regions: unknown.cloned().collect(),
            global_only: Vec::new(),
            left_out: Vec::new(),
            sets: Vec::new(),
        };
        for set in wanted.sets() {
            let selected = selection.set(ranges, wanted, set);
            selection.sets.push(selected);
        }
        selection
    }

    /// The prefixes of a set that is there; of `Video` none where the feature is off.
    #[must_use]
    pub fn of(&self, set: Set) -> Option<&Selected> {
        self.sets.iter().find(|selected| selected.set == set)
    }

    fn set(&mut self, ranges: &Ranges, wanted: &Wanted, set: Set) -> Selected {
        let row = set.row();
        let Some(service) = &row.service else {
            let nets = row.cidrs.iter().filter_map(|cidr| cidr.parse().ok());
            return Selected { set, entries: Vec::new(), table: nets.collect() };
        };
        let named = |region: &str| row.regions.iter().any(|known| known == region);
        let chosen = |region: &str| wanted.regions.iter().any(|known| known == region);
        let (regional, global): (Vec<Entry>, Vec<Entry>) = ranges
            .entries
            .iter()
            .filter(|entry| ranges.service(entry) == service && (set != Set::Media || wanted.media))
            .partition(|entry| ranges.region(entry) != GLOBAL);
        let mut entries: Vec<Entry> = regional
            .iter()
            .filter(|entry| {
                let region = ranges.region(entry);
                named("*") || named(region) || named("{region}") && chosen(region)
            })
            .copied()
            .collect();
        if named("*") || named(GLOBAL) && set != Set::Ec2 {
            entries.extend(&global);
        }
        if named(GLOBAL) {
            self.fall_back(ranges, wanted, set, service, &mut entries, &global);
        }
        entries.sort_unstable();
        let table = entries.iter().map(|entry| entry.net).collect();
        Selected { set, entries, table }
    }

    /// Adds the GLOBAL prefixes of a family where a region has none of that family.
    fn fall_back(
        &mut self,
        ranges: &Ranges,
        wanted: &Wanted,
        set: Set,
        service: &str,
        entries: &mut Vec<Entry>,
        global: &[Entry],
    ) {
        let mut left_out: Vec<Entry> = Vec::new();
        let regional = entries.clone();
        for family in Family::VARIANTS.iter().copied() {
            let is_of = |entry: &&Entry| Family::of(&entry.net) == family;
            let global: Vec<Entry> = global.iter().filter(is_of).copied().collect();
            if global.is_empty() {
                continue;
            }
            let has = |region: &str| regional.iter().filter(is_of).any(|e| ranges.region(e) == region);
            let bare: Vec<&String> = wanted.regions.iter().filter(|region| !has(region)).collect();
            let none_bare = bare.is_empty();
            self.global_only.extend(bare.into_iter().map(|region| GlobalOnly {
                service: service.to_owned(),
                family,
                region: region.clone(),
            }));
            if set == Set::Ec2 {
                if none_bare && !wanted.ec2_global {
                    left_out.extend(&global);
                } else {
                    entries.extend(&global);
                }
            }
        }
        let taken: Table = entries.iter().map(|entry| entry.net).collect();
        let more: Table = left_out.iter().map(|entry| entry.net).collect();
        let is_news = |net: IpNet| !taken.covers(&net);
        let ipv4 = more.ipv4().into_iter().filter(|net| is_news((*net).into())).count();
        let ipv6 = more.ipv6().into_iter().filter(|net| is_news((*net).into())).count();
        if ipv4 + ipv6 > 0 {
            self.left_out.push(LeftOut {
                service: service.to_owned(),
                why: "AWS asks for GLOBAL only where no entry for the Region exists, and there are some; \
                      ranges.ec2_global = true adds these"
                    .to_owned(),
                ipv4,
                ipv6,
            });
        }
    }
}

/// The addresses that a port is open to: the union of all its sets.
#[must_use]
pub fn open(selection: &Selection, protocol: Protocol) -> Table {
    let sets = selection.sets.iter().filter(|selected| selected.set.row().protocol == protocol);
    sets.fold(Table::default(), |all, selected| all.with(&selected.table))
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
