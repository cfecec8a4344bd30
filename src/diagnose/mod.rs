//! `check`: what this network does to an agent's browser, endpoint by endpoint, and why. For the
//! command line and, as a canary, for the running proxy: [`check`] is handed everything, and ends
//! when its future is dropped.
//!
//! [`targets`] says what to test, [`probe`] tests one endpoint up to its first failure and is the only
//! I/O, [`finding`] makes causes of what was observed and [`settle`] what several say together, [`verdict`] makes one answer of all of them,
//! [`report`] and [`text`] are what is shown.

mod answer;
pub(crate) mod finding;
mod observed;
mod probe;
pub(crate) mod report;
mod settle;
mod sinkhole;
pub(crate) mod targets;
pub(crate) mod text;
mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use crate::agent::route::Route;
use crate::agent::tls::Trust;
use crate::catalogue::Choice;
use crate::cause::Cause;
use crate::policy::{Category, Policy};
use finding::Judged;
use observed::Observed;
use probe::Probe;
use report::Report;
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
    let observed = observe(network, &endpoints, options.hold, progress).await;
    let judged: Vec<Judged> =
        endpoints.into_iter().zip(observed).map(|(endpoint, seen)| finding::judge(endpoint, seen)).collect();
    verdict::report(judged, options.via.clone())
}

/// What was seen of each endpoint, in their order.
async fn observe(
    network: &Network<'_>,
    endpoints: &[Endpoint],
    hold: Option<Duration>,
    progress: Progress<'_>,
) -> Vec<Observed> {
    let names = look_up(network, endpoints).await;
    let (route, trust, clock) = (&network.route, &network.trust, network.clock);
    let probe = Probe { route, trust, clock, names: &names, hold };
    let all = Semaphore::new(if network.route.is_via() { AT_ONCE_VIA } else { AT_ONCE });
    let mut hosts: Vec<(&str, Arc<Semaphore>)> = Vec::new();
    // Why what has not begun yet needn't begin.
    let dead: OnceLock<Cause> = OnceLock::new();
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
        let (all, probe, dead) = (&all, &probe, &dead);
        running.push(async move {
            // Neither is ever closed.
            let _host = host.acquire().await;
            let _place = all.acquire().await;
            let observed = match &endpoint.plan {
                Plan::Tcp(_) | Plan::WebSocket(..) if dead.get().is_some() => {
                    dead.get().copied().map_or_else(never, Observed::Hidden)
                }
                Plan::Tcp(target) => Box::pin(probe.tcp(target, endpoint)).await,
                Plan::WebSocket(target, path) => Box::pin(probe.web_socket(target, endpoint, path)).await,
                Plan::Udp(_) => Observed::Untested("UDP isn't tested by this version".to_owned()),
                Plan::Untested(why) => Observed::Untested(why.clone()),
            };
            if let Some(cause) = finding::ends_all(&observed).filter(|_| probe.route.is_via()) {
                let _ = dead.set(cause);
            }
            (at, observed)
        });
    }
    let mut seen: Vec<Option<Observed>> = endpoints.iter().map(|_| None).collect();
    let mut done = 0;
    progress(done, endpoints.len());
    while let Some((at, observed)) = running.next().await {
        seen[at] = Some(observed);
        done += 1;
        progress(done, endpoints.len());
    }
    seen.into_iter().map(|seen| seen.unwrap_or_else(never)).collect()
}

fn never() -> Observed {
    Observed::Untested("the test did not run".to_owned())
}

/// Looks all names up, and says how long each took. Before anything else: handshakes of some would make
/// the answers for others look slow on a busy machine.
async fn look_up<'a>(network: &Network<'_>, endpoints: &'a [Endpoint]) -> HashMap<&'a str, Duration> {
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
