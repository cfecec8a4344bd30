//! Public addresses that stand for "blocked": DNS filters answer with them in place of a name's own.
//! No I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// First and last address, and whose.
const KNOWN: &[(Ipv4Addr, Ipv4Addr, &str)] = &[
    (Ipv4Addr::new(146, 112, 61, 104), Ipv4Addr::new(146, 112, 61, 110), "a block page of Cisco Umbrella"),
    (Ipv4Addr::new(72, 5, 65, 111), Ipv4Addr::new(72, 5, 65, 111), "the sinkhole of Palo Alto Networks"),
    (Ipv4Addr::new(208, 91, 112, 52), Ipv4Addr::new(208, 91, 112, 55), "a block page of Fortinet"),
];

/// An address that is known as a sinkhole or block page, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sinkhole {
    address: IpAddr,
    owner: &'static str,
}

impl Sinkhole {
    /// The one at an address, if it is one.
    pub(crate) fn at(address: IpAddr) -> Option<Self> {
        let IpAddr::V4(four) = address.to_canonical() else { return None };
        let in_range = |(first, last, _): &&(Ipv4Addr, Ipv4Addr, _)| (*first..=*last).contains(&four);
        KNOWN.iter().find(in_range).map(|(.., owner)| Self { address, owner: *owner })
    }

    /// The first one among the addresses of a name: who filters a name answers for all of it.
    pub(crate) fn among(addresses: impl IntoIterator<Item = IpAddr>) -> Option<Self> {
        addresses.into_iter().find_map(Self::at)
    }
}

impl fmt::Display for Sinkhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.address, self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sinkhole_is_known_by_its_address() {
        let told = |address: &str| Sinkhole::at(address.parse().unwrap()).map(|known| known.to_string());
        for (address, owner) in [
            ("146.112.61.104", "a block page of Cisco Umbrella"),
            ("146.112.61.110", "a block page of Cisco Umbrella"),
            ("72.5.65.111", "the sinkhole of Palo Alto Networks"),
            ("::ffff:72.5.65.111", "the sinkhole of Palo Alto Networks"),
            ("208.91.112.55", "a block page of Fortinet"),
        ] {
            assert_eq!(told(address), Some(format!("{address}, {owner}")));
        }
        for address in ["146.112.61.103", "146.112.61.111", "72.5.65.112", "208.91.112.56", "2001:db8::1"] {
            assert_eq!(told(address), None);
        }
    }

    #[test]
    fn one_sinkhole_among_others_is_enough() {
        let among = |all: &[&str]| Sinkhole::among(all.iter().map(|address| address.parse().unwrap()));
        assert_eq!(among(&["2001:db8::1", "192.0.2.1", "72.5.65.111"]), among(&["72.5.65.111"]));
        assert!(among(&["72.5.65.111"]).is_some());
        assert_eq!(among(&["192.0.2.1"]), None);
    }
}
