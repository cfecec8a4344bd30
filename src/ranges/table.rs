//! Sets of addresses: for each family a sorted table of intervals, no two of which touch. A look-up is a
//! binary search; the prefixes that come out hold exactly the addresses of those that went in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

use crate::address;

/// One of the two, as in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, VariantArray, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

/// A set of IPv4 and IPv6 addresses.
///
/// The union of any prefixes is held as intervals, so two tables of the same addresses are equal,
/// whatever prefixes they were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    ipv4: Intervals<u32>,
    ipv6: Intervals<u128>,
}

impl Table {
    /// Whether the address is in the set. An IPv4-mapped IPv6 address counts as the IPv4 one in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.ipv4.holds(address.into(), address.into()),
            IpAddr::V6(address) => self.ipv6.holds(address.into(), address.into()),
        }
    }

    /// Whether dialling the address leads into the set, be it through a translator: of what
    /// [`address::led_to`] says, all is in it. `allowed` is as there.
    pub(crate) fn is_led_to_by(&self, address: IpAddr, allowed: &[IpNet]) -> bool {
        address::led_to(address, allowed).all(|host| self.contains(host))
    }

    /// Whether all addresses of the prefix are in the set.
    #[must_use]
    pub fn covers(&self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.ipv4.holds(net.network().into(), net.broadcast().into()),
            IpNet::V6(net) => self.ipv6.holds(net.network().into(), net.broadcast().into()),
        }
    }

    /// The addresses that are in this set and not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self { ipv4: self.ipv4.without(&other.ipv4), ipv6: self.ipv6.without(&other.ipv6) }
    }

    /// The addresses that are in one of the two.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self { ipv4: self.ipv4.with(&other.ipv4), ipv6: self.ipv6.with(&other.ipv6) }
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.without(other) != *self
    }

    /// Whether an address of the prefix is in the set.
    #[must_use]
    pub fn touches(&self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.ipv4.touches(net.network().into(), net.broadcast().into()),
            IpNet::V6(net) => self.ipv6.touches(net.network().into(), net.broadcast().into()),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ipv4.0.is_empty() && self.ipv6.0.is_empty()
    }

    /// The fewest prefixes that hold these IPv4 addresses and no other, in order.
    #[must_use]
    pub fn ipv4(&self) -> Vec<Ipv4Net> {
        let split = |&(first, last): &(u32, u32)| Ipv4Subnets::new(first.into(), last.into(), 0);
        self.ipv4.0.iter().flat_map(split).collect()
    }

    /// The same of IPv6.
    #[must_use]
    pub fn ipv6(&self) -> Vec<Ipv6Net> {
        let split = |&(first, last): &(u128, u128)| Ipv6Subnets::new(first.into(), last.into(), 0);
        self.ipv6.0.iter().flat_map(split).collect()
    }

    /// How many IPv4 addresses are in the set. (Those of IPv6 say nothing: a desk's own network has
    /// more than all of IPv4.)
    #[must_use]
    pub fn ipv4_addresses(&self) -> u64 {
        self.ipv4.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The fewest prefixes of one family that hold its addresses, in order.
    #[must_use]
    pub fn prefixes(&self, family: Family) -> Vec<IpNet> {
        match family {
            Family::Ipv4 => self.ipv4().into_iter().map(IpNet::from).collect(),
            Family::Ipv6 => self.ipv6().into_iter().map(IpNet::from).collect(),
        }
    }

    /// About how many addresses of one family are in the set: exactly where they are few.
    #[must_use]
    pub fn addresses(&self, family: Family) -> f64 {
        match family {
            Family::Ipv4 => self.ipv4_addresses() as f64,
            Family::Ipv6 => self.ipv6.0.iter().map(|(first, last)| (last - first) as f64 + 1.0).sum(),
        }
    }

    /// The first and last address of each interval, in order: IPv4 first.
    pub fn intervals(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let four =
            self.ipv4.0.iter().map(|&(first, last)| {
                (IpAddr::from(Ipv4Addr::from(first)), IpAddr::from(Ipv4Addr::from(last)))
            });
        let six =
            self.ipv6.0.iter().map(|&(first, last)| {
                (IpAddr::from(Ipv6Addr::from(first)), IpAddr::from(Ipv6Addr::from(last)))
            });
        four.chain(six)
    }
}

impl FromIterator<IpNet> for Table {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => four.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => six.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self { ipv4: Intervals::of(four), ipv6: Intervals::of(six) }
    }
}

/// An address as a number.
trait Number: Copy + Ord {
    const ONE: Self;
    fn checked_add(self, other: Self) -> Option<Self>;
    fn checked_sub(self, other: Self) -> Option<Self>;
}

macro_rules! number {
    ($($Type:ty),+) => {$(
        impl Number for $Type {
            const ONE: Self = 1;
            fn checked_add(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
            fn checked_sub(self, other: Self) -> Option<Self> {
                self.checked_sub(other)
            }
        }
    )+};
}
number!(u32, u128);

/// First and last address of each interval: in order, and with addresses between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Intervals<N>(Vec<(N, N)>);

impl<N: Number> Intervals<N> {
    /// The union of any intervals.
    fn of(mut all: Vec<(N, N)>) -> Self {
        all.sort_unstable();
        let mut merged: Vec<(N, N)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                // It overlaps the one before, or begins right behind it.
                Some((_, end)) if end.checked_add(N::ONE).is_none_or(|next| first <= next) => {
                    *end = last.max(*end);
                }
                _ => merged.push((first, last)),
            }
        }
        merged.shrink_to_fit();
        Self(merged)
    }

    /// Whether one interval has both ends, and so everything between them.
    fn holds(&self, first: N, last: N) -> bool {
        let behind = self.0.partition_point(|(begin, _)| *begin <= first);
        behind.checked_sub(1).is_some_and(|at| last <= self.0[at].1)
    }

    /// Whether an interval has an address between the two, or one of them.
    fn touches(&self, first: N, last: N) -> bool {
        let behind = self.0.partition_point(|(begin, _)| *begin <= last);
        behind.checked_sub(1).is_some_and(|at| first <= self.0[at].1)
    }

    fn with(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.iter().peekable();
        for &(mut first, last) in &self.0 {
            while holes.next_if(|(_, end)| *end < first).is_some() {}
            let mut rest = true;
            let mut ahead = holes.clone();
            while let Some(&(begin, end)) = ahead.next_if(|(begin, _)| *begin <= last) {
                if let Some(before) = begin.checked_sub(N::ONE).filter(|before| first <= *before) {
                    left.push((first, before));
                }
                match end.checked_add(N::ONE).filter(|next| *next <= last) {
                    Some(next) => first = next,
                    None => {
                        rest = false;
                        break;
                    }
                }
            }
            if rest {
                left.push((first, last));
            }
        }
        Self(left)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
