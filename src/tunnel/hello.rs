//! The ClientHello guard: what the first bytes of a tunnel must be before any of them goes upstream. It
//! stops domain fronting through broad rules, and anything but TLS over port 443. No I/O. Of the hello only
//! its form and the name are judged.

use std::borrow::Cow;

use strum::{Display, IntoStaticStr, VariantArray};
use tls_parser::{
    TlsExtension, parse_tls_extension_alpn_content, parse_tls_extension_sni_hostname,
    parse_tls_extension_unknown, parse_tls_handshake_client_hello,
};

use crate::target::Host;

/// The longest hello that is accepted, its records included. A padded post-quantum hello has about 2 KiB,
/// the largest seen in the field 16 KiB.
pub(crate) const MAX_HELLO: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Types of extensions (RFC 6066 and RFC 7301).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// RFC 8446 section 4.2.1.
const SUPPORTED_VERSIONS: u16 = 43;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
/// RFC 8446 §5.1: plaintext records hold at most 2^14 bytes; handshake records are never empty.
const MAX_FRAGMENT: usize = 1 << 14;
/// The major version of SSL 3.0 and of every TLS, in records and in the hello.
const MAJOR: u8 = 3;
/// The highest minor version, that of TLS 1.3. A client of it says 1.2, and so will those that come: the field
/// is frozen (RFC 8446 §4.1.2). DTLS and SSLv2 have other numbers.
const HIGHEST_MINOR: u8 = 4;

/// What the first bytes must be: `policy.tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Check {
    /// A ClientHello that names the host of the CONNECT.
    Sni,
    /// Any ClientHello.
    Tls,
    /// Any bytes.
    Off,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So far they are the beginning of a hello.
    Incomplete,
    Pass,
    NotTls(&'static str),
    /// The name that the hello gives instead, if it gives one.
    SniMismatch(Option<String>),
}

/// Judges a hello that comes in pieces. It keeps what whole records held, so that a hostile hello in single
/// bytes costs no more than its length.
#[derive(Debug, Default)]
pub struct Judge {
    /// Where the first record begins that isn't whole yet.
    at: usize,
    /// What the records before it hold.
    message: Vec<u8>,
}

impl Judge {
    /// Judges the bytes that came so far, those of earlier calls included. `host` is the CONNECT's,
    /// in normal form.
    pub fn judge(&mut self, bytes: &[u8], check: Check, host: &Host) -> Verdict {
        if check == Check::Off {
            return Verdict::Pass;
        }
        let message = match self.message(bytes) {
            Ok(Some(message)) => message,
            Ok(None) if bytes.len() >= MAX_HELLO => return Verdict::NotTls("the ClientHello is too long"),
            Ok(None) => return Verdict::Incomplete,
            Err(what) => return Verdict::NotTls(what),
        };
        let named = match server_name(&message) {
            Ok(named) => named,
            Err(what) => return Verdict::NotTls(what),
        };
        match (check, named, host) {
            (Check::Tls, ..) | (_, Named::Nothing, Host::Ip(_)) => Verdict::Pass,
            (_, Named::One(name), Host::Name(host)) if same_name(name, host) => Verdict::Pass,
            (_, Named::One(name), _) => Verdict::SniMismatch(Some(
                String::from_utf8_lossy(&name[..name.len().min(255)]).escape_debug().to_string(),
            )),
            (_, Named::Nothing | Named::Several, _) => Verdict::SniMismatch(None),
        }
    }

    /// What a hello offers that is meant for this proxy itself; none while bytes of it are missing.
    ///
    /// # Errors
    /// When it is none, or a malformed one.
    pub fn offers(&mut self, bytes: &[u8]) -> Result<Option<Offers>, &'static str> {
        let Some(message) = self.message(bytes)? else { return Ok(None) };
        let (_, hello) = parse_tls_handshake_client_hello(&message).map_err(|_| MALFORMED)?;
        let suites = hello.ciphers.iter().map(|suite| suite.0).collect();
        let mut old = hello.version.0 < TLS12;
        let mut protocols = Vec::new();
        each_extension(hello.ext.unwrap_or_default(), |kind, data| {
            if kind == ALPN {
                let (_, list) = parse_tls_extension_alpn_content(data).map_err(|_| MALFORMED)?;
                let TlsExtension::ALPN(list) = list else { return Err(MALFORMED) };
                protocols = list.into_iter().map(<[u8]>::to_vec).collect();
            }
            // It counts instead of the other one (RFC 8446 section 4.2.1).
            if kind == SUPPORTED_VERSIONS {
                let (_, versions) = data.split_first().ok_or(MALFORMED)?;
                let mut versions = versions.chunks_exact(2).map(|v| u16::from_be_bytes([v[0], v[1]]));
                old = !versions.any(|version| matches!(version, TLS12 | TLS13));
            }
            Ok(())
        })?;
        Ok(Some(Offers { old, suites, protocols }))
    }

    /// The body of the first handshake message, put together from its records. `None` while bytes
    /// of it are missing.
    fn message<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
        loop {
            // Each byte is judged as soon as it is there: of what is no TLS record, no more is awaited.
            let rest = &bytes[self.at..];
            match rest {
                [] => return Ok(None),
                [HANDSHAKE] | [HANDSHAKE, MAJOR] => return Ok(None),
                [HANDSHAKE, MAJOR, ..=HIGHEST_MINOR, ..] => {}
                _ => return Err("the first bytes are no TLS handshake"),
            }
            let Some((header, body)) = rest.split_at_checked(5) else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > MAX_FRAGMENT {
                return Err("a TLS record has a length that RFC 8446 does not allow");
            }
            let (fragment, whole) = (&body[..length.min(body.len())], body.len() >= length);
            let mut start = self.message.iter().chain(fragment).copied();
            if start.next().is_some_and(|kind| kind != CLIENT_HELLO) {
                return Err("the first TLS message is no ClientHello");
            }
            if let (Some(a), Some(b), Some(c)) = (start.next(), start.next(), start.next()) {
                let wanted = 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
                if wanted > MAX_HELLO {
                    return Err("the ClientHello is too long");
                }
                let come = self.message.len() + fragment.len();
                if whole && come == wanted {
                    if self.message.is_empty() {
                        return Ok(Some(Cow::Borrowed(&fragment[4..])));
                    }
                    self.message.extend_from_slice(fragment);
                    return Ok(Some(Cow::Owned(self.message.split_off(4))));
                }
                if come > wanted {
                    return Err("the ClientHello shares its record with something else");
                }
            }
            if !whole {
                return Ok(None);
            }
            self.message.extend_from_slice(fragment);
            self.at += 5 + length;
        }
    }
}

/// What a ClientHello offers, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Neither TLS 1.2 nor TLS 1.3.
    pub old: bool,
    /// Cipher suites.
    pub suites: Vec<u16>,
    /// Protocols by ALPN (RFC 7301).
    pub protocols: Vec<Vec<u8>>,
}

enum Named<'a> {
    Nothing,
    One(&'a [u8]),
    Several,
}

const MALFORMED: &str = "the ClientHello is malformed";

/// RFC 6066 §3, strictly: if this reader were lenient, an upstream could read another name than the one
/// checked here, and the guard could be bypassed.
fn server_name(body: &[u8]) -> Result<Named<'_>, &'static str> {
    let (rest, hello) = parse_tls_handshake_client_hello(body).map_err(|_| MALFORMED)?;
    let [MAJOR, ..=HIGHEST_MINOR] = hello.version.0.to_be_bytes() else {
        return Err("the ClientHello has a version that no TLS has");
    };
    if !rest.is_empty() || hello.ciphers.is_empty() || hello.comp.is_empty() {
        return Err(MALFORMED);
    }
    let mut named = Named::Nothing;
    let mut seen = false;
    each_extension(hello.ext.unwrap_or_default(), |kind, data| {
        if kind == SERVER_NAME {
            if std::mem::replace(&mut seen, true) {
                return Err("the ClientHello has two server_name extensions");
            }
            named = list(data)?;
        }
        Ok(())
    })?;
    Ok(named)
}

fn each_extension<'a>(
    mut extensions: &'a [u8],
    mut look: impl FnMut(u16, &'a [u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    while !extensions.is_empty() {
        let (next, extension) = parse_tls_extension_unknown(extensions).map_err(|_| MALFORMED)?;
        extensions = next;
        let TlsExtension::Unknown(kind, data) = extension else { return Err(MALFORMED) };
        look(kind.0, data)?;
    }
    Ok(())
}

fn list(data: &[u8]) -> Result<Named<'_>, &'static str> {
    let Some((length, names)) = data.split_first_chunk::<2>() else {
        return if data.is_empty() { Ok(Named::Nothing) } else { Err(MALFORMED) };
    };
    if usize::from(u16::from_be_bytes(*length)) != names.len() {
        return Err(MALFORMED);
    }
    if names.is_empty() {
        return Ok(Named::Nothing);
    }
    let (rest, (kind, name)) = parse_tls_extension_sni_hostname(names).map_err(|_| MALFORMED)?;
    Ok(if rest.is_empty() && kind.0 == 0 { Named::One(name) } else { Named::Several })
}

/// Letter case and one trailing dot don't count.
fn same_name(name: &[u8], host: &str) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    name.eq_ignore_ascii_case(host.as_bytes())
}

#[cfg(test)]
mod tests;
