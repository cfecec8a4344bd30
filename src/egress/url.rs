//! Where a parent proxy is: `http://parent.corp:8080`, `https://parent.corp:8443`; and where a file is. No I/O.

use std::fmt;

use crate::target::{self, Host, Target};

/// Longest path of a file, in bytes.
const PATH: usize = 2000;

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

/// Where a file is: an address with http:// or https://.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub https: bool,
    pub target: Target,
    /// With its query, for a request.
    pub path: String,
}

impl Url {
    /// Reads an address with http:// or https://.
    ///
    /// # Errors
    /// Why it is none, without a word of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let valid = "valid is http://HOST/PATH or https://HOST/PATH";
        let (scheme, rest) = text.split_once("://").ok_or(valid)?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("the scheme is neither http nor https; {valid}"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(format!(
                "it has a user or a password, which browsers don't send for such a file; {valid}"
            ));
        }
        let mut target = Target::parse_human(authority).map_err(|error| format!("{error}; {valid}"))?;
        let says_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if !says_port && !https {
            target.port = 80;
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if path.len() > PATH || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "its path is too long, or has characters that must be percent-encoded; {valid}"
            ));
        }
        Ok(Self { https, target, path })
    }

    /// Host and port, for a request. The default port is left out, as browsers do.
    pub(crate) fn host(&self) -> String {
        let port = if self.https { 443 } else { 80 };
        let whole = self.target.to_string();
        match self.target.port == port {
            true => whole.strip_suffix(&format!(":{port}")).unwrap_or(&whole).to_owned(),
            false => whole,
        }
    }

    /// The address as it may be shown to anybody: without its query, which may be a secret.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        Self { path: path.to_owned(), ..self.clone() }.to_string()
    }

    /// Where a redirect leads to.
    ///
    /// # Errors
    /// As of [`Self::parse`], or when it is relative to the path.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let scheme = if self.https { "https" } else { "http" };
        match location {
            absolute if target::scheme(absolute).is_some() => Self::parse(absolute),
            other if other.starts_with("//") => Self::parse(&format!("{scheme}:{other}")),
            path if path.starts_with('/') => Self::parse(&format!("{scheme}://{}{path}", self.target)),
            _ => Err("a redirect without a place".to_owned()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host(), self.path)
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

    #[test]
    fn addresses_are_read_and_joined() {
        for (text, expected) in [
            ("http://Pac.corp/proxy.pac", "http://pac.corp/proxy.pac"),
            ("HTTPS://pac.corp:8443", "https://pac.corp:8443/"),
            ("http://pac.corp:80/x?y=1#z", "http://pac.corp/x?y=1"),
            ("https://[2001:db8::1]/p", "https://[2001:db8::1]/p"),
            ("http://[2001:db8::1]:3128?q", "http://[2001:db8::1]:3128/?q"),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in [
            "",
            "pac.corp/x",
            "ftp://pac.corp/x",
            "http://u:p@pac.corp/x",
            "http:///x",
            "http://a b/",
            "http://a/ x",
            "http://a/\u{e9}",
            "http://a:0/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let base = Url::parse("https://pac.corp:8443/a/b").unwrap();
        for (location, expected) in [
            ("/c", "https://pac.corp:8443/c"),
            ("//other.corp/c", "https://other.corp/c"),
            ("http://other.corp/c", "http://other.corp/c"),
            ("/c?from=http://other.corp/", "https://pac.corp:8443/c?from=http://other.corp/"),
            ("//other.corp/c?from=http://pac.corp/", "https://other.corp/c?from=http://pac.corp/"),
        ] {
            assert_eq!(base.join(location).map(|url| url.to_string()), Ok(expected.to_owned()), "{location}");
        }
        assert!(base.join("c").is_err() && base.join("javascript:alert(1)").is_err());
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
