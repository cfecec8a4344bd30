//! What a client asks for: a host and a port, read strictly.
//!
//! `http::Uri` takes user information, percent signs, zone identifiers and ports above 65535 in an
//! authority, so the wire form is parsed here byte by byte; whatever is accepted has one normal
//! form that policy, log and dialer share. Nothing here resolves a name or decides anything.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Longest name in text form without the root dot (RFC 1035 section 3.1, 255 octets on the wire).
pub const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// The port of a target that an administrator types without one.
pub const DEFAULT_PORT: u16 = 443;

/// A host in normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Lower case, A-labels, no trailing dot; letters, digits, `-`, `_` and single dots only. Shared,
    /// because a thousand tunnels go to the same few hosts.
    Name(Arc<str>),
    /// A dotted quad, or what stood in brackets; `::ffff:a.b.c.d` stays IPv6.
    Ip(IpAddr),
}

/// A host and the port on it, 1 to 65535.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

/// A host, an address without brackets, and a port, as one text: `proxy.corp:3128`, `[::1]:3128`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a>(pub &'a str, pub u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The forms of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A path: for this server itself.
    Origin,
    /// A URL for the server to fetch; `tls` where its scheme is one for TLS.
    Absolute { tls: bool },
    /// `host:port`, which is for CONNECT.
    Authority,
    /// `*`, which is for OPTIONS.
    Asterisk,
    /// None of them.
    None,
}

impl Form {
    /// The form that a target has; whether its parts are good is not judged.
    #[must_use]
    pub fn of(target: &str) -> Self {
        match target.split_once(':') {
            _ if target.starts_with('/') => Self::Origin,
            None if target == "*" => Self::Asterisk,
            _ if Target::parse_authority(target.as_bytes()).is_ok() => Self::Authority,
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() => {
                let tls = ["https", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
                Self::Absolute { tls }
            }
            _ => Self::None,
        }
    }
}

/// RFC 3986 section 3.1.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.len() <= 16
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// The scheme of a URI reference, and what follows its colon; none for a relative one, whatever its path and
/// its query hold (RFC 3986 section 4.2).
pub(crate) fn scheme(reference: &str) -> Option<(&str, &str)> {
    reference.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
}

/// The path of a request target in origin form, which alone decides what a server of ours answers: neither
/// a query, which people add to get past caches, nor a fragment, which belongs to the client (RFC 9110
/// §7.1), is part of it.
pub fn path(origin_form: &str) -> &str {
    origin_form.split(['?', '#']).next().unwrap_or_default()
}

/// Why a text is not a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the host is empty; expected host:port")]
    EmptyHost,
    #[error("the port is missing; expected host:port")]
    MissingPort,
    #[error("the port must be 1 to 65535 in plain digits, without sign or leading zeros")]
    Port,
    #[error("the host has an empty label: a leading dot, or two dots in a row")]
    EmptyLabel,
    #[error("a label of the host is longer than 63 bytes")]
    LabelTooLong,
    #[error("the host is longer than 253 bytes")]
    NameTooLong,
    #[error("`*` belongs in patterns; a target names one host")]
    Wildcard,
    #[error("user information before `@` is not accepted; expected host:port")]
    Userinfo,
    #[error("`{}` cannot stand in a host name; valid are letters, digits, `-`, `_` and dots", .0.escape_ascii())]
    Character(u8),
    #[error("an IPv6 address must stand in one pair of brackets, as in [2001:db8::1]:443")]
    Brackets,
    #[error("what stands in the brackets is not an IPv6 address without a zone")]
    Ipv6,
    #[error("a path follows the host; write the host alone or a whole URL such as https://host/path")]
    Path,
    #[error("a scheme before the host; expected host:port alone")]
    SchemeBeforeHost,
    #[error("the scheme is not one of http, https, ws, wss, turn, turns, stun, stuns")]
    Scheme,
    #[error("the host is not a valid internationalised name")]
    Idna,
}

impl Target {
    /// Reads the authority form of a CONNECT (RFC 9112 section 3.2.3): `host:port`, nothing else.
    ///
    /// One trailing dot of the host is dropped and letters are folded to lower case. `xn--` labels
    /// are compared as they stand, never decoded. Allocates only the name.
    ///
    /// # Errors
    /// Says which part is malformed; see [`TargetError`].
    pub fn parse_authority(authority: &[u8]) -> Result<Self, TargetError> {
        let (host, port) = split(authority)?;
        Ok(Self { host, port: parse_port(port.ok_or(TargetError::MissingPort)?)? })
    }

    /// The same; where the port is left out, it is `default`.
    ///
    /// # Errors
    /// Says which part is malformed; see [`TargetError`].
    pub(crate) fn parse_authority_or(authority: &[u8], default: u16) -> Result<Self, TargetError> {
        let (host, port) = split(authority)?;
        Ok(Self { host, port: port.map_or(Ok(default), parse_port)? })
    }

    /// Reads what an administrator types: `host`, `host:port` or an http, https, ws or wss URL,
    /// whose path is dropped, or a turn, turns, stun or stuns URI, as panels log them. Where no port is
    /// given it is that of the scheme, and 443 without one. Names in other scripts become A-labels; an IPv6 address needs no brackets when it stands alone.
    ///
    /// # Errors
    /// Says which part is malformed; see [`TargetError`].
    pub fn parse_human(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        let (text, default) = match ice_server(text) {
            Some((rest, port)) => (rest, port),
            None => (text, DEFAULT_PORT),
        };
        let (authority, default) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let default = match scheme.to_ascii_lowercase().as_str() {
                    "https" | "wss" => DEFAULT_PORT,
                    "http" | "ws" => 80,
                    _ => return Err(TargetError::Scheme),
                };
                (rest.split(['/', '?', '#']).next().unwrap_or(rest), default)
            }
            None if text.contains(['/', '?', '#']) => return Err(TargetError::Path),
            None => (text, default),
        };
        if let Ok(address) = authority.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ip(address.into()), port: default });
        }
        if authority.contains('@') {
            return Err(TargetError::Userinfo);
        }
        let (host, port) = if authority.is_ascii() {
            split(authority.as_bytes())?
        } else {
            // Only the host can be in another script; the digits of the port cannot.
            let (name, port) = match authority.split_once(':') {
                Some((name, port)) => (name, Some(port.as_bytes())),
                None => (authority, None),
            };
            let name = idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::EMPTY)
                .map_err(|_| TargetError::Idna)?;
            (parse_host(name.as_bytes())?, port)
        };
        let port = port.map_or(Ok(default), parse_port)?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Piece by piece, without an intermediate text: every tunnel writes its target.
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Ip(address) => address.fmt(f)?,
            Host::Name(name) => f.write_str(name)?,
        }
        f.write_str(":")?;
        self.port.fmt(f)
    }
}

impl Host {
    /// Reads a host without a port, as it stands in an authority: a name, a dotted quad, or an
    /// IPv6 address in brackets.
    ///
    /// # Errors
    /// Says what is malformed; see [`TargetError`].
    pub fn parse(host: &[u8]) -> Result<Self, TargetError> {
        match split(host)? {
            (host, None) => Ok(host),
            (_, Some(_)) => Err(TargetError::Character(b':')),
        }
    }

    /// Reads the host of an authority whose port may be left out or empty, such as a Host field.
    ///
    /// # Errors
    /// Says what is malformed; see [`TargetError`].
    pub fn parse_authority(authority: &[u8]) -> Result<Self, TargetError> {
        let (host, port) = split(authority)?;
        port.filter(|port| !port.is_empty()).map(parse_port).transpose()?;
        Ok(host)
    }

    /// An address, or a name that reads as one.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Ip(_)) || self.is_numeric_name()
    }

    /// Whether a C resolver or a browser would read the name as an IPv4 address: `127.1`,
    /// `2130706433`, `0x7f000001` (the WHATWG URL standard's "ends in a number"). Such a name is
    /// judged like an IP literal and never resolved.
    #[must_use]
    pub fn is_numeric_name(&self) -> bool {
        match self {
            Self::Name(name) => ends_in_number(name),
            Self::Ip(_) => false,
        }
    }
}

/// The name, or the address without brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// The host, port and default port of a `turn:` or `stun:` URI as panels log them (RFC 7064, RFC
/// 7065): `turn:host:3478?transport=udp`. `turn:443` is a host called turn.
fn ice_server(text: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = text.split_once(':')?;
    let port = match scheme.to_ascii_lowercase().as_str() {
        "turn" | "stun" => 3478,
        "turns" | "stuns" => 5349,
        _ => return None,
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let authority = rest.split('?').next().unwrap_or(rest);
    (!authority.bytes().all(|byte| byte.is_ascii_digit())).then_some((authority, port))
}

/// Whether the last label is a number to the WHATWG URL parser: digits, or `0x` and hex digits
/// (also none).
pub(crate) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name).as_bytes();
    let decimal = !last.is_empty() && last.iter().all(u8::is_ascii_digit);
    let hex = match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    decimal || hex
}

/// Splits an ASCII or raw authority at the port's colon and reads the host.
fn split(authority: &[u8]) -> Result<(Host, Option<&[u8]>), TargetError> {
    if let [b'[', rest @ ..] = authority {
        let close = rest.iter().position(|&byte| byte == b']').ok_or(TargetError::Brackets)?;
        let address = std::str::from_utf8(&rest[..close])
            .ok()
            .and_then(|text| text.parse::<Ipv6Addr>().ok())
            .ok_or(TargetError::Ipv6)?;
        let port = match &rest[close + 1..] {
            [] => None,
            [b':', port @ ..] => Some(port),
            _ => return Err(TargetError::Brackets),
        };
        return Ok((Host::Ip(address.into()), port));
    }
    let (host, port) = match authority.iter().position(|&byte| byte == b':') {
        Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
        None => (authority, None),
    };
    if port.is_some_and(|port| port.starts_with(b"//")) {
        return Err(TargetError::SchemeBeforeHost);
    }
    // `user:password@host` has a colon before the host.
    if port.is_some_and(|port| port.contains(&b'@')) {
        return Err(TargetError::Userinfo);
    }
    if port.is_some_and(|port| port.contains(&b':')) {
        return Err(TargetError::Brackets);
    }
    Ok((parse_host(host)?, port))
}

fn parse_port(digits: &[u8]) -> Result<u16, TargetError> {
    match digits {
        [b'1'..=b'9', rest @ ..] if rest.len() < 5 && rest.iter().all(u8::is_ascii_digit) => {
            let value = digits.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
            u16::try_from(value).map_err(|_| TargetError::Port)
        }
        [] => Err(TargetError::MissingPort),
        _ => Err(TargetError::Port),
    }
}

/// Reads a name or a dotted quad.
fn parse_host(host: &[u8]) -> Result<Host, TargetError> {
    if host.is_empty() {
        return Err(TargetError::EmptyHost);
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > MAX_NAME {
        return Err(TargetError::NameTooLong);
    }
    let mut label = 0;
    for &byte in host {
        match byte {
            b'.' if label == 0 => return Err(TargetError::EmptyLabel),
            b'.' => label = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                label += 1;
                if label > MAX_LABEL {
                    return Err(TargetError::LabelTooLong);
                }
            }
            b'*' => return Err(TargetError::Wildcard),
            b'@' => return Err(TargetError::Userinfo),
            b'[' | b']' => return Err(TargetError::Brackets),
            other => return Err(TargetError::Character(other)),
        }
    }
    if label == 0 {
        return Err(TargetError::EmptyLabel);
    }
    // Every byte was checked to be ASCII, so this never fails.
    let text = std::str::from_utf8(host).map_err(|_| TargetError::Character(0x80))?;
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(address.into()));
    }
    let mut name: Arc<str> = text.into();
    // Nobody shares it yet.
    if let Some(name) = Arc::get_mut(&mut name) {
        name.make_ascii_lowercase();
    }
    Ok(Host::Name(name))
}

#[cfg(test)]
mod tests;
