//! Which addresses may be dialled: those that are globally routable, and no others.
//!
//! An allowed name can resolve to anything, so every address is judged before it is dialled. The
//! ranges are those of the IANA IPv4 and IPv6 Special-Purpose Address Registries, with the cloud
//! metadata services named apart. An IPv6 address that holds an IPv4 address is judged by that one,
//! too: allowing the translator's network opens nothing behind it that is not global.

mod embedded;
mod in_text;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use embedded::{LENGTHS, embedded};
pub use in_text::cut_in;

/// The network of an address, as far as it may be shown where people must not be: the first 24 bits of
/// an IPv4 address, 48 of an IPv6 one; the rest is 0.
#[must_use]
pub fn cut(address: IpAddr) -> IpAddr {
    cut_network(address.to_canonical().into()).addr()
}

/// A network as far as it may be shown: as [`cut`] does with an address.
#[must_use]
pub fn cut_network(net: IpNet) -> IpNet {
    let most = if matches!(net, IpNet::V4(_)) { 24 } else { 48 };
    IpNet::new(net.addr(), net.prefix_len().min(most)).map_or(net, |net| net.trunc())
}

/// Why an address is not dialled: the kind of range it is in, by its name in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Special {
    /// `0.0.0.0/8` (RFC 791) and `::`: "this host", which many systems dial as loopback.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16` (RFC 1918).
    Private,
    /// `100.64.0.0/10` (RFC 6598), carrier-grade NAT.
    #[strum(serialize = "carrier-grade NAT")]
    SharedNat,
    /// `169.254.0.0/16` (RFC 3927), `fe80::/10`.
    #[strum(serialize = "link-local")]
    LinkLocal,
    /// The metadata and credential services of cloud hosts.
    #[strum(serialize = "cloud metadata")]
    Metadata,
    /// `192.0.0.0/24` (RFC 6890), `2001::/23` (RFC 2928): IETF protocol assignments.
    #[strum(serialize = "IETF protocol assignment")]
    Protocol,
    /// RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// `198.18.0.0/15` (RFC 2544), `2001:2::/48` (RFC 5180).
    Benchmarking,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `240.0.0.0/4`, and IPv6 outside `2000::/3`, from which nothing global is assigned.
    Reserved,
    /// `fc00::/7` (RFC 4193).
    #[strum(serialize = "unique local")]
    UniqueLocal,
    /// `fec0::/10` (RFC 3879).
    #[strum(serialize = "site-local")]
    SiteLocal,
    /// `64:ff9b::/96` (RFC 6052), `64:ff9b:1::/48` (RFC 8215): an IPv4 address behind a translator.
    #[strum(serialize = "NAT64")]
    Nat64,
    /// `2002::/16` (RFC 3056) and its relays in `192.88.99.0/24` (RFC 7526).
    #[strum(serialize = "6to4")]
    SixToFour,
    /// `2001::/32` (RFC 4380).
    #[strum(serialize = "Teredo")]
    Teredo,
    /// `::/96` (RFC 4291, deprecated): an IPv4 address in disguise.
    #[strum(serialize = "IPv4-compatible")]
    Ipv4Compatible,
    /// `100::/64` (RFC 6666) and `100:0:0:1::/64` (RFC 9780).
    #[strum(serialize = "discard-only")]
    Discard,
    /// `5f00::/16` (RFC 9602).
    #[strum(serialize = "segment routing")]
    SegmentRouting,
}

/// Judges an address. An IPv4-mapped one is judged as the IPv4 address it holds, because systems dial
/// that.
///
/// # Errors
/// The kind of range that keeps it from being dialled.
pub fn classify(address: IpAddr) -> Result<(), Special> {
    let special = match address.to_canonical() {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(network, length, _)| v4_prefix(address, *length) == u32::from(*network))
            .map(|range| range.2),
        IpAddr::V6(address) => V6
            .iter()
            .find(|(network, length, _)| v6_prefix(address, *length) == u128::from(*network))
            .map(|range| range.2)
            // Global unicast addresses are assigned from 2000::/3 alone (RFC 4291 section 2.4).
            .or((address.segments()[0] >> 13 != 1).then_some(Special::Reserved)),
    };
    special.map_or(Ok(()), Err)
}

/// An address that is not dialled, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barred {
    pub address: IpAddr,
    /// The kind of range that it is in, or that the IPv4 address in it is in.
    pub special: Special,
    /// The IPv4 address in it, where that one is why the address is not dialled.
    pub embedded: Option<Ipv4Addr>,
}

/// Continues a sentence that begins "the name resolves to".
impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, special, embedded } = self;
        write!(f, "{address}, which is not a public address: it ")?;
        match embedded {
            Some(inner) => write!(f, "stands for {inner}, and that is {special}"),
            None => write!(f, "is {special}"),
        }
    }
}

/// Judges an address where `allowed` are networks that may be dialled although they aren't global.
/// An IPv4 address inside an IPv6 one must be global, too, or lie in one of them itself. A metadata
/// service is opened only by an entry that is exactly its address: people who allow `fd00::/8` or
/// `0.0.0.0/0` mean their own networks, not the credentials of this machine.
///
/// # Errors
/// What keeps the address from being dialled.
pub fn judge(address: IpAddr, allowed: &[IpNet]) -> Result<(), Barred> {
    let address = address.to_canonical();
    let allows = |address: IpAddr| {
        let metadata = classify(address) == Err(Special::Metadata);
        let names = |network: &&IpNet| !metadata || network.prefix_len() == network.max_prefix_len();
        allowed.iter().filter(names).any(|network| network.contains(&address))
    };
    let inner = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(outer) => embedded(outer, allowed_by(outer, allowed))
            .filter(|inner| !allows((*inner).into()))
            .find_map(|inner| classify(inner.into()).err().map(|special| (inner, special))),
    };
    if let Some((inner, special)) = inner {
        return Err(Barred { address, special, embedded: Some(inner) });
    }
    match classify(address) {
        Err(special) if !allows(address) => Err(Barred { address, special, embedded: None }),
        _ => Ok(()),
    }
}

/// The prefix length of the narrowest network that the administrator allowed an address by. One in none of
/// them is read as the commonest translators read it.
fn allowed_by(address: Ipv6Addr, allowed: &[IpNet]) -> u8 {
    let networks = allowed.iter().filter(|network| network.contains(&IpAddr::V6(address)));
    networks.map(IpNet::prefix_len).max().unwrap_or(96)
}

/// The address of the host that dialling this one leads to: itself, as IPv4 where it is IPv4-mapped. Of a NAT64
/// translator's address it is the IPv4 address in it, or each that may be; `allowed` is as for [`judge`].
///
/// The address of a tunnel (6to4, Teredo, ISATAP) is itself: its host is another than the one whose IPv4 address
/// it has, and an ISATAP address may lie in anybody's network.
pub(crate) fn led_to(address: IpAddr, allowed: &[IpNet]) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let inner = match address {
        IpAddr::V6(outer) if classify(address) == Err(Special::Nat64) => {
            Some(embedded(outer, allowed_by(outer, allowed)))
        }
        _ => None,
    };
    let itself = inner.is_none().then_some(address);
    itself.into_iter().chain(inner.into_iter().flatten().map(IpAddr::V4))
}

/// All addresses that dialling this one may reach: itself, as IPv4 where it is IPv4-mapped, and the IPv4
/// addresses in it.
pub fn reached_by(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let inner = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(outer) => Some(LENGTHS.into_iter().flat_map(move |length| embedded(outer, length))),
    };
    let inner = inner.into_iter().flatten().filter(|inner| !inner.is_unspecified());
    std::iter::once(address).chain(inner.map(IpAddr::V4))
}

const fn v4_prefix(address: Ipv4Addr, length: u32) -> u32 {
    // Every length in the table is 1 to 32.
    address.to_bits() & (u32::MAX << (32 - length))
}

const fn v6_prefix(address: Ipv6Addr, length: u32) -> u128 {
    // Every length in the table is 1 to 128.
    address.to_bits() & (u128::MAX << (128 - length))
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

/// The first two and the last segment; the middle of every network here is zero.
const fn v6(first: u16, second: u16, third: u16, fourth: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, fourth, 0, 0, 0, last)
}

/// The first range that holds an address names it, so narrower ranges come first.
const V4: &[(Ipv4Addr, u32, Special)] = &[
    // Instance metadata of EC2, Azure and Google; container and pod credentials of ECS and EKS.
    (v4(169, 254, 169, 254), 32, Special::Metadata),
    (v4(169, 254, 170, 2), 32, Special::Metadata),
    (v4(169, 254, 170, 23), 32, Special::Metadata),
    // Alibaba Cloud, Oracle Cloud, and the host agent of Azure, which has a public address.
    (v4(100, 100, 100, 200), 32, Special::Metadata),
    (v4(192, 0, 0, 192), 32, Special::Metadata),
    (v4(168, 63, 129, 16), 32, Special::Metadata),
    // Tencent Cloud and Scaleway.
    (v4(169, 254, 0, 23), 32, Special::Metadata),
    (v4(169, 254, 42, 42), 32, Special::Metadata),
    (v4(0, 0, 0, 0), 8, Special::Unspecified),
    (v4(10, 0, 0, 0), 8, Special::Private),
    (v4(100, 64, 0, 0), 10, Special::SharedNat),
    (v4(127, 0, 0, 0), 8, Special::Loopback),
    (v4(169, 254, 0, 0), 16, Special::LinkLocal),
    (v4(172, 16, 0, 0), 12, Special::Private),
    (v4(192, 0, 0, 0), 24, Special::Protocol),
    (v4(192, 0, 2, 0), 24, Special::Documentation),
    (v4(192, 88, 99, 0), 24, Special::SixToFour),
    (v4(192, 168, 0, 0), 16, Special::Private),
    (v4(198, 18, 0, 0), 15, Special::Benchmarking),
    (v4(198, 51, 100, 0), 24, Special::Documentation),
    (v4(203, 0, 113, 0), 24, Special::Documentation),
    (v4(224, 0, 0, 0), 4, Special::Multicast),
    (v4(255, 255, 255, 255), 32, Special::Broadcast),
    (v4(240, 0, 0, 0), 4, Special::Reserved),
];

const V6: &[(Ipv6Addr, u32, Special)] = &[
    // EC2 instance metadata and EKS pod credentials.
    (v6(0xfd00, 0xec2, 0, 0, 0x254), 128, Special::Metadata),
    (v6(0xfd00, 0xec2, 0, 0, 0x23), 128, Special::Metadata),
    // Google, Oracle Cloud, Scaleway, Akamai (Linode), Alibaba Cloud.
    (v6(0xfd20, 0xce, 0, 0, 0x254), 128, Special::Metadata),
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128, Special::Metadata),
    (v6(0xfd00, 0x42, 0, 0, 0x42), 128, Special::Metadata),
    (v6(0xfd00, 0xa9fe, 0xa9fe, 0, 1), 128, Special::Metadata),
    (Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200), 128, Special::Metadata),
    (v6(0, 0, 0, 0, 0), 128, Special::Unspecified),
    (v6(0, 0, 0, 0, 1), 128, Special::Loopback),
    (v6(0, 0, 0, 0, 0), 96, Special::Ipv4Compatible),
    (v6(0x64, 0xff9b, 0, 0, 0), 96, Special::Nat64),
    (v6(0x64, 0xff9b, 1, 0, 0), 48, Special::Nat64),
    (v6(0x100, 0, 0, 0, 0), 64, Special::Discard),
    (v6(0x100, 0, 0, 1, 0), 64, Special::Discard),
    (v6(0x2001, 0, 0, 0, 0), 32, Special::Teredo),
    (v6(0x2001, 2, 0, 0, 0), 48, Special::Benchmarking),
    // The few globally reachable parts of this block serve anycast infrastructure, no agents.
    (v6(0x2001, 0, 0, 0, 0), 23, Special::Protocol),
    (v6(0x2001, 0xdb8, 0, 0, 0), 32, Special::Documentation),
    (v6(0x2002, 0, 0, 0, 0), 16, Special::SixToFour),
    (v6(0x3fff, 0, 0, 0, 0), 20, Special::Documentation),
    (v6(0x5f00, 0, 0, 0, 0), 16, Special::SegmentRouting),
    (v6(0xfc00, 0, 0, 0, 0), 7, Special::UniqueLocal),
    (v6(0xfe80, 0, 0, 0, 0), 10, Special::LinkLocal),
    (v6(0xfec0, 0, 0, 0, 0), 10, Special::SiteLocal),
    (v6(0xff00, 0, 0, 0, 0), 8, Special::Multicast),
];

#[cfg(test)]
mod tests;
