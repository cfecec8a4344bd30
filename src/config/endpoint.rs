//! Hosts with ports as text: the proxies that the PAC file names, its results, and the keys of
//! `egress.connect_to`. Like `notation`, this says why a text is wrong and leaves it to the key's kind to
//! say what would be valid. What a host is decides [`Host::parse`] alone; apart from `target`'s readers
//! these keep the letters of a host as the administrator wrote them, and their errors are made for a file.
//! No I/O.

use std::fmt;
use std::net::Ipv6Addr;

use super::notation::port;
use crate::pac::proxies::Advertised;
use crate::policy::Pattern;
use crate::target::{Authority, Host};

/// A key of `egress.connect_to`: the targets that are dialled elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatternPort {
    pub pattern: Pattern,
    pub port: u16,
}

impl fmt::Display for PatternPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Authority(self.pattern.as_str(), self.port).fmt(f)
    }
}

/// `proxy1.corp:3128`, `https://proxy1.corp:3129`; the scheme in any letter case (RFC 3986
/// section 3.1).
pub(super) fn advertised(text: &str) -> Result<Advertised, String> {
    let (https, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, _)) => return Err(format!("unknown scheme {scheme:?}")),
        None => (false, text),
    };
    match host_port(rest) {
        Ok((host, port)) => Ok(Advertised { https, host, port }),
        Err(why) => Err(offer(&why, meant(text).filter(|meant| meant != text && advertised(meant).is_ok()))),
    }
}

/// The entry that was probably meant by a word of a PAC file, or by a URL with more than a proxy
/// in it.
fn meant(text: &str) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https://", rest),
        Some((_, rest)) => ("", rest),
        None => match text.split_once(' ') {
            Some((word, rest)) if word.eq_ignore_ascii_case("https") => ("https://", rest.trim()),
            Some((_, rest)) => ("", rest.trim()),
            None => ("", text),
        },
    };
    let authority = rest.split(['/', '?', '#', ';']).next()?.trim();
    let (host, port) = host_port(authority.rsplit('@').next()?).ok()?;
    Some(format!("{scheme}{}", Authority(&host, port)))
}

fn offer(why: &str, meant: Option<String>) -> String {
    match meant {
        Some(meant) => format!("{why}, did you mean {meant:?}?"),
        None => why.to_owned(),
    }
}

/// A key of `egress.connect_to`.
pub(super) fn pattern_port(text: &str) -> Result<PatternPort, String> {
    let (pattern, digits) = text.rsplit_once(':').ok_or("the port is missing")?;
    let port = port(digits)?;
    match Pattern::parse(pattern) {
        Ok(pattern) => Ok(PatternPort { pattern, port }),
        Err(error) => {
            // A pattern's corrections lack the port.
            let write = error.corrections().iter().map(|write| format!("\"{write}:{port}\""));
            let write = write.collect::<Vec<_>>().join(" or ");
            let why = error.reason();
            Err(if write.is_empty() { why } else { format!("{why}, write {write}") })
        }
    }
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let (host, digits) = text.rsplit_once(':').ok_or("the port is missing")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => {
            let address = inner.parse::<Ipv6Addr>();
            address.map_err(|_| format!("{inner:?} is not an IPv6 address"))?.to_string()
        }
        None if Host::parse(host.as_bytes()).is_ok() => host.to_owned(),
        None if text.parse::<Ipv6Addr>().is_ok() => {
            return Err("an IPv6 address stands in brackets, as in \"[::1]:3128\"".to_owned());
        }
        None => return Err(format!("{host:?} is not a host")),
    };
    Ok((host, port(digits)?))
}

/// What FindProxyForURL may return: results separated by `;`, brought into one form.
pub(super) fn pac_result(text: &str) -> Result<String, String> {
    let mut results = Vec::new();
    for result in text.trim_end().trim_end_matches(';').split(';') {
        let mut words = result.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let proxy = words.next();
        if words.next().is_some() {
            return Err(format!("{:?} has too many words", result.trim()));
        }
        results.push(match (keyword.as_str(), proxy) {
            ("DIRECT", None) => keyword,
            ("PROXY" | "HTTP" | "HTTPS" | "SOCKS" | "SOCKS4" | "SOCKS5", Some(proxy)) => {
                let (host, port) = host_port(proxy)?;
                format!("{keyword} {}", Authority(&host, port))
            }
            ("", None) => return Err("a result is empty".to_owned()),
            _ => return Err(format!("{:?} is not a PAC result", result.trim())),
        });
    }
    Ok(results.join("; "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn proxies_cannot_carry_script() {
        let proxy = advertised("https://proxy1.corp:3129").unwrap();
        assert!(proxy.https);
        assert_eq!(proxy.to_string(), "https://proxy1.corp:3129");
        assert_eq!(advertised("[::1]:3128").unwrap().to_string(), "[::1]:3128");
        assert_eq!(advertised("HTTPS://proxy1.corp:3129"), Ok(proxy));
        for (wrong, meant) in [
            ("https://proxy1.corp:3129/", "https://proxy1.corp:3129"),
            ("HTTPS proxy1.corp:3129", "https://proxy1.corp:3129"),
            ("PROXY proxy1.corp:3128; DIRECT", "proxy1.corp:3128"),
            ("http://agent:secret@proxy1.corp:3128", "proxy1.corp:3128"),
        ] {
            let said = advertised(wrong).unwrap_err();
            assert!(said.ends_with(&format!("did you mean {meant:?}?")), "{wrong}: {said}");
        }
        for wrong in ["p", "p:0", "p\";alert(1)//:1", "ftp://p:1", "https://p:1/", "::1:3128", ":1"] {
            assert!(advertised(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pac_results() {
        assert_eq!(pac_result("DIRECT"), Ok("DIRECT".into()));
        assert_eq!(pac_result("proxy a:1 ;  DIRECT;"), Ok("PROXY a:1; DIRECT".into()));
        assert_eq!(pac_result("SOCKS5 [::1]:1080"), Ok("SOCKS5 [::1]:1080".into()));
        for wrong in ["", ";", "PROXY", "PROXY a", "DIRECT a:1", "PROXY a:1 b:2", "PROXY a\";:1"] {
            assert!(pac_result(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn pac_results_are_harmless_and_stable(text in "[ -~]{0,40}") {
            if let Ok(result) = pac_result(&text) {
                prop_assert!(!result.contains(['"', '\\', '\n', '\'']));
                prop_assert_eq!(pac_result(&result), Ok(result.clone()));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = (advertised(&text), pac_result(&text), pattern_port(&text));
        }
    }
}
