//! Public addresses that stand for "blocked": DNS filters answer with them in place of a name's own.
//! Pure.

use std::net::{IpAddr, Ipv4Addr};

/// First and last address, and whose.
const KNOWN: &[(Ipv4Addr, Ipv4Addr, &str)] = &[
    (Ipv4Addr::new(146, 112, 61, 104), Ipv4Addr::new(146, 112, 61, 110), "a block page of Cisco Umbrella"),
    (Ipv4Addr::new(72, 5, 65, 111), Ipv4Addr::new(72, 5, 65, 111), "the sinkhole of Palo Alto Networks"),
    (Ipv4Addr::new(208, 91, 112, 52), Ipv4Addr::new(208, 91, 112, 55), "a block page of Fortinet"),
];

/// Whose sinkhole or block page an address is.
pub(super) fn owner(address: IpAddr) -> Option<&'static str> {
    let IpAddr::V4(address) = address.to_canonical() else { return None };
    let in_range = |(first, last, _): &&(Ipv4Addr, Ipv4Addr, _)| (*first..=*last).contains(&address);
    KNOWN.iter().find(in_range).map(|(.., owner)| *owner)
}
