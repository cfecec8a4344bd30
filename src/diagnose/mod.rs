//! `check`: what this network does to an agent's browser, endpoint by endpoint, and why. For the
//! command line and, as a canary, for the running proxy: [`check`] is handed everything, and ends
//! when its future is dropped.
//!
//! [`targets`] says what to test; [`probe`] tests one endpoint up to its first failure, [`voice`] all
//! media endpoints together, and they are the only I/O; [`finding`] makes a cause of what was observed and
//! [`judged`] what is shown of an endpoint, [`pac`] of a PAC file, and [`settle`] of what several say together; [`verdict`] makes one answer of all,
//! [`report`] and [`text`] are what is shown.

pub(crate) mod answer;
pub(crate) mod clock;
pub(crate) mod finding;
mod judged;
pub(crate) mod junit;
pub(crate) mod media;
pub(crate) mod observed;
pub(crate) mod pac;
mod probe;
mod regions;
pub(crate) mod report;
pub(crate) mod secured;
mod settle;
pub(crate) mod targets;
pub(crate) mod text;
mod verdict;
pub(crate) mod verify;
mod voice;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use crate::agent::route::{LookedUp, Route};
use crate::agent::tls::Trust;
use crate::catalogue::Choice;
use crate::policy::{Category, Policy};
use crate::target::Target;
use judged::{Judged, OneProxy};
use observed::Observed;
use pac::Pac;
use probe::Probe;
use report::Report;
pub(crate) use settle::by_clock;
use targets::{Endpoint, Plan, Wanted};

/// How many endpoints are tested at once, straight and through one proxy.
const AT_ONCE: usize = 128;
const AT_ONCE_VIA: usize = 24;
/// How many probes one host gets at once.
const PER_HOST: usize = 4;

/// What is tested, and how it is reached.
pub(crate) struct Network<'a> {
    pub policy: &'a Policy,
    pub connect: &'a Choice,
    pub route: Route<'a>,
    pub trust: Arc<Trust>,
    /// What time it is here.
    pub clock: &'a (dyn Fn() -> SystemTime + Sync),
}

/// What to test beyond the list, or of it.
#[derive(Default)]
pub(crate) struct Options {
    /// Concrete hosts under wildcards.
    pub hosts: Vec<targets::Named>,
    /// None: all.
    pub categories: Vec<Category>,
    /// A WebSocket to be opened and held.
    pub web_socket: Option<targets::WebSocketUrl>,
    /// How long a silent connection to each endpoint, or the WebSocket, is held.
    pub hold: Option<Duration>,
    /// The proxy that is gone through, as it may be shown.
    pub via: Option<String>,
    /// A STUN server that is known to answer: it tells a closed port from UDP that is blocked altogether.
    pub stun_control: Option<Target>,
    /// A PAC file that is to send all listed hosts to the proxy.
    pub pac: Option<Pac>,
    /// Whether all Regions are ranked by their distance.
    pub regions: bool,
}

/// How far a check has come: done, of all.
pub(crate) type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Tests all endpoints side by side, and judges what came of it.
pub(crate) async fn check(network: &Network<'_>, options: &Options, progress: Progress<'_>) -> Report {
    let wanted = Wanted {
        hosts: &options.hosts,
        web_socket: options.web_socket.as_ref(),
        categories: &options.categories,
    };
    let endpoints = targets::endpoints(network.policy, network.connect, &wanted);
    let ranked = async { if options.regions { Some(regions::rank(&network.route).await) } else { None } };
    let (observed, regions) = join(observe(network, options, &endpoints, progress), ranked).await;
    let ruling = options.pac.as_ref().map(|pac| pac::judge(pac, &endpoints, facts(network, &endpoints)));
    let mut judged: Vec<Judged> =
        endpoints.into_iter().zip(observed).map(|(endpoint, seen)| Judged::new(endpoint, seen)).collect();
    let pac = options.pac.as_ref().zip(ruling).map(|(pac, ruling)| pac::settle(&mut judged, pac, ruling));
    Report { pac, regions, ..verdict::report(judged, options.via.clone()) }
}

/// One endpoint over TCP, tested and judged by itself: whether the clock is to blame, others say beside it.
pub(crate) async fn one(network: &Network<'_>, endpoint: Endpoint) -> Judged {
    let Plan::Tcp(target) = &endpoint.plan else { return Judged::new(endpoint, never()) };
    let names = look_up(network, std::slice::from_ref(&endpoint)).await;
    let (route, trust, clock) = (&network.route, &network.trust, network.clock);
    let observed = Probe { route, trust, clock, names: &names, hold: None }.tcp(target, &endpoint).await;
    drop(names);
    Judged::new(endpoint, observed)
}

/// What a PAC file may ask about the network.
fn facts(network: &Network<'_>, endpoints: &[Endpoint]) -> pac::Facts {
    let (egress, _) = network.route.past_proxies();
    let names = endpoints.iter().filter_map(|endpoint| {
        let found = egress.resolver.cached(&endpoint.host)?;
        Some((endpoint.host.clone(), found.known.to_vec()))
    });
    let names: BTreeMap<String, Vec<IpAddr>> = names.collect();
    // From where this machine would ask one of them.
    let any = names.values().flatten().next();
    let own = any.and_then(|address| egress.datagrams((*address, 443).into()).ok()?.local_addr().ok());
    pac::Facts { own: own.map(|own| own.ip()).into_iter().collect(), names }
}

/// What was seen of each endpoint, in their order.
async fn observe(
    network: &Network<'_>,
    options: &Options,
    endpoints: &[Endpoint],
    progress: Progress<'_>,
) -> Vec<Observed> {
    let done = Cell::new(0);
    let advance = |by: usize| {
        done.set(done.get() + by);
        progress(done.get(), endpoints.len());
    };
    advance(0);
    let each = each(network, options.hold, endpoints, &advance);
    let (each, media) = join(each, media(network, options, endpoints, &advance)).await;
    let mut seen: Vec<Option<Observed>> = endpoints.iter().map(|_| None).collect();
    for (at, observed) in each.into_iter().chain(media) {
        seen[at] = Some(observed);
    }
    seen.into_iter().map(|seen| seen.unwrap_or_else(never)).collect()
}

/// The media endpoints, each with its index: what one of them says is judged beside the others.
async fn media(
    network: &Network<'_>,
    options: &Options,
    endpoints: &[Endpoint],
    advance: &dyn Fn(usize),
) -> Vec<(usize, Observed)> {
    let planned = endpoints.iter().enumerate().filter_map(|(at, endpoint)| match &endpoint.plan {
        Plan::Udp(target) => Some((at, target.clone())),
        _ => None,
    });
    let (indices, targets): (Vec<usize>, Vec<Target>) = planned.unzip();
    if targets.is_empty() {
        return Vec::new();
    }
    let (egress, own) = network.route.past_proxies();
    let tested = Box::pin(voice::test(egress, own, &targets, options.stun_control.as_ref())).await;
    advance(tested.len());
    indices.into_iter().zip(tested.into_iter().map(|tested| Observed::Media(Box::new(tested)))).collect()
}

/// All other endpoints, each with its index.
async fn each(
    network: &Network<'_>,
    hold: Option<Duration>,
    endpoints: &[Endpoint],
    advance: &dyn Fn(usize),
) -> Vec<(usize, Observed)> {
    let names = look_up(network, endpoints).await;
    let (route, trust, clock) = (&network.route, &network.trust, network.clock);
    let probe = Probe { route, trust, clock, names: &names, hold };
    let at_once = if network.route.is_via() { AT_ONCE_VIA } else { AT_ONCE };
    let all = Semaphore::new(at_once);
    let mut hosts: Vec<(&str, Arc<Semaphore>)> = Vec::new();
    let proxy = RefCell::new(OneProxy::new(at_once));
    let mut running = FuturesUnordered::new();
    for (at, endpoint) in endpoints.iter().enumerate() {
        let host = match hosts.iter().find(|(host, _)| *host == endpoint.host) {
            Some((_, places)) => places.clone(),
            None => {
                let places = Arc::new(Semaphore::new(PER_HOST));
                hosts.push((&endpoint.host, places.clone()));
                places
            }
        };
        let (all, probe, proxy) = (&all, &probe, &proxy);
        running.push(async move {
            // Neither is ever closed.
            let _host = host.acquire().await;
            let _place = all.acquire().await;
            let dead = proxy.borrow().dead;
            let tries = matches!(endpoint.plan, Plan::Tcp(_) | Plan::WebSocket(..)) && dead.is_none();
            let is_first = tries && proxy.borrow_mut().begin();
            let observed = match (&endpoint.plan, dead) {
                (Plan::Tcp(_) | Plan::WebSocket(..), Some(cause)) => Observed::Hidden(cause),
                (Plan::Tcp(target), None) => Box::pin(probe.tcp(target, endpoint)).await,
                (Plan::WebSocket(target, path), None) => {
                    Box::pin(probe.web_socket(target, endpoint, path)).await
                }
                (Plan::Untested(why), _) => Observed::Untested(why.clone()),
                (Plan::Udp(_), _) => return None,
            };
            if probe.route.is_via() {
                proxy.borrow_mut().hear(&observed, is_first);
            }
            Some((at, observed))
        });
    }
    let mut seen = Vec::new();
    while let Some(observed) = running.next().await {
        if let Some(observed) = observed {
            seen.push(observed);
            advance(1);
        }
    }
    seen
}

fn never() -> Observed {
    Observed::Untested("the test did not run".to_owned())
}

/// Looks all names up, and says what came of each. Before anything else: handshakes of some would make
/// the answers for others look slow on a busy machine.
async fn look_up<'a>(network: &Network<'_>, endpoints: &'a [Endpoint]) -> HashMap<&'a str, LookedUp> {
    let look_ups: FuturesUnordered<_> = endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.plan {
            Plan::Tcp(target) | Plan::WebSocket(target, _) => Some((&*endpoint.host, target)),
            Plan::Udp(_) | Plan::Untested(_) => None,
        })
        .map(async |(host, target)| Some((host, network.route.look_up(target).await?)))
        .collect();
    look_ups.filter_map(std::future::ready).collect().await
}
