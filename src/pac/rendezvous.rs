//! `pac.spread`: an order of the proxies for each client, by rendezvous hashing (Thaler and Ravishankar,
//! 1998). Every proxy name gets a weight for the client, and the heaviest comes first. So all replicas
//! give a client the same order without knowing of one another, and a name that is taken away moves
//! only those clients whose first it was.

use std::cmp::Reverse;
use std::net::IpAddr;

use strum::{IntoStaticStr, VariantArray};

/// `pac.spread`: what the order of the proxies depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Spread {
    /// The list alone.
    #[default]
    Off,
    /// Who fetches the file.
    Client,
}

/// Whom an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of a client. The addresses of one computer in an IPv6 network change daily and have their
    /// /64 in common.
    #[must_use]
    pub fn of_client(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(four) => Self(hash(&four.octets())),
            IpAddr::V6(six) => Self(hash(&six.octets()[..8])),
        }
    }

    /// The key that somebody chose for a client. An address is the key of the client there; none where the
    /// text is empty.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(address) => Some(Self::of_client(address)),
            Err(_) => (!text.is_empty()).then(|| Self(hash(text.as_bytes()))),
        }
    }

    /// The key that the query of a URL gives by `key=`, as it is written there.
    #[must_use]
    pub fn of_query(query: &str) -> Option<Self> {
        query.split('&').find_map(|pair| pair.strip_prefix("key=")).and_then(Self::of_text)
    }

    fn weight(self, name: &str) -> u64 {
        mixed(self.0 ^ hash(name.to_ascii_lowercase().as_bytes()))
    }

    /// Puts things in the order of this key, by the names that they have. Things of one name stay together,
    /// in their order.
    pub(super) fn sort<T>(self, things: &mut [T], name: impl Fn(&T) -> &str) {
        things.sort_by_cached_key(|thing| {
            let name = name(thing).to_ascii_lowercase();
            (Reverse(self.weight(&name)), name)
        });
    }
}

/// FNV-1a, mixed. It must never change: replicas of two versions share their agents during an upgrade.
fn hash(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    mixed(bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// The finaliser of SplitMix64: each bit of the result depends on all bits.
const fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn order<'a>(key: Key, names: &[&'a str]) -> Vec<&'a str> {
        let mut names = names.to_vec();
        key.sort(&mut names, |name| *name);
        names
    }

    const NAMES: [&str; 5] =
        ["proxy1.corp.example", "proxy2.corp.example", "proxy3.corp.example", "10.0.0.9", "2001:db8::9"];

    #[test]
    fn the_order_never_changes() {
        let of = |text: &str| order(Key::of_text(text).unwrap(), &["p1", "p2", "p3"]);
        // Worked out once: another hash would move agents during an upgrade.
        assert_eq!(of("10.0.0.1"), ["p2", "p1", "p3"]);
        assert_eq!(of("site-7"), ["p2", "p3", "p1"]);
        assert_eq!(of("2001:db8::1"), ["p2", "p3", "p1"]);
    }

    #[test]
    fn keys_are_addresses_networks_of_ipv6_and_texts() {
        let client = |address: &str| Key::of_client(address.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::4"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(Key::of_text("10.0.0.1"), Some(client("10.0.0.1")));
        for (query, key) in [
            ("key=desk-7", Key::of_text("desk-7")),
            ("v=2&key=desk-7&key=desk-8", Key::of_text("desk-7")),
            ("key=2001:db8:1:2::9", Some(client("2001:db8:1:2::3"))),
            ("key=", None),
            ("key", None),
            ("monkey=x", None),
            ("KEY=x", None),
            ("", None),
        ] {
            assert_eq!(Key::of_query(query), key, "{query}");
        }
    }

    /// Agents of whole networks, whose addresses differ in their last bits alone, come evenly upon the
    /// proxies, first and in all orders.
    #[test]
    fn neighbours_are_spread_evenly() {
        let four = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a04_0000 + n));
        let six = |n: u32| IpAddr::V6(Ipv6Addr::from((0x2001_0db8_0000_0000_u128 + u128::from(n)) << 64));
        let desks = |n: u32| Key::of_text(&format!("desk-{n}")).unwrap();
        let kinds: [&dyn Fn(u32) -> Key; 3] =
            [&|n| Key::of_client(four(n)), &|n| Key::of_client(six(n)), &desks];
        for key in kinds {
            let names = &NAMES[..3];
            let mut orders = std::collections::BTreeMap::<Vec<&str>, usize>::new();
            for n in 0..6000 {
                *orders.entry(order(key(n), names)).or_default() += 1;
            }
            assert_eq!(orders.len(), 6, "{orders:?}");
            // A thousand each; five standard deviations of a fair die.
            assert!(orders.values().all(|count| count.abs_diff(1000) < 145), "{orders:?}");
        }
    }

    proptest! {
        /// Whichever proxy goes, the order of the others stays for everybody: only the agents whose first
        /// it was have another one.
        #[test]
        fn losing_one_moves_only_its_own(
            clients in proptest::collection::vec(any::<IpAddr>(), 1..50),
            names in proptest::collection::btree_set("[a-z0-9.-]{1,20}", 2..8),
            lost in any::<proptest::sample::Index>(),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let lost = *lost.get(&names);
            let left: Vec<&str> = names.iter().copied().filter(|name| *name != lost).collect();
            for client in clients {
                let key = Key::of_client(client);
                let before = order(key, &names);
                let expected: Vec<&str> = before.iter().copied().filter(|name| *name != lost).collect();
                prop_assert_eq!(order(key, &left), expected);
                // The order in which a configuration lists them doesn't matter, nor their case.
                let turned: Vec<&str> = names.iter().copied().rev().collect();
                prop_assert_eq!(order(key, &turned), &before[..]);
                prop_assert_eq!(key.weight(lost), key.weight(&lost.to_ascii_uppercase()));
            }
        }
    }
}
