//! Which protocol a client's first bytes belong to, in the same words on both listeners: a wrong word in a
//! PAC file and a load balancer's PROXY header are the commonest mistakes in the field. No I/O.

use crate::net::entrance::Entrance;

/// So many bytes always suffice to recognise a protocol.
pub(crate) const ENOUGH: usize = 16;

/// The signature of version 2 (HAProxy, "The PROXY protocol", section 2.2).
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// RFC 8489 §5: the magic cookie of STUN, which TURN over TCP begins with as well.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The longest method that a request may begin with, and its blank.
const METHOD: usize = 12;

/// A protocol that is known by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Tls,
    Http,
    Http2,
    ProxyV1,
    ProxyV2,
    Socks4,
    Socks5,
    Ssh,
    Stun,
    Rdp,
}

/// The protocol of these first bytes; `Err` says whether more of them could still decide it.
pub(crate) fn recognise(bytes: &[u8]) -> Result<Spoken, More> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let may_begin = |with: &[u8]| !bytes.is_empty() && with.starts_with(bytes);
    match bytes {
        // No other protocol here begins with these bytes, so that one or two of them are enough.
        [0x16] | [0x16, 3, ..] => return Ok(Spoken::Tls),
        [5, ..] => return Ok(Spoken::Socks5),
        [4] | [4, 1 | 2, ..] => return Ok(Spoken::Socks4),
        [3, 0, 0, _, ..] => return Ok(Spoken::Rdp),
        [0 | 1, _, _, _, cookie @ ..] if cookie.starts_with(&STUN_COOKIE) => return Ok(Spoken::Stun),
        _ => {}
    }
    if begins(&PROXY_V2[..5]) {
        return Ok(Spoken::ProxyV2);
    }
    for (start, spoken) in
        [(&b"PROXY "[..], Spoken::ProxyV1), (b"PRI * HTTP/2", Spoken::Http2), (b"SSH-", Spoken::Ssh)]
    {
        if begins(start) {
            return Ok(spoken);
        }
    }
    let letters = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    let method = letters >= 3 && bytes.get(letters) == Some(&b' ') && !begins(b"PRI ");
    if method {
        return Ok(Spoken::Http);
    }
    let undecided = may_begin(PROXY_V2)
        || may_begin(b"PRI * HTTP/2")
        || bytes.is_empty()
        || letters == bytes.len() && letters < METHOD
        || matches!(bytes, [0 | 1 | 3, ..]) && bytes.len() < 8;
    Err(if undecided { More::MayTell } else { More::WontTell })
}

/// Whether more bytes could decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    MayTell,
    WontTell,
}

impl Spoken {
    /// What came in on this listener, and what an administrator does about it.
    pub(crate) const fn on(self, entrance: Entrance) -> &'static str {
        match (self, entrance) {
            (Self::Tls, Entrance::Http) => {
                "a TLS handshake on the plain listener: the PAC file says HTTPS where it should say PROXY"
            }
            (Self::Tls, _) => "a TLS handshake that can't be read",
            (Self::Http, Entrance::Https) => {
                "plain HTTP on the TLS listener: the PAC file says PROXY where it should say HTTPS"
            }
            (Self::Http, _) => "a request that can't be read",
            (Self::Http2, _) => "HTTP/2 without TLS is not served",
            (Self::ProxyV1, _) => "a PROXY protocol line: a load balancer adds it, switch it off there",
            (Self::ProxyV2, _) => {
                "a PROXY protocol header (version 2): a load balancer adds it, switch it off there"
            }
            (Self::Socks4 | Self::Socks5, _) => {
                "a SOCKS greeting: this is an HTTP proxy, the PAC file should say PROXY or HTTPS"
            }
            (Self::Ssh, _) => "an SSH greeting: no SSH server is here",
            (Self::Stun, _) => {
                "a STUN message (TURN over TCP): media does not go through an HTTP proxy, open UDP 3478 for it"
            }
            (Self::Rdp, _) => "a remote desktop (RDP) greeting: no such server is here",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETINGS: [(&[u8], Spoken); 14] = [
        (&[0x16, 3, 1, 2, 0, 1], Spoken::Tls),
        (b"CONNECT good.example:443 HTTP/1.1\r\n", Spoken::Http),
        (b"GET / HTTP/1.1\r\n", Spoken::Http),
        (b"M-SEARCH * HTTP/1.1\r\n", Spoken::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Spoken::Http2),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Spoken::ProxyV1),
        (b"PROXY UNKNOWN\r\n", Spoken::ProxyV1),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Spoken::ProxyV2),
        (&[5, 1, 0], Spoken::Socks5),
        (&[4, 1, 1, 187, 192, 0, 2, 1, 0], Spoken::Socks4),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Spoken::Ssh),
        (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9, 9], Spoken::Stun),
        (&[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 9, 9], Spoken::Stun),
        (&[3, 0, 0, 19, 14, 0xe0], Spoken::Rdp),
    ];

    #[test]
    fn each_is_told_by_its_first_bytes() {
        for (bytes, spoken) in GREETINGS {
            assert_eq!(recognise(bytes), Ok(spoken), "{bytes:?}");
            assert_eq!(recognise(&bytes[..bytes.len().min(ENOUGH)]), Ok(spoken), "{bytes:?}");
        }
    }

    #[test]
    fn in_single_bytes_it_is_told_sooner_or_later_and_never_as_another() {
        for (bytes, spoken) in GREETINGS {
            let mut told = None;
            for end in 1..=bytes.len() {
                match recognise(&bytes[..end]) {
                    Ok(now) => {
                        assert_eq!(now, spoken, "{:?}", &bytes[..end]);
                        told = Some(now);
                    }
                    Err(more) => {
                        assert_eq!(told, None, "forgotten: {:?}", &bytes[..end]);
                        assert_eq!(more, More::MayTell, "given up too early: {:?}", &bytes[..end]);
                    }
                }
            }
            assert_eq!(told, Some(spoken), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_given_up() {
        for bytes in [
            &b"\x15\x03\x01\0\x02"[..],
            b"hello",
            b"\xff\xfb\x1f\xff",
            b"\0\0\0\x85\xffSMB",
            b"ABCDEFGHIJKLMNOPQRST",
            b"PRIME\t",
        ] {
            assert_eq!(recognise(bytes), Err(More::WontTell), "{bytes:?}");
        }
    }

    #[test]
    fn both_listeners_say_the_same_of_what_belongs_to_neither() {
        for (_, spoken) in GREETINGS {
            let (plain, tls) = (spoken.on(Entrance::Http), spoken.on(Entrance::Https));
            assert_eq!(plain == tls, !matches!(spoken, Spoken::Tls | Spoken::Http), "{spoken:?}");
        }
    }
}
