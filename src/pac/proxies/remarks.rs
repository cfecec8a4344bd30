//! Warnings and notes about the PAC file of a configuration: where `proxy.advertise` and the listeners
//! don't fit. Every such configuration is valid, and some are intended; pure.

use super::{Advertise, Advertised, rows};
use crate::pac::rendezvous::Spread;
use crate::policy::{Policy, Protocol};
use crate::target::Host;

/// One line about the PAC file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Probably a mistake.
    Warning(String),
    /// Correct behind a port mapping or a balancer, otherwise a mistake.
    Note(String),
}

/// All remarks on the PAC file of a configuration.
pub fn remarks(advertise: &Advertise, policy: &Policy) -> Vec<Remark> {
    let mut found = Vec::new();
    if !advertise.given.is_empty() {
        found.extend(clear_text(advertise));
        found.extend(Scheme::BOTH.iter().flat_map(|scheme| ports(advertise, *scheme)));
    }
    found.extend(lanes(advertise));
    found.extend(spread(advertise));
    found.extend(past_the_proxy(advertise, policy));
    found
}

/// The two ways to speak to a proxy.
#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    const BOTH: [Self; 2] = [Self::Https, Self::Http];

    /// The key of its listeners.
    fn key(self) -> &'static str {
        if self == Self::Https { "tls.listen" } else { "proxy.listen" }
    }

    fn other(self) -> Self {
        if self == Self::Https { Self::Http } else { Self::Https }
    }

    /// The ports that listen; none where one of them is left to the system.
    fn ports(self, advertise: &Advertise) -> Option<Vec<u16>> {
        let listen = if self == Self::Https { &advertise.https } else { &advertise.http };
        listen.iter().map(|address| Some(address.port()).filter(|port| *port != 0)).collect()
    }

    fn advertised(self, advertise: &Advertise) -> impl Iterator<Item = &Advertised> {
        advertise.given.iter().filter(move |proxy| proxy.https == (self == Self::Https))
    }
}

/// Whether agents' browsers leave the TLS listener alone, although there is one.
fn clear_text(advertise: &Advertise) -> Option<Remark> {
    let listen = advertise.https.first()?;
    let given = &advertise.given;
    let first = given.first()?;
    if !given.iter().any(|proxy| proxy.https) {
        let over_tls = Advertised { https: true, host: first.host.clone(), port: listen.port() };
        return Some(Remark::Warning(format!(
            "tls.listen is set, and proxy.advertise names no https:// proxy: browsers speak to the \
             proxy in clear; put \"{over_tls}\" first in proxy.advertise"
        )));
    }
    let late = given.iter().enumerate().find_map(|(at, proxy)| {
        let plain = given[..at].iter().find(|before| !before.https && same_host(before, proxy))?;
        Some((plain, proxy)).filter(|_| proxy.https)
    });
    late.map(|(plain, proxy)| {
        Remark::Warning(format!(
            "proxy.advertise names \"{plain}\" before \"{proxy}\": browsers take the first that \
             answers, so they speak to the proxy in clear; put \"{proxy}\" first"
        ))
    })
}

/// Whether what is advertised for a scheme listens here.
fn ports(advertise: &Advertise, scheme: Scheme) -> Option<Remark> {
    let first = scheme.advertised(advertise).next()?;
    let own = scheme.ports(advertise)?;
    if let Some(other) = scheme.other().ports(advertise)
        && let Some(crossed) =
            scheme.advertised(advertise).find(|p| other.contains(&p.port) && !own.contains(&p.port))
    {
        let write = Advertised { https: !crossed.https, ..crossed.clone() };
        return Some(Remark::Warning(format!(
            "proxy.advertise names \"{crossed}\", and port {} is one of {}: write \"{write}\" if \
             this proxy is meant",
            crossed.port,
            scheme.other().key(),
        )));
    }
    if own.is_empty() {
        return Some(Remark::Warning(format!(
            "proxy.advertise names \"{first}\", and {} is empty: that is right only where \
             something else takes these connections",
            scheme.key(),
        )));
    }
    // Another instance or machine listens elsewhere, so one port that fits is enough; with lanes
    // agents begin at every port of a name, so each port of a name that has one here has to fit.
    let proxies: Vec<Advertised> = scheme.advertised(advertise).cloned().collect();
    let listens = |proxy: &&Advertised| own.contains(&proxy.port);
    let missing = if proxies.iter().any(|proxy| listens(&proxy)) {
        let rows = rows(&proxies, advertise.lanes);
        rows.into_iter()
            .filter(|row| row.iter().any(|proxy| listens(&proxy)))
            .find_map(|row| row.into_iter().find(|proxy| !listens(&proxy)))
    } else {
        Some(first.clone())
    };
    missing.map(|proxy| {
        let ports: Vec<String> = own.iter().map(u16::to_string).collect();
        Remark::Note(format!(
            "proxy.advertise names \"{proxy}\", and {} has port {} only: that is right behind a \
             port mapping or for another instance",
            scheme.key(),
            ports.join(", "),
        ))
    })
}

/// Whether `pac.lanes` has anything to spread hosts over.
fn lanes(advertise: &Advertise) -> Option<Remark> {
    if !advertise.lanes {
        return None;
    }
    let (several, how) = if advertise.given.is_empty() {
        let lists = [&advertise.https, &advertise.http];
        // Port 0 is a port of its own each time.
        let many = |list: &&Vec<_>| {
            list.iter().enumerate().any(|(at, a): (usize, &std::net::SocketAddr)| {
                list[..at].iter().any(|b| a.port() == 0 || a.port() != b.port())
            })
        };
        (lists.iter().any(many), "listen on a second port")
    } else {
        (rows(&advertise.given, true).iter().any(|row| row.len() > 1), "advertise a second port of one proxy")
    };
    (!several).then(|| {
        Remark::Warning(format!("pac.lanes is true, and no proxy name has two ports of one kind: {how}"))
    })
}

/// Whether `pac.spread` has anything to spread clients over.
fn spread(advertise: &Advertise) -> Option<Remark> {
    let mut others = advertise.given.iter().skip(1);
    let several = advertise.given.first().is_some_and(|first| others.any(|other| !same_host(first, other)));
    (advertise.spread == Spread::Client && !several).then(|| {
        Remark::Warning(
            "pac.spread is \"client\", and there is one proxy to begin with: name all of them in proxy.advertise"
                .into(),
        )
    })
}

/// Rules of the allow list whose hosts browsers will not bring here. A rule with stars is judged by
/// one host that it allows.
fn past_the_proxy(advertise: &Advertise, policy: &Policy) -> Option<Remark> {
    let tcp = policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp);
    let mut lost = tcp.filter_map(|rule| {
        let host = Host::parse(rule.pattern.as_str().replace('*', "x").as_bytes()).ok()?;
        let entry = advertise.direct.iter().find(|entry| entry.covers(&host))?;
        Some((&rule.pattern, entry))
    });
    let (pattern, entry) = lost.next()?;
    let more = match lost.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Remark::Warning(format!(
        "pac.direct has \"{entry}\", which covers {pattern} of the allow list{more}: browsers go there \
         without the proxy"
    )))
}

fn same_host(a: &Advertised, b: &Advertised) -> bool {
    a.host.eq_ignore_ascii_case(&b.host)
}
