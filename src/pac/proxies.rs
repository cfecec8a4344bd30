//! Which proxies a PAC file names: those of `proxy.advertise`, else this one, at the address where
//! the browser has just found it. Pure; the text itself is `pac`'s.

mod remarks;

use std::fmt;
use std::net::SocketAddr;

pub use remarks::{Remark, remarks};

use crate::pac::rendezvous::{Key, Spread};
use crate::pac::{Answers, Direct};
use crate::target::{Authority, Host, Target};

/// A proxy that the PAC file names: an entry of `proxy.advertise`.
///
/// The host is restricted to letters, digits, `.`, `-`, `_` or an IP address, so that no text of
/// the configuration can end the JavaScript string that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advertised {
    /// Reached over TLS: `HTTPS` in the PAC, else `PROXY`.
    pub https: bool,
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.https { "https://" } else { "" })?;
        Authority(&self.host, self.port).fmt(f)
    }
}

/// What a PAC file is made of besides the allow list; the ports of configured listeners may still be 0.
#[derive(Clone, Debug, Default)]
pub struct Advertise {
    /// `proxy.advertise`; wins when not empty.
    pub given: Vec<Advertised>,
    /// Where the plain listeners are.
    pub http: Vec<SocketAddr>,
    /// Where the TLS listeners are.
    pub https: Vec<SocketAddr>,
    /// `pac.otherwise`.
    pub otherwise: String,
    /// `pac.direct`.
    pub direct: Vec<Direct>,
    /// `pac.lanes`.
    pub lanes: bool,
    /// `pac.spread`.
    pub spread: Spread,
}

impl Advertise {
    /// What the PAC file answers as fetched from a proxy listener: the browser reached this process by the
    /// name in `Host`, or at least at `local`. `key` is the browser's.
    pub fn as_fetched(&self, host: Option<&str>, local: SocketAddr, key: Key) -> Answers {
        let local = local.ip().to_canonical();
        let host = host.and_then(strict_host).unwrap_or_else(|| local.to_string());
        self.answers(Some(key), |listeners| {
            let reached = |a: &&SocketAddr| {
                a.ip() == local || (a.ip().is_unspecified() && a.is_ipv4() == local.is_ipv4())
            };
            let mut ports: Vec<u16> = listeners.iter().filter(reached).map(SocketAddr::port).collect();
            if ports.is_empty() {
                // Under another address of this machine, which the name may have as well.
                ports = listeners.iter().map(SocketAddr::port).collect();
            }
            (host.clone(), ports)
        })
    }

    /// What the PAC file answers as the admin listener and `ccpgate pac` give it: they can't know by which
    /// name browsers reach the proxy. Without a key the proxies are named in the order of the list.
    ///
    /// # Errors
    /// When the proxy listens on all addresses and `proxy.advertise` does not say which to name.
    pub fn standing(&self, key: Option<Key>) -> Result<Answers, String> {
        let first = [self.https.first(), self.http.first()];
        if self.given.is_empty() && first.iter().flatten().any(|a| a.ip().is_unspecified()) {
            return Err("the proxy listens on all addresses: set proxy.advertise, for example \
                        advertise = [\"proxy.corp.example:3128\"], to say which name browsers use"
                .into());
        }
        Ok(self.answers(key, |listeners| {
            let Some(first) = listeners.first().map(SocketAddr::ip) else { return Default::default() };
            let ports = listeners.iter().filter(|a| a.ip() == first).map(SocketAddr::port).collect();
            (first.to_canonical().to_string(), ports)
        }))
    }

    /// `own` gives the host and the ports by which listeners of one kind are reached, for a proxy
    /// that advertises nothing.
    fn answers(&self, key: Option<Key>, own: impl Fn(&[SocketAddr]) -> (String, Vec<u16>)) -> Answers {
        let proxies = if self.given.is_empty() {
            let kinds = [(true, &self.https), (false, &self.http)].map(|(https, listeners)| {
                let (host, mut ports) = own(listeners);
                if !self.lanes {
                    ports.truncate(1);
                }
                ports.into_iter().map(move |port| Advertised { https, host: host.clone(), port })
            });
            kinds.into_iter().flatten().collect()
        } else {
            self.given.clone()
        };
        let mut rows = rows(&proxies, self.lanes);
        if let Some(key) = key.filter(|_| self.spread == Spread::Client) {
            // A row is never empty.
            key.sort(&mut rows, |row| row.first().map_or("", |proxy| &proxy.host));
        }
        Answers {
            listed: rows.into_iter().map(|row| row.iter().map(pac_word).collect()).collect(),
            otherwise: self.otherwise.clone(),
            direct: self.direct.clone(),
        }
    }
}

/// One row for each proxy. With lanes, one row for all ports of a name and scheme, in the place of the
/// first: a browser limits its tunnels per port.
fn rows(proxies: &[Advertised], lanes: bool) -> Vec<Vec<Advertised>> {
    let mut rows: Vec<Vec<Advertised>> = Vec::new();
    for proxy in proxies {
        let same = |row: &&mut Vec<Advertised>| {
            row.iter().any(|p| p.https == proxy.https && p.host.eq_ignore_ascii_case(&proxy.host))
        };
        match rows.iter_mut().filter(|_| lanes).find(same) {
            Some(row) if row.iter().any(|p| p.port == proxy.port) => {}
            Some(row) => row.push(proxy.clone()),
            None => rows.push(vec![proxy.clone()]),
        }
    }
    rows
}

fn pac_word(proxy: &Advertised) -> String {
    let scheme = if proxy.https { "HTTPS" } else { "PROXY" };
    format!("{scheme} {}", Authority(&proxy.host, proxy.port))
}

/// The host of a `Host` field, if it parses strictly: what ends up in a PAC file may hold nothing
/// that JavaScript or a browser reads as more than a name.
fn strict_host(field: &str) -> Option<String> {
    Some(match Target::parse_authority_or(field.as_bytes(), 80).ok()?.host {
        Host::Name(name) => name.to_string(),
        Host::Ip(address) => address.to_canonical().to_string(),
    })
}

#[cfg(test)]
mod tests;
