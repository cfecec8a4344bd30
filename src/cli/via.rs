//! `--via URL`: the proxy that agents' browsers use. Its user and password are never shown.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::agent::tls;
use crate::egress::parent::Parent;
use crate::egress::url::ParentUrl;
use crate::pac::proxies::Advertised;
use crate::target::Host;

/// It resolves and dials itself, with limits of its own; browsers have more patience still.
const PATIENCE: Duration = Duration::from_secs(15);

/// A proxy, and what it is told of who asks.
#[derive(Clone)]
pub(super) struct Via {
    url: ParentUrl,
    /// `user:password`.
    login: Option<Zeroizing<String>>,
}

impl Via {
    /// Reads `http://proxy.corp:3128`, with `user:password@` before the host where there is one.
    ///
    /// # Errors
    /// Why it is none, without a word of the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (login, url) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                match rest[..end].rfind('@') {
                    Some(at) => (Some(&rest[..at]), format!("{scheme}://{}", &rest[at + 1..])),
                    None => (None, text.to_owned()),
                }
            }
            None => (None, text.to_owned()),
        };
        let form =
            "valid is http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host if need be";
        let url = ParentUrl::parse(&url).map_err(|why| match why.contains("egress.") {
            true => format!("the scheme is missing; {form}"),
            false => format!("{why}; {form}"),
        })?;
        let login = login.map(|login| {
            decoded(login).ok_or(format!(
                "a %-sign in user or password is not followed by two hexadecimal digits; {form}"
            ))
        });
        let login = login.transpose()?;
        if let Some(login) = &login
            && (login.starts_with(':') || login.contains(char::is_control))
        {
            return Err(format!("the user is empty, or has control characters; {form}"));
        }
        // A user without a password has an empty one.
        let login = login.map(|login| match login.contains(':') {
            true => login,
            false => Zeroizing::new(format!("{}:", *login)),
        });
        Ok(Self { url, login })
    }

    /// As a PAC file names it.
    pub(super) fn advertised(&self) -> Advertised {
        let host = match &self.url.host {
            Host::Name(name) => name.to_string(),
            Host::Ip(address) => address.to_string(),
        };
        Advertised { https: self.url.https, host, port: self.url.port }
    }

    /// The proxy as the mechanism that reaches targets takes it.
    ///
    /// # Errors
    /// In words, without user and password.
    pub(super) fn proxy(&self, ca: &[CertificateDer<'static>]) -> Result<Parent, String> {
        let mut roots = tls::platform();
        roots.add_parsable_certificates(ca.iter().cloned());
        if self.url.https && roots.is_empty() {
            return Err("this machine has no certificates of authorities: name a file in --ca".to_owned());
        }
        Parent::given(self.url.clone(), self.login.as_ref().map(|login| login.as_str()), roots, PATIENCE)
    }
}

/// Text with its percent signs resolved (RFC 3986 section 2.1).
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        if *first == b'%' {
            let (digits, behind) = others.split_at_checked(2)?;
            let digit = |at: usize| (digits[at] as char).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes.to_vec()).ok().map(Zeroizing::new)
}

/// Without user and password.
impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_and_never_shown() {
        let via = Via::parse("http://me%40corp:S3c%3Aret@proxy.corp:3128").unwrap();
        assert_eq!(via.login.as_ref().unwrap().as_str(), "me@corp:S3c:ret");
        assert_eq!(format!("{via} {via:?}"), "http://proxy.corp:3128 http://proxy.corp:3128");
        assert_eq!(Via::parse("https://me@[::1]:3129/").unwrap().login.unwrap().as_str(), "me:");
        assert!(Via::parse("http://proxy.corp:3128").unwrap().login.is_none());
        for (text, told) in [
            ("proxy.corp:3128", "did you mean \"http://proxy.corp:3128\"?"),
            ("me:S3cret@proxy.corp:3128", "the scheme is missing"),
            ("http://me:S3cret@proxy.corp", "the port is missing"),
            ("http://me:%S3cret@proxy.corp:1", "hexadecimal"),
            ("http://:S3cret@proxy.corp:1", "the user is empty"),
            ("http://me:S3%0Acret@proxy.corp:1", "control characters"),
            ("socks5://me:S3cret@proxy.corp:1080", "http or https"),
            ("http://proxy.corp:1/S3cret", "nothing may follow"),
            ("", "the scheme is missing"),
        ] {
            let error = Via::parse(text).unwrap_err();
            assert!(
                error.contains(told) && error.contains("valid is") && !error.contains("S3"),
                "{text}: {error}"
            );
        }
    }
}
