//! Where a parent proxy is: `http://parent.corp:8080`, `https://parent.corp:8443`. No I/O.

use std::fmt;

use crate::target::{Host, Target};

/// The place of a parent proxy, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentUrl {
    /// Over TLS.
    pub https: bool,
    pub host: Host,
    pub port: u16,
}

impl ParentUrl {
    /// Reads a scheme, a host and a port, and nothing else; a slash at the end is no path.
    ///
    /// # Errors
    /// Why it is none, without a word of the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err("user and password belong in the file that egress.proxy_credentials names".into());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(match Self::parse(&format!("http://{text}")) {
                Ok(meant) if !text.contains("//") => format!("did you mean \"{meant}\"?"),
                _ => "the scheme is missing".into(),
            });
        };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("a parent is spoken to over http or https".into()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err("nothing may follow the port".into());
        }
        if !authority.starts_with('[') && authority.matches(':').count() > 1 {
            return Err("an IPv6 address must stand in brackets".into());
        }
        let behind_address = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
        if !behind_address.contains(':') {
            return Err("the port is missing".into());
        }
        let Target { host, port } = Target::parse_human(authority).map_err(|error| error.to_string())?;
        Ok(Self { https, host, port })
    }
}

impl fmt::Display for ParentUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", Target { host: self.host.clone(), port: self.port })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scheme_a_host_and_a_port() {
        for (text, read) in [
            ("http://parent.corp:8080", "http://parent.corp:8080"),
            ("HTTPS://Parent.Corp:8443/", "https://parent.corp:8443"),
            ("http://10.0.0.9:3128", "http://10.0.0.9:3128"),
            ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
            ("http://b\u{fc}ro.example:1", "http://xn--bro-hoa.example:1"),
        ] {
            assert_eq!(ParentUrl::parse(text).map(|url| url.to_string()), Ok(read.into()), "{text}");
        }
        for (text, told) in [
            ("parent.corp:8080", "did you mean \"http://parent.corp:8080\"?"),
            ("parent.corp", "the scheme is missing"),
            ("http://parent.corp", "the port is missing"),
            ("http://[::1]", "the port is missing"),
            ("http://::1:8080", "brackets"),
            ("http://parent.corp:0", "1 to 65535"),
            ("http://:8080", "the host is empty"),
            ("http://parent.corp:8080/proxy", "nothing may follow"),
            ("http://parent.corp:8080?x", "nothing may follow"),
            ("socks5://parent.corp:1080", "http or https"),
            ("http://me:S3cret@parent.corp:8080", "egress.proxy_credentials"),
            ("me:S3cret@parent.corp:8080", "egress.proxy_credentials"),
        ] {
            let error = ParentUrl::parse(text).unwrap_err();
            assert!(error.contains(told) && !error.contains("S3cret"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "(https?://)?[a-z0-9.:\\[\\]/@-]{0,30}") {
            if let Ok(url) = ParentUrl::parse(&text) {
                prop_assert_eq!(ParentUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
