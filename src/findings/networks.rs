//! What the addresses of those who fail have in common.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::cut_network;

/// Networks that are named at most; of more than these the largest are.
const NAMED: usize = 8;

/// Small networks that are named one by one where clients without trouble share the large one.
const APART: usize = 4;

/// The networks of `failing`, those with the most clients first. An IPv4 client counts by its /24,
/// an IPv6 client by its /64; several of them in one /16 or /48 are that, unless clients in it that
/// are well say that it isn't the network as a whole. A client that is alone is its address.
#[must_use]
pub fn shared(failing: &[IpAddr], well: &[IpAddr]) -> Vec<IpNet> {
    if let [alone] = failing {
        return vec![IpNet::from(*alone)];
    }
    let mut large: BTreeMap<IpNet, BTreeMap<IpNet, usize>> = BTreeMap::new();
    for client in failing {
        let (small, wide) = around(*client);
        *large.entry(wide).or_default().entry(small).or_default() += 1;
    }
    let mut named: Vec<(usize, IpNet)> = Vec::new();
    for (wide, small) in large {
        let all = small.values().sum();
        let outside = |client: &IpAddr| wide.contains(client) && !small.contains_key(&around(*client).0);
        if small.len() > 1 && (small.len() > APART || !well.iter().any(outside)) {
            named.push((all, wide));
        } else {
            named.extend(small.into_iter().map(|(net, count)| (count, net)));
        }
    }
    named.sort_by_key(|(count, net)| (std::cmp::Reverse(*count), *net));
    named.truncate(NAMED);
    named.into_iter().map(|(_, net)| net).collect()
}

/// The small network and the large one that a client is in.
fn around(client: IpAddr) -> (IpNet, IpNet) {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let net = |length| Ipv4Net::new_assert(address, length).trunc();
            (net(24).into(), net(16).into())
        }
        IpAddr::V6(address) => {
            let net = |length| Ipv6Net::new_assert(address, length).trunc();
            (net(64).into(), net(48).into())
        }
    }
}

/// The network that one client is in: /24 or /64; with `ledger.anonymise` /24 or /48.
#[must_use]
pub fn of(client: IpAddr, anonymise: bool) -> IpNet {
    match anonymise {
        true => cut_network(client.to_canonical().into()),
        false => around(client).0,
    }
}

/// The networks as they may be shown: with `ledger.anonymise` never narrower than /24 and /48.
#[must_use]
pub fn shown(networks: &[IpNet], anonymise: bool) -> Vec<IpNet> {
    let mut shown: Vec<IpNet> = Vec::with_capacity(networks.len());
    for net in networks {
        let net = if anonymise { cut_network(*net) } else { *net };
        if !shown.contains(&net) {
            shown.push(net);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(failing: &[&str], well: &[&str]) -> Vec<String> {
        let read = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        shared(&read(failing), &read(well)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_addresses_share() {
        for (failing, well, expected) in [
            (&["10.4.7.21"][..], &[][..], &["10.4.7.21/32"][..]),
            (&["10.4.7.21", "10.4.7.22"], &["10.4.8.1"], &["10.4.7.0/24"]),
            (&["10.4.7.21", "10.4.8.22"], &["10.9.8.1"], &["10.4.0.0/16"]),
            // Somebody next door is well: it isn't the whole /16.
            (&["10.4.7.21", "10.4.8.22", "10.4.8.23"], &["10.4.9.1"], &["10.4.8.0/24", "10.4.7.0/24"]),
            // In the very networks it says nothing.
            (&["10.4.7.21", "10.4.8.22"], &["10.4.8.1"], &["10.4.0.0/16"]),
            (&["10.4.7.21", "10.9.8.22", "10.9.9.1"], &[], &["10.9.0.0/16", "10.4.7.0/24"]),
            (&["::ffff:10.4.7.21", "10.4.7.22"], &[], &["10.4.7.0/24"]),
            (&["2001:db8:1:2::1", "2001:db8:1:2::2"], &[], &["2001:db8:1:2::/64"]),
            (&["2001:db8:1:2::1", "2001:db8:1:3::2"], &[], &["2001:db8:1::/48"]),
            (&["2001:db8:1:2::1"], &[], &["2001:db8:1:2::1/128"]),
        ] {
            assert_eq!(named(failing, well), expected, "{failing:?}");
        }
        let many: Vec<String> = (0..40).map(|at| format!("10.{at}.0.1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(named(&many, &[]).len(), NAMED);
    }

    #[test]
    fn anonymised_networks_name_nobody() {
        let nets: Vec<IpNet> = ["10.4.7.21/32", "10.4.7.22/32", "10.4.0.0/16", "2001:db8:1:2::/64"]
            .map(|net| net.parse().unwrap())
            .to_vec();
        let words = |anonymise| shown(&nets, anonymise).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(words(true), ["10.4.7.0/24", "10.4.0.0/16", "2001:db8:1::/48"]);
        assert_eq!(words(false).len(), 4);
    }

    #[test]
    fn a_client_is_in_a_network() {
        let network = |client: &str, anonymise| of(client.parse().unwrap(), anonymise).to_string();
        assert_eq!(network("10.4.7.21", false), "10.4.7.0/24");
        assert_eq!(network("2001:db8:1:2::7", false), "2001:db8:1:2::/64");
        assert_eq!(network("2001:db8:1:2::7", true), "2001:db8:1::/48");
    }
}
