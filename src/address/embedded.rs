//! IPv4 addresses inside IPv6 ones: a client that dials the outer address reaches the inner one, behind a
//! translator, a tunnel or a relay. An operator's own NAT64 prefix in ordinary space (RFC 6052 section 2.2)
//! can't be recognised by the address; then none is found.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The prefix lengths within `64:ff9b:1::/48` from which an IPv4 address follows (RFC 6052 section
/// 2.2).
pub(super) const LENGTHS: [u8; 4] = [48, 56, 64, 96];

/// The IPv4 addresses that may be reached by dialling `address`.
///
/// `network` is the prefix length of the network that the administrator allowed it by. Within
/// `64:ff9b:1::/48` (RFC 8215) it is the translator's prefix, which says where the IPv4 address is.
pub(super) fn embedded(address: Ipv6Addr, network: u8) -> impl Iterator<Item = Ipv4Addr> {
    let segments = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = join(segments[6], segments[7]);
    let mut found = [None; 5];
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
        // IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765), the well-known NAT64 prefix.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            found[0] = Some(last);
        }
        [0x64, 0xff9b, 1, ..] => found[..4].copy_from_slice(&local_nat64(address, network)),
        // Teredo (RFC 4380): its server, and its client with every bit turned over.
        [0x2001, 0, high, low, ..] => {
            found[0] = Some(Ipv4Addr::from_bits(!last.to_bits()));
            found[1] = Some(join(high, low));
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => found[0] = Some(join(high, low)),
        _ => {}
    }
    // ISATAP (RFC 5214 section 6.1), in whatever network.
    if matches!(segments[4..6], [0 | 0x200, 0x5efe]) {
        found[4] = Some(last);
    }
    found.into_iter().flatten()
}

/// What an address in `64:ff9b:1::/48` may hold. An administrator who allows a network wider than
/// the translator's prefix does not say where to look. So bits behind the IPv4 address, which a translator ignores
/// and a DNS64 leaves zero, make every longer prefix possible, too.
fn local_nat64(address: Ipv6Addr, network: u8) -> [Option<Ipv4Addr>; 4] {
    let mut found = [None; 4];
    let mut told = false;
    for (place, length) in LENGTHS.into_iter().enumerate() {
        // A network longer than any prefix is part of one with 96 bits.
        if length < network.min(96) || told {
            continue;
        }
        let (inner, rest_is_zero) = behind(address, usize::from(length));
        // No translator uses 0.0.0.0/8: the prefix has another length.
        if inner.octets()[0] != 0 {
            found[place] = Some(inner);
            told = rest_is_zero;
        }
    }
    if found == [None; 4] {
        found[0] = Some(Ipv4Addr::UNSPECIFIED);
    }
    found
}

/// The IPv4 address behind a prefix of this many bits, and whether all that it leaves unused is
/// zero. The octet of bits 64 to 71 is always unused, but for the longest prefix, which holds it.
fn behind(address: Ipv6Addr, length: usize) -> (Ipv4Addr, bool) {
    const UNUSED: usize = 8;
    let octets = address.octets();
    let skips = length < 96;
    let mut rest = (length / 8..16).filter(|at| !(skips && *at == UNUSED)).map(|at| octets[at]);
    let mut next = || rest.next().unwrap_or(0);
    let inner = Ipv4Addr::new(next(), next(), next(), next());
    (inner, rest.all(|octet| octet == 0) && !(skips && octets[UNUSED] != 0))
}
