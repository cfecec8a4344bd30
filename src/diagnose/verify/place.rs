//! Which published prefix an address of a TURN name lies in. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::address;
use crate::policy::Protocol;
use crate::ranges::diff::Version;
use crate::ranges::select::Set;
use crate::ranges::table::Family;

/// A prefix as AWS publishes it, with what TURN names have in it today; or an address that lies in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// None for an address outside all of them.
    pub prefix: Option<IpNet>,
    /// As in ip-ranges.json; empty where that has none.
    pub region: String,
    pub names: BTreeSet<String>,
    /// Of all these names, in order, each once.
    pub addresses: Vec<SocketAddr>,
}

/// A TURN name and its addresses.
pub(crate) type Found = (String, Vec<SocketAddr>);

/// Every prefix for UDP that the configuration needs, then each address outside. An address counts for the
/// narrowest prefix that holds it: a firewall may lack that one although it has a wider one's rest. Through a
/// translator it counts for that of the IPv4 address; `allowed` is `egress.allow_private`.
pub(crate) fn sort(version: &Version, found: &[Found], allowed: &[IpNet]) -> Vec<Place> {
    let mut places = published(version);
    for (name, addresses) in found {
        for address in addresses {
            let holds = |net: &IpNet| address::led_to(address.ip(), allowed).all(|host| net.contains(&host));
            let narrowest = places
                .iter()
                .enumerate()
                .filter_map(|(at, place)| Some((at, place.prefix.filter(holds)?)))
                .max_by_key(|(_, net)| net.prefix_len())
                .map(|(at, _)| at);
            let outside = |place: &Place| place.prefix.is_none() && place.addresses.contains(address);
            let at = narrowest.or_else(|| places.iter().position(outside)).unwrap_or_else(|| {
                places.push(Place::empty(None, String::new()));
                places.len() - 1
            });
            places[at].names.insert(name.clone());
            places[at].addresses.push(*address);
        }
    }
    for place in &mut places {
        place.addresses.sort_unstable();
        place.addresses.dedup();
    }
    places
}

fn published(version: &Version) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let sets = version.selection.sets.iter().filter(|selected| selected.set.row().protocol == Protocol::Udp);
    for selected in sets {
        let of_file =
            selected.entries.iter().map(|entry| (entry.net.trunc(), version.ranges.region(entry).to_owned()));
        // Those that AWS gives elsewhere than in the file.
        let fixed = [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .filter(|_| selected.set == Set::Video)
            .flat_map(|family| selected.table.prefixes(family))
            .map(|net| (net, String::new()));
        for (net, region) in of_file.chain(fixed) {
            match places.iter_mut().find(|place| place.prefix == Some(net)) {
                Some(known) if known.region == region => {}
                Some(known) => known.region = format!("{}, {region}", known.region),
                None => places.push(Place::empty(Some(net), region)),
            }
        }
    }
    places.sort_by_key(|place| place.prefix);
    places
}

impl Place {
    fn empty(prefix: Option<IpNet>, region: String) -> Self {
        Self { prefix, region, names: BTreeSet::new(), addresses: Vec::new() }
    }

    /// As it is called in sentences: the prefix, or its address.
    pub(crate) fn name(&self) -> String {
        match (self.prefix, self.addresses.first()) {
            (Some(prefix), _) => prefix.to_string(),
            (None, Some(address)) => address.ip().to_string(),
            (None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Choice;
    use crate::ranges::select::{Selection, Wanted};
    use crate::ranges::testing;

    fn version(features: Vec<crate::catalogue::Feature>) -> Version {
        let entries = [
            "GLOBAL AMAZON_CONNECT 15.193.0.0/19",
            "us-west-2 AMAZON_CONNECT 15.193.7.0/24",
            "us-east-1 AMAZON_CONNECT 15.193.6.0/24",
            "us-west-2 EC2 15.193.6.0/24",
            "us-west-2 AMAZON_CONNECT 2600:f0f2:7100::/48",
        ];
        let ranges = testing::ranges("1", "2026-11-01-00-00-00", entries);
        let choice = Choice { regions: vec!["us-west-2".into()], features, ..Choice::default() };
        let selection = Selection::new(&ranges, &Wanted::new(&choice, false));
        Version { ranges, selection }
    }

    fn found(name: &str, addresses: &[&str]) -> Found {
        (name.to_owned(), addresses.iter().map(|one| one.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_counts_for_the_narrowest_prefix() {
        let all = [
            found("a", &["15.193.7.255:3478", "15.193.8.0:3478", "[2600:f0f2:7100::1]:3478"]),
            found("b", &["15.193.7.0:3478", "15.193.7.255:3478", "203.0.113.1:3478", "15.192.255.255:3478"]),
            found("c", &["203.0.113.1:3478", "[64:ff9b::15.193.8.0]:3478"]),
        ];
        let places = sort(&version(Vec::new()), &all, &[]);
        let said: Vec<String> = places
            .iter()
            .map(|place| {
                let names: Vec<&str> = place.names.iter().map(String::as_str).collect();
                format!("{} {} {} {}", place.name(), place.region, names.join("+"), place.addresses.len())
            })
            .collect();
        assert_eq!(
            said,
            [
                "15.193.0.0/19 GLOBAL a+c 2",
                "15.193.7.0/24 us-west-2 a+b 2",
                "2600:f0f2:7100::/48 us-west-2 a 1",
                "203.0.113.1  b+c 1",
                "15.192.255.255  b 1",
            ]
        );
    }

    #[test]
    fn prefixes_without_a_name_are_there_and_empty() {
        let places = sort(&version(vec![crate::catalogue::Feature::Video]), &[], &[]);
        assert!(places.iter().all(|place| place.addresses.is_empty() && place.names.is_empty()));
        let names: Vec<String> = places.iter().map(Place::name).collect();
        assert_eq!(names, ["15.193.0.0/19", "15.193.7.0/24", "99.77.128.0/18", "2600:f0f2:7100::/48"]);
    }
}
