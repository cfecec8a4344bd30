//! The PROXY protocol, versions 1 and 2 (HAProxy, "The PROXY protocol"): whom a load balancer speaks for.
//! What a header must look like, and how many of a connection's first bytes belong to it; no I/O.
//!
//! A header names a client, or says that the balancer speaks for itself (LOCAL, UNKNOWN). What else it
//! carries is skipped, but for its checksum.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The signature of version 2 (section 2.2).
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included (section 2.1).
const LONGEST_LINE: usize = 107;
/// The longest header of version 2 that is taken, in bytes. A header with a client certificate's names, an
/// authority and a cloud's own fields has a few hundred.
pub const LONGEST: usize = 4096;
/// Signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// The type of the field that holds a CRC32c over the header.
const CRC32C: u8 = 3;

/// Whom a balancer speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A client, by its address and the one that it connected to.
    Client { source: SocketAddr, destination: SocketAddr },
    /// The balancer itself, which checks whether this proxy lives, or doesn't know its client.
    Balancer,
}

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// All of a header: its speaker, and its length in bytes.
    Whole(Speaker, usize),
    /// So many more bytes belong to the header in any case, at least 1.
    Wants(usize),
}

/// Why first bytes are no header that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("no PROXY protocol header, which a load balancer in proxy.proxy_protocol must send")]
    Missing,
    #[error("the connection ended within the PROXY protocol header")]
    Ended,
    #[error("a PROXY protocol line that is no `PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT`")]
    Line,
    #[error("a PROXY protocol line of more than 107 bytes")]
    LongLine,
    #[error("a PROXY protocol header of a version that isn't 2, or with an unknown command")]
    Version,
    #[error("a PROXY protocol header for something else than TCP over IPv4 or IPv6")]
    Family,
    #[error("a PROXY protocol header that is too short for its addresses")]
    Short,
    #[error("a PROXY protocol header of more than 4096 bytes")]
    TooLong,
    #[error("a PROXY protocol header whose last field is cut off")]
    CutOff,
    #[error("a PROXY protocol header whose CRC32c is wrong")]
    Checksum,
}

/// Reads the header that begins with these bytes. What follows it isn't looked at.
///
/// # Errors
/// As soon as the bytes can't become a header any more.
pub fn read(bytes: &[u8]) -> Result<Header, Fault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if bytes.is_empty() {
        return Ok(Header::Wants(PREFIX.len()));
    }
    if begins(PREFIX) {
        return match PREFIX.len().checked_sub(bytes.len()) {
            Some(missing @ 1..) => Ok(Header::Wants(missing)),
            _ => line(bytes),
        };
    }
    if !begins(&SIGNATURE) {
        return Err(Fault::Missing);
    }
    if let Some(missing @ 1..) = FIXED.checked_sub(bytes.len()) {
        return Ok(Header::Wants(missing));
    }
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 || bytes[12] & 15 > 1 {
        return Err(Fault::Version);
    }
    if length > LONGEST {
        return Err(Fault::TooLong);
    }
    match bytes.get(..length) {
        Some(header) => Ok(Header::Whole(binary(header)?, length)),
        None => Ok(Header::Wants(length - bytes.len())),
    }
}

/// Version 1: a line of text.
fn line(bytes: &[u8]) -> Result<Header, Fault> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        let left = LONGEST_LINE - within.len();
        return match within.last() {
            // A line ends in CRLF, or goes on.
            Some(b'\r') if left >= 1 => Ok(Header::Wants(1)),
            _ if left >= 2 => Ok(Header::Wants(2)),
            _ => Err(Fault::LongLine),
        };
    };
    let text = std::str::from_utf8(&bytes[PREFIX.len()..end]).map_err(|_| Fault::Line)?;
    let speaker = match text.split(' ').collect::<Vec<_>>()[..] {
        // Whatever follows is to be ignored.
        ["UNKNOWN", ..] => Speaker::Balancer,
        ["TCP4", from, to, from_port, to_port] => between::<Ipv4Addr>([from, to], [from_port, to_port])?,
        ["TCP6", from, to, from_port, to_port] => between::<Ipv6Addr>([from, to], [from_port, to_port])?,
        _ => return Err(Fault::Line),
    };
    Ok(Header::Whole(speaker, end + 2))
}

fn between<A: std::str::FromStr + Into<IpAddr>>(
    addresses: [&str; 2],
    ports: [&str; 2],
) -> Result<Speaker, Fault> {
    let at = |i: usize| {
        let address: A = addresses[i].parse().map_err(|_| Fault::Line)?;
        let digits = ports[i].bytes().all(|b| b.is_ascii_digit());
        let port =
            ports[i].parse().ok().filter(|_| digits && (ports[i] == "0" || !ports[i].starts_with('0')));
        Ok(SocketAddr::new(address.into().to_canonical(), port.ok_or(Fault::Line)?))
    };
    Ok(Speaker::Client { source: at(0)?, destination: at(1)? })
}

/// Version 2, whole.
fn binary(header: &[u8]) -> Result<Speaker, Fault> {
    let (family, protocol) = (header[13] >> 4, header[13] & 15);
    let block = &header[FIXED..];
    if header[12] & 15 == 0 {
        // LOCAL: the block says nothing, and may be anything. Where it has a checksum, it must be right.
        let addresses = [0, 12, 36, 216].get(usize::from(family)).copied();
        let fields = addresses.and_then(|length| block.get(length..)).unwrap_or_default();
        if checked(header, fields) == Err(Fault::Checksum) {
            return Err(Fault::Checksum);
        }
        return Ok(Speaker::Balancer);
    }
    let (speaker, length) = match (family, protocol) {
        (0, 0) => (Speaker::Balancer, 0),
        (1, 1) => (ends::<4>(block)?, 12),
        (2, 1) => (ends::<16>(block)?, 36),
        _ => return Err(Fault::Family),
    };
    checked(header, &block[length..])?;
    Ok(speaker)
}

/// Two addresses of this many bytes, then two ports.
fn ends<const N: usize>(block: &[u8]) -> Result<Speaker, Fault>
where
    IpAddr: From<[u8; N]>,
{
    let address = |at: usize| block.get(at..)?.first_chunk::<N>().map(|octets| IpAddr::from(*octets));
    let port = |at: usize| block.get(at..)?.first_chunk().map(|port| u16::from_be_bytes(*port));
    let end = |i: usize| Some(SocketAddr::new(address(i * N)?.to_canonical(), port(2 * N + 2 * i)?));
    match (end(0), end(1)) {
        (Some(source), Some(destination)) => Ok(Speaker::Client { source, destination }),
        _ => Err(Fault::Short),
    }
}

/// Goes through the fields behind the addresses: each a type, a length and a value. Only the checksum is
/// looked at; it covers the header with its own four bytes as zeros.
fn checked(header: &[u8], mut fields: &[u8]) -> Result<(), Fault> {
    while let Some((kind, rest)) = fields.split_first() {
        let (length, rest) = rest.split_first_chunk().ok_or(Fault::CutOff)?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(Fault::CutOff)?;
        if *kind == CRC32C {
            let at = header.len() - rest.len() - value.len();
            let said = value.try_into().map(u32::from_be_bytes).map_err(|_| Fault::Checksum)?;
            let zeros = [0; 4];
            let parts = [&header[..at], &zeros, &header[at + zeros.len()..]];
            if said != crc32c(parts.into_iter().flatten().copied()) {
                return Err(Fault::Checksum);
            }
        }
        fields = rest;
    }
    Ok(())
}

/// The cyclic redundancy check of RFC 9260, appendix A. Bit by bit: a header is short, and most have none.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
