//! Which protocol a client's first bytes belong to, in the same words on both listeners: a wrong word in a
//! PAC file and a load balancer's PROXY header are the commonest mistakes in the field. No I/O.

use super::proxy_protocol::SIGNATURE;
use crate::net::entrance::Entrance;

/// So many bytes always suffice to recognise a protocol.
pub(crate) const ENOUGH: usize = 16;

/// What version 2 of the PROXY protocol begins with.
const PROXY_V2: &[u8] = &SIGNATURE;
/// RFC 8489 §5: the magic cookie of STUN, which TURN over TCP begins with as well.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The longest method that a request may begin with, and its blank.
const METHOD: usize = 12;
/// What begins a request whatever follows. Others do before a path, a star or a URL: `OPTIONS` is SIP's,
/// too, and mail and file transfer speak in such words.
const METHODS: [&[u8]; 8] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"TRACE", b"PATCH"];
const OF_SMTP: [&[u8]; 5] = [b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT"];
/// The first words of both; one look can't tell them apart.
const OF_FTP_AND_POP3: [&[u8]; 8] = [b"USER", b"AUTH", b"FEAT", b"SYST", b"CAPA", b"STLS", b"APOP", b"PASS"];
const OF_IMAP: [&[u8]; 6] = [b"CAPABILITY", b"LOGIN", b"STARTTLS", b"AUTHENTICATE", b"NOOP", b"ID"];

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
    Smtp,
    FtpOrPop3,
    Imap,
    Sip,
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
    if bytes.is_empty() || may_begin(PROXY_V2) || may_begin(b"PRI * HTTP/2") {
        return Err(More::MayTell);
    }
    let letters = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    if letters == bytes.len() && letters < METHOD {
        return Err(More::MayTell);
    }
    if letters >= 3 && !begins(b"PRI ") {
        return in_words(&bytes[..letters], &bytes[letters..]);
    }
    if let Some(told) = of_imap(bytes) {
        return told;
    }
    Err(if matches!(bytes, [0 | 1 | 3, ..]) && bytes.len() < 8 { More::MayTell } else { More::WontTell })
}

/// What begins with a word in capitals.
fn in_words(word: &[u8], rest: &[u8]) -> Result<Spoken, More> {
    match rest {
        [b' ', ..] if METHODS.contains(&word) => return Ok(Spoken::Http),
        [b' ' | b'\r' | b'\n', ..] if OF_SMTP.contains(&word) => return Ok(Spoken::Smtp),
        [b' ' | b'\r' | b'\n', ..] if OF_FTP_AND_POP3.contains(&word) => return Ok(Spoken::FtpOrPop3),
        [b' ', b'/' | b'*', ..] => return Ok(Spoken::Http),
        [b' ', ..] => {}
        _ => return Err(More::WontTell),
    }
    let begun = |with: &[u8]| rest[1..].iter().zip(with).all(|(a, b)| a.eq_ignore_ascii_case(b));
    let told = [(&b"http"[..], Spoken::Http), (b"sip:", Spoken::Sip), (b"sips:", Spoken::Sip)];
    match told.into_iter().find(|(with, _)| begun(with)) {
        Some((with, spoken)) if rest.len() > with.len() => Ok(spoken),
        Some(_) => Err(More::MayTell),
        None => Err(More::WontTell),
    }
}

/// IMAP's commands follow a tag that clients count: `a1 LOGIN`, `A001 CAPABILITY`, `3 NOOP`.
fn of_imap(bytes: &[u8]) -> Option<Result<Spoken, More>> {
    let letters = bytes.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let digits = bytes[letters..].iter().take_while(|b| b.is_ascii_digit()).count();
    if letters > 4 || digits > 8 {
        return None;
    }
    let Some((b' ', command)) = bytes[letters + digits..].split_first() else {
        return (letters + digits == bytes.len()).then_some(Err(More::MayTell));
    };
    // As far as it is there: the tag may leave little room for it.
    let begun = |with: &[u8]| command.iter().zip(with).all(|(a, b)| a.eq_ignore_ascii_case(b));
    (digits > 0).then_some(())?;
    let with = OF_IMAP.into_iter().find(|with| begun(with))?;
    Some(if command.len() >= with.len().min(4) { Ok(Spoken::Imap) } else { Err(More::MayTell) })
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
            // Also behind a header that was taken: whether there was one isn't known here.
            (Self::ProxyV1, _) => {
                "a PROXY protocol line from an address that isn't in proxy.proxy_protocol, or a second one: name the load balancer there, or switch it off in the balancer; of several in a row only the nearest may send one"
            }
            (Self::ProxyV2, _) => {
                "a PROXY protocol header (version 2) from an address that isn't in proxy.proxy_protocol, or a second one: name the load balancer there, or switch it off in the balancer; of several in a row only the nearest may send one"
            }
            (Self::Socks4 | Self::Socks5, _) => {
                "a SOCKS greeting: this is an HTTP proxy, the PAC file should say PROXY or HTTPS"
            }
            (Self::Ssh, _) => "an SSH greeting: no SSH server is here",
            (Self::Stun, _) => {
                "a STUN message (TURN over TCP): media does not go through an HTTP proxy, open UDP 3478 for it"
            }
            (Self::Rdp, _) => "a remote desktop (RDP) greeting: no such server is here",
            (Self::Smtp, _) => "an SMTP greeting: no mail server is here",
            (Self::FtpOrPop3, _) => "an FTP or POP3 command: no such server is here",
            (Self::Imap, _) => "an IMAP command: no mail server is here",
            (Self::Sip, _) => "a SIP message: calls of that kind do not go through an HTTP proxy",
        }
    }

    /// What speaks in a tunnel, where TLS is asked for; none of TLS itself.
    const fn in_tunnel(self) -> Option<&'static str> {
        Some(match self {
            Self::Tls => return None,
            Self::Http | Self::Http2 => "HTTP without TLS",
            Self::ProxyV1 | Self::ProxyV2 => "a PROXY protocol header",
            Self::Socks4 | Self::Socks5 => "SOCKS",
            Self::Ssh => "SSH",
            Self::Stun => "STUN (TURN over TCP)",
            Self::Rdp => "remote desktop (RDP)",
            Self::Smtp => "SMTP",
            Self::FtpOrPop3 => "FTP or POP3",
            Self::Imap => "IMAP",
            Self::Sip => "SIP",
        })
    }
}

/// Why a tunnel's first bytes don't pass, with what they are where that can be told.
pub(crate) fn no_hello(what: &str, bytes: &[u8]) -> String {
    match recognise(bytes).ok().and_then(Spoken::in_tunnel) {
        Some(spoken) => format!("{what}: this is {spoken}"),
        // Protocols in which the server speaks first wait like this.
        None if bytes.is_empty() => {
            format!("{what}: it may wait for a greeting, as of an SMTP, FTP, IMAP or database server")
        }
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETINGS: [(&[u8], Spoken); 28] = [
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
        (b"OPTIONS * HTTP/1.1\r\n", Spoken::Http),
        (b"PROPFIND /dav HTTP/1.1\r\n", Spoken::Http),
        (b"PURGE http://good.example/ HTTP/1.1\r\n", Spoken::Http),
        (b"EHLO desk.example\r\n", Spoken::Smtp),
        (b"HELO\r\n", Spoken::Smtp),
        (b"USER anonymous\r\n", Spoken::FtpOrPop3),
        (b"AUTH TLS\r\n", Spoken::FtpOrPop3),
        (b"CAPA\r\n", Spoken::FtpOrPop3),
        (b"a1 LOGIN agent secret\r\n", Spoken::Imap),
        (b"A001 CAPABILITY\r\n", Spoken::Imap),
        (b"0007 id nil\r\n", Spoken::Imap),
        (b"OPTIONS sip:good.example SIP/2.0\r\n", Spoken::Sip),
        (b"REGISTER sip:good.example SIP/2.0\r\n", Spoken::Sip),
        (b"INVITE sips:agent@good.example SIP/2.0\r\n", Spoken::Sip),
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
            b"220 mail.example ESMTP",
            b"+OK ready",
            b"* OK ready",
            b"NICK agent\r\n",
            b"QUIT\r\n",
            b"a1 b2",
            b"220 \r\n",
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
