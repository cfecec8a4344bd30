//! A PAC file against the allow list: whether every listed host goes to the proxy by it. Pure.
//!
//! Our own file is read, and one that answers the same for every host; any other needs an engine for
//! JavaScript, which is built with the feature `pac-engine` alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding;
use super::judged::Judged;
use super::observed::Observed;
use super::report::{self, Status};
use super::targets::{Endpoint, Plan};
use crate::cause::Cause;
use crate::egress::printable;
use crate::pac::Direct;
use crate::pac::answer::{Leads, leads};
use crate::pac::constant::constant;
use crate::pac::own::Own;
use crate::pac::proxies::Advertised;
use crate::policy::{Category, Protocol};
use crate::target::{Host, Target};

/// A file, and what is expected of it.
pub(crate) struct Pac {
    /// Where it came from, to be shown.
    pub source: String,
    pub text: String,
    /// The proxies that hosts must go to; any, where there are none.
    pub proxies: Vec<Advertised>,
    /// Hosts that the configuration sends past the proxy.
    pub direct: Vec<Direct>,
}

/// What a file may ask about the network.
#[cfg_attr(not(feature = "pac-engine"), expect(dead_code, reason = "our own file asks nothing"))]
pub(super) struct Facts {
    pub names: BTreeMap<String, Vec<IpAddr>>,
    pub own: Vec<IpAddr>,
}

/// What the file does with the endpoints.
pub(super) enum Ruling {
    /// For each endpoint, in their order: where it goes instead of to the proxy, if it does.
    Astray(Vec<Option<String>>),
    /// Why it can't be asked.
    Untested(String),
}

/// Asks a file about all endpoints.
pub(super) fn judge(pac: &Pac, endpoints: &[Endpoint], facts: Facts) -> Ruling {
    if let Some(own) = Own::recognise(&pac.text) {
        return each(pac, endpoints, |_, host| Ok(own.answer(host)));
    }
    if let Some(answer) = constant(&pac.text) {
        return each(pac, endpoints, |_, _| Ok(answer.clone()));
    }
    foreign(pac, endpoints, facts)
}

#[cfg(feature = "pac-engine")]
fn foreign(pac: &Pac, endpoints: &[Endpoint], facts: Facts) -> Ruling {
    use crate::pac::engine::{self, Engine};

    let Facts { names, own } = facts;
    match Engine::read(&pac.text, engine::Facts { names, own }) {
        Ok(engine) => each(pac, endpoints, |url, host| engine.ask(url, &text(host)).map_err(Fault::from)),
        // So does every host.
        Err(fault) => each(pac, endpoints, |_, _| Err(Fault::from(fault.clone()))),
    }
}

#[cfg(not(feature = "pac-engine"))]
fn foreign(_: &Pac, _: &[Endpoint], _: Facts) -> Ruling {
    Ruling::Untested(
        "this PAC file wasn't written by this version of ccpgate, and this build has no engine for \
         JavaScript: build with --features pac-engine"
            .to_owned(),
    )
}

/// Why a file gives no answer.
#[cfg_attr(not(feature = "pac-engine"), expect(dead_code, reason = "our own file always answers"))]
enum Fault {
    /// Browsers go past every proxy then.
    Broken(String),
    /// It isn't known what browsers do.
    Unknown(String),
}

#[cfg(feature = "pac-engine")]
impl From<crate::pac::engine::Fault> for Fault {
    fn from(fault: crate::pac::engine::Fault) -> Self {
        match fault {
            crate::pac::engine::Fault::Broken(why) => Self::Broken(why),
            crate::pac::engine::Fault::Exhausted(why) => Self::Unknown(why),
        }
    }
}

/// Asks about each endpoint for as long as it is known what browsers do.
fn each(pac: &Pac, endpoints: &[Endpoint], ask: impl Fn(&str, &Host) -> Result<String, Fault>) -> Ruling {
    let mut astray = Vec::new();
    for endpoint in endpoints {
        let Some(target) = target(endpoint) else {
            astray.push(None);
            continue;
        };
        let mut found = None;
        for url in urls(&target, endpoint.category) {
            found = match ask(&url, &target.host) {
                Ok(answer) if pac.takes(&target.host, &answer) => continue,
                Ok(answer) => Some(format!("the PAC file answers \"{answer}\" for {url}")),
                Err(Fault::Broken(why)) => {
                    Some(format!("the PAC file has an error, so that browsers go past every proxy: {why}"))
                }
                Err(Fault::Unknown(why)) => {
                    return Ruling::Untested(format!(
                        "what the PAC file answers for {url} isn't known: {why}"
                    ));
                }
            };
            break;
        }
        astray.push(found);
    }
    Ruling::Astray(astray)
}

impl Pac {
    /// Whether an answer is what it should be for a listed host.
    fn takes(&self, host: &Host, answer: &str) -> bool {
        match leads(answer) {
            Leads::Past => self.direct.iter().any(|direct| direct.covers(host)),
            Leads::Proxy(proxy) => {
                let same = |known: &Advertised| {
                    known.port == proxy.port && known.host.eq_ignore_ascii_case(&proxy.host)
                };
                self.proxies.is_empty() || self.proxies.iter().any(same)
            }
        }
    }
}

/// What a browser asks for at an endpoint; none where it goes past the proxy in any case. A wildcard
/// stands for any host under it.
fn target(endpoint: &Endpoint) -> Option<Target> {
    match &endpoint.plan {
        Plan::Tcp(target) => Some(target.clone()),
        Plan::Untested(_) if endpoint.protocol == Protocol::Tcp && endpoint.host.contains('*') => {
            let host = endpoint.host.replace('*', "ccpgate");
            Some(Target { host: Host::parse(host.as_bytes()).ok()?, port: endpoint.port })
        }
        Plan::WebSocket(target, _) => Some(target.clone()),
        Plan::Udp(_) | Plan::Untested(_) => None,
    }
}

/// The addresses by which a browser asks: a file may tell pages from WebSockets.
fn urls(target: &Target, category: Category) -> Vec<String> {
    let host = match &target.host {
        Host::Ip(IpAddr::V6(six)) => format!("[{six}]"),
        host => text(host).into_owned(),
    };
    let port = if target.port == 443 { String::new() } else { format!(":{}", target.port) };
    let url = |scheme: &str| format!("{scheme}://{host}{port}/");
    match category {
        Category::Signalling | Category::Telecom | Category::Chat => vec![url("https"), url("wss")],
        _ => vec![url("https")],
    }
}

fn text(host: &Host) -> Cow<'_, str> {
    match host {
        Host::Name(name) => Cow::Borrowed(name),
        Host::Ip(address) => Cow::Owned(address.to_string()),
    }
}

/// Takes in what a PAC file does with each endpoint. Where it leads past the proxy, nothing else about the
/// endpoint matters to the agent.
pub(super) fn settle(all: &mut Vec<Judged>, pac: &Pac, ruling: Ruling) -> report::Pac {
    let source = pac.source.clone();
    let astray = match ruling {
        Ruling::Astray(astray) => astray,
        Ruling::Untested(why) => {
            let endpoint = Endpoint {
                host: source.clone(),
                port: 443,
                protocol: Protocol::Tcp,
                category: Category::Extra,
                agent_sees: String::new(),
                instance: None,
                added: false,
                plan: Plan::Untested(why.clone()),
            };
            all.push(Judged::new(endpoint, Observed::Untested(why.clone())));
            return report::Pac { source, status: Status::Untested, detail: why };
        }
    };
    let mut count = 0;
    for (judged, astray) in all.iter_mut().zip(astray) {
        if let Some(detail) = astray {
            count += 1;
            judged.set(finding::failed(Cause::PacMissing, printable(&detail, 400)));
        }
    }
    let (status, detail) = match count {
        0 => (Status::Ok, "it sends every listed host to the proxy".to_owned()),
        1 => (Status::Failed, "it doesn't send 1 listed host to the proxy".to_owned()),
        count => (Status::Failed, format!("it doesn't send {count} listed hosts to the proxy")),
    };
    report::Pac { source, status, detail }
}
