//! How an entry of `pac.direct` is written: a network, `"plain"`, or a host pattern. No I/O.

use std::net::IpAddr;

use super::notation;
use crate::pac::Direct;

/// `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`, `plain`, `*.corp.example`.
pub(super) fn direct(text: &str) -> Result<Direct, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let begins_with_address = bare.split('/').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    if begins_with_address { notation::network(bare).map(Direct::Network) } else { Direct::parse_name(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_words_and_patterns() {
        for (text, normal) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::/8", "fd00::/8"),
            ("[::1]", "::1/128"),
            ("plain", "plain"),
            ("*.Corp.Example.", "*.corp.example"),
            ("intranet", "intranet"),
            ("büro.example", "xn--bro-hoa.example"),
        ] {
            let read = direct(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(read.to_string(), normal);
            assert_eq!(direct(normal), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_other_lists_have_is_translated() {
        for (text, write) in [
            ("<local>", "\"plain\""),
            ("10.*", "\"10.0.0.0/8\""),
            ("192.168.*.*", "\"192.168.0.0/16\""),
            ("10.1.2.3/8", "\"10.0.0.0/8\""),
            ("https://wiki.corp.example/", "\"wiki.corp.example\""),
            ("wiki.corp.example:8443", "\"wiki.corp.example\""),
        ] {
            let why = direct(text).unwrap_err();
            assert!(why.contains(write), "{text}: {why}");
        }
        for wrong in ["", "*", "10.0.0.0/33", "fe80::1%eth0", "10.0.0", "a b", "300.*", "1.2.3.*.*"] {
            assert!(direct(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_read_reads_back(text in "\\PC{0,40}|[0-9./*:a-f]{0,20}") {
            if let Ok(read) = direct(&text) {
                prop_assert_eq!(direct(&read.to_string()), Ok(read));
            }
        }
    }
}
