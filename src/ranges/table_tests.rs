use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn table(prefixes: &[&str]) -> Table {
    prefixes.iter().map(|prefix| prefix.parse::<IpNet>().unwrap()).collect()
}

fn shown(table: &Table) -> Vec<String> {
    let four = table.ipv4().into_iter().map(|net| net.to_string());
    four.chain(table.ipv6().into_iter().map(|net| net.to_string())).collect()
}

#[test]
fn neighbours_and_what_lies_inside_are_one() {
    let all = table(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32", "10.0.3.0/24", "2001:db8::/33"]);
    assert_eq!(shown(&all), ["10.0.0.0/23", "10.0.3.0/24", "2001:db8::/33"]);
    // Neighbours that no prefix holds stay two.
    assert_eq!(shown(&table(&["10.0.1.0/24", "10.0.2.0/24"])), ["10.0.1.0/24", "10.0.2.0/24"]);
    assert_eq!(shown(&table(&["2001:db8:8000::/33", "2001:db8::/33"])), ["2001:db8::/32"]);
}

#[test]
fn the_ends_of_both_families_are_addresses_like_others() {
    for all in [["0.0.0.0/0", "::/0"], ["0.0.0.0/1", "::/1"], ["128.0.0.0/1", "8000::/1"]] {
        assert_eq!(shown(&table(&all)), all);
    }
    let all = table(&["0.0.0.0/0", "::/0"]);
    assert_eq!(all.ipv4_addresses(), 1 << 32);
    assert_eq!(all.without(&all), Table::default());
    assert!(all.contains("255.255.255.255".parse().unwrap()) && all.contains("::".parse().unwrap()));
    let last = table(&["255.255.255.255/32"]);
    assert!(all.meets(&last) && !all.without(&last).contains("255.255.255.255".parse().unwrap()));
    assert_eq!(all.without(&last).with(&last), all);
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_one() {
    let one = table(&["192.0.2.0/24"]);
    assert!(one.contains("::ffff:192.0.2.1".parse().unwrap()));
    assert!(!one.contains("::192.0.2.1".parse().unwrap()));
}

#[test]
fn a_translators_address_leads_into_the_set_where_all_that_it_may_mean_does() {
    let one = table(&["192.0.2.0/24", "2001:db8::/32"]);
    let local = ["64:ff9b:1::/48".parse().unwrap()];
    for (address, inside) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("2001:db8::5efe:8.8.8.8", true),
        ("64:ff9b::192.0.2.1", true),
        ("64:ff9b::192.0.3.1", false),
        // 192.0.2.1 behind 48 bits, and what may be 192.0.3.1 or 192.0.2.9 behind 96.
        ("64:ff9b:1:c000:2:100::", true),
        ("64:ff9b:1:c000:2:100:c000:301", false),
        ("64:ff9b:1:c000:2:100:c000:209", false),
        // Somebody's own network and a tunnel, whose hosts are not the ones in their addresses.
        ("2600::5efe:192.0.2.1", false),
        ("2002:c000:201::1", false),
        ("::192.0.2.1", false),
    ] {
        assert_eq!(one.is_led_to_by(address.parse().unwrap(), &local), inside, "{address}");
    }
}

/// Prefixes that meet often: within a /20, of both families.
fn prefixes() -> impl Strategy<Value = Vec<IpNet>> {
    let four = (0..1u32 << 12, 20..=32u8)
        .prop_map(|(host, length)| Ipv4Net::new_assert((0x0a00_0000 | host).into(), length).trunc().into());
    let six = (0..1u128 << 12, 116..=128u8).prop_map(|(host, length)| {
        Ipv6Net::new_assert(((0x2600 << 112) | host).into(), length).trunc().into()
    });
    prop::collection::vec(prop_oneof![four, six], 0..40)
}

/// Every address of small prefixes: what a set of addresses is by definition.
fn addresses(prefixes: &[IpNet]) -> BTreeSet<IpAddr> {
    let range = |net: &IpNet| -> Vec<IpAddr> {
        match net {
            IpNet::V4(net) => {
                let ends = u32::from(net.network())..=u32::from(net.broadcast());
                ends.map(|n| Ipv4Addr::from(n).into()).collect()
            }
            IpNet::V6(net) => {
                let ends = u128::from(net.network())..=u128::from(net.broadcast());
                ends.map(|n| Ipv6Addr::from(n).into()).collect()
            }
        }
    };
    prefixes.iter().flat_map(range).collect()
}

fn nets(table: &Table) -> Vec<IpNet> {
    table.ipv4().into_iter().map(IpNet::from).chain(table.ipv6().into_iter().map(IpNet::from)).collect()
}

proptest! {
    #[test]
    fn aggregation_neither_widens_nor_narrows(prefixes in prefixes()) {
        let table: Table = prefixes.iter().copied().collect();
        let aggregated = nets(&table);
        prop_assert_eq!(addresses(&aggregated), addresses(&prefixes));
        prop_assert_eq!(&aggregated.iter().copied().collect::<Table>(), &table);
        // As few as there can be: by ipnet's own aggregation.
        let mut theirs = IpNet::aggregate(&prefixes);
        theirs.sort();
        prop_assert_eq!(aggregated, theirs);
    }

    #[test]
    fn sets_are_sets(a in prefixes(), b in prefixes()) {
        let (left, right): (Table, Table) = (a.iter().copied().collect(), b.iter().copied().collect());
        let (a, b) = (addresses(&a), addresses(&b));
        prop_assert_eq!(addresses(&nets(&left.with(&right))), &a | &b);
        prop_assert_eq!(addresses(&nets(&left.without(&right))), &a - &b);
        prop_assert_eq!(left.meets(&right), !a.is_disjoint(&b));
        for (first, last) in left.intervals() {
            prop_assert!(left.contains(first) && left.contains(last));
        }
        for address in &b {
            prop_assert_eq!(left.contains(*address), a.contains(address));
        }
        for net in nets(&right) {
            prop_assert_eq!(left.covers(&net), addresses(&[net]).is_subset(&a));
        }
    }
}

thread_local! {
    static COMPARED: Cell<u32> = const { Cell::new(0) };
}

/// A number that counts how often it is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counted(u32);

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl Number for Counted {
    const ONE: Self = Self(1);
    fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
    fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

#[test]
fn a_look_up_takes_at_most_sixteen_comparisons() {
    // Service AMAZON has 1,753 IPv4 and 2,107 IPv6 prefixes after aggregation; there is room to grow.
    let many = Intervals((0..8000).map(|n| (Counted(n * 10), Counted(n * 10 + 4))).collect());
    for address in 0..80_100 {
        COMPARED.set(0);
        let found = many.holds(Counted(address), Counted(address));
        assert!(COMPARED.get() <= 16, "{}", COMPARED.get());
        assert_eq!(found, address % 10 <= 4 && address < 80_000);
    }
}
