//! Which proxies a PAC file names: those of `proxy.advertise`, else this one, at the address where
//! the browser has just found it. Pure; the text itself is `pac`'s.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Advertised, Config};
use crate::net::dialer::is_unspecified;
use crate::pac;
use crate::policy::Policy;
use crate::target::{Host, Target};

/// The proxies that can be named.
#[derive(Clone, Debug, Default)]
pub struct Advertise {
    /// `proxy.advertise` in the PAC's own words; wins when not empty.
    pub given: Vec<String>,
    /// Where the plain listeners are.
    pub http: Vec<SocketAddr>,
    /// Where the TLS listeners are.
    pub https: Vec<SocketAddr>,
    /// `pac.otherwise`.
    pub otherwise: String,
}

impl Advertise {
    /// The proxies as configured; the listeners' ports may still be 0.
    pub fn from_config(config: &Config) -> Self {
        Self {
            given: config.proxy.advertise.iter().map(pac_word).collect(),
            http: config.proxy.listen.clone(),
            https: Vec::new(),
            otherwise: config.pac.otherwise.clone(),
        }
    }

    /// The PAC file as fetched from a proxy listener: the browser reached this process by the
    /// name in `Host`, or at least at `local`.
    pub fn as_fetched(&self, policy: &Policy, host: Option<&str>, local: SocketAddr) -> String {
        let host = host.and_then(strict_host).unwrap_or_else(|| address_text(local.ip()));
        self.render(policy, |address| format!("{host}:{}", address.port()))
    }

    /// The PAC file as the admin listener and `ccpgate pac` give it: they can't know by which
    /// name browsers reach the proxy.
    ///
    /// # Errors
    /// When the proxy listens on all addresses and `proxy.advertise` does not say which to name.
    pub fn standing(&self, policy: &Policy) -> Result<String, String> {
        let first = [self.https.first(), self.http.first()];
        if self.given.is_empty() && first.iter().flatten().any(|a| is_unspecified(a.ip())) {
            return Err("the proxy listens on all addresses: set proxy.advertise, for example \
                        advertise = [\"proxy.corp.example:3128\"], to say which name browsers use"
                .into());
        }
        Ok(self.render(policy, |address| format!("{}:{}", address_text(address.ip()), address.port())))
    }

    fn render(&self, policy: &Policy, name: impl Fn(&SocketAddr) -> String) -> String {
        let own = || {
            let https = self.https.first().map(|a| format!("HTTPS {}", name(a)));
            let http = self.http.first().map(|a| format!("PROXY {}", name(a)));
            https.into_iter().chain(http).collect()
        };
        let proxies: Vec<String> = if self.given.is_empty() { own() } else { self.given.clone() };
        pac::render(policy, &proxies, &self.otherwise)
    }
}

fn pac_word(proxy: &Advertised) -> String {
    let scheme = if proxy.https { "HTTPS" } else { "PROXY" };
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    format!("{scheme} {host}:{}", proxy.port)
}

/// The host of a `Host` field, if it parses strictly: what ends up in a PAC file may hold nothing
/// that JavaScript or a browser reads as more than a name.
fn strict_host(field: &str) -> Option<String> {
    let with_port = Target::parse_authority(field.as_bytes());
    let target = with_port.or_else(|_| Target::parse_authority(format!("{field}:80").as_bytes())).ok()?;
    Some(match target.host {
        Host::Name(name) => name.into(),
        Host::Ip(address) => address_text(address),
    })
}

fn address_text(address: IpAddr) -> String {
    match crate::address::canonical(address) {
        IpAddr::V6(six) => format!("[{six}]"),
        four => four.to_string(),
    }
}
