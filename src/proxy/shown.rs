//! What of a request target may be seen in the log and in answers: scheme, host and port. The rest (user
//! information, path, query, fragment) is where people and programs put their secrets, and requests that
//! are refused bring it here every day. What is no host is not shown at all: it could be a secret. No I/O.

use crate::desk;
use crate::target::is_scheme;

/// Paths that this proxy has itself; no other path is shown.
const PATHS: [&str; 5] = ["/proxy.pac", "/wpad.dat", "/readyz", desk::PAGE, desk::REPORT];
/// Longest host that is shown whole; no name is longer than 253.
const LONGEST: usize = 253;

/// A request target of any form as it may be shown; none where nothing of it may be.
pub(crate) fn target(raw: &str) -> Option<String> {
    if raw == "*" {
        return Some(raw.to_owned());
    }
    if raw.starts_with('/') {
        let path = raw.split(['?', '#']).next().unwrap_or_default();
        return Some(if PATHS.contains(&path) { path } else { "/..." }.to_owned());
    }
    let (scheme, rest) = match raw.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme.to_ascii_lowercase()), rest),
        _ => (None, raw),
    };
    // Browsers read a backslash as a slash.
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().filter(|place| is_place(place))?;
    Some(match scheme {
        Some(scheme) => format!("{scheme}://{place}"),
        None => place.to_owned(),
    })
}

/// `host` or `host:port`. Takes more than may be connected to, so that an administrator sees the mistake;
/// but no byte that could belong to user information, encoded or not.
fn is_place(text: &str) -> bool {
    let is_port =
        |port: &str| port.len() <= 12 && port.bytes().all(|b| b.is_ascii_digit() || b"+-".contains(&b));
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address = !address.is_empty()
                && address.len() <= 45
                && address.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
            return is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-_.*".contains(&b);
    (1..=LONGEST).contains(&host.len()) && host.bytes().all(is_host_byte) && is_port(port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scheme_host_and_port_are_shown() {
        for (raw, shown) in [
            ("http://agent:pw@idp.corp/login?x=y#z", "http://idp.corp"),
            ("HTTPS://IDP.corp:8443", "https://IDP.corp:8443"),
            ("agent:pw@good.example:443", "good.example:443"),
            ("agent:p@w@good.example:443", "good.example:443"),
            ("good.example:443/path", "good.example:443"),
            ("good.example:443?query", "good.example:443"),
            ("http://good.example\\@evil.example/", "http://good.example"),
            ("http://a/b://c", "http://a"),
            ("good.example", "good.example"),
            ("*.good.example:443", "*.good.example:443"),
            ("good.example:+443", "good.example:+443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("/proxy.pac?token=x", "/proxy.pac"),
            ("/reset/token", "/..."),
            ("//host/path", "/..."),
            ("*", "*"),
        ] {
            assert_eq!(target(raw).as_deref(), Some(shown), "{raw}");
        }
    }

    #[test]
    fn what_reads_as_no_host_is_not_shown() {
        for raw in [
            "",
            "agent:pw",
            "agent%3Apw%40good.example:443",
            "agent:pw%40good.example:443",
            "http://agent%40good.example/",
            "good.example;token=x:443",
            "good.example:443;token=x",
            "[fe80::1%25token]:443",
            "[token]:443",
            "[::1]token",
            "b\u{fc}cher.example:443",
            "agent\u{ff20}good.example:443",
            "good.example\r\nX: y:443",
            "http://",
            "http://:80/",
        ] {
            assert_eq!(target(raw), None, "{raw}");
        }
    }

    proptest! {
        /// Whatever stands before the last `@` or behind the host is gone, however it is written.
        #[test]
        fn a_secret_outside_of_the_host_never_shows(
            scheme in prop_oneof![Just(""), Just("http://"), Just("https://"), Just("wss://")],
            before in "([a-z:%@;=&._~-]{0,5}S3CRET[a-z:%@;=&._~-]{0,5}@)?",
            after in "([/?#\\\\][ -~]{0,5}S3CRET[ -~]{0,5})?",
            port in prop_oneof![Just(""), Just(":443"), Just(":8080")],
        ) {
            let raw = format!("{scheme}{before}good.example{port}{after}");
            // A second `@` behind the host begins no authority, since the path has begun.
            let shown = target(&raw).unwrap();
            prop_assert_eq!(shown, format!("{scheme}good.example{port}"), "{}", raw);
        }

        /// What is shown is one word of harmless characters.
        #[test]
        fn what_is_shown_is_harmless(raw in "\\PC{0,60}") {
            if let Some(shown) = target(&raw) {
                prop_assert!(shown.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>&@?#%".contains(&b)));
            }
        }
    }
}
