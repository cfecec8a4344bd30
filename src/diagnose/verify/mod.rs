//! `firewall verify`: whether the firewall on the way has the hole that the published ranges ask for. One
//! question into each media prefix that TURN names resolve into today, and TLS to a few hosts behind each
//! set for TCP 443. Bounded in time and in sockets, whatever the far side does.
//!
//! `place` says which prefix an address counts for, `judge` what came of each prefix and host, `report` what it
//! all means; here is the I/O.

pub(crate) mod judge;
mod place;
pub(crate) mod report;

use std::cell::Cell;
use std::net::IpAddr;

use futures_util::future::{join, join_all};
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use strum::VariantArray;
use tokio::sync::Semaphore;

use super::finding;
use super::judged::Judged;
use super::targets::{self, Endpoint, Plan, Wanted};
use super::{Network, Progress, one, settle};
use crate::agent::hops::{LastHop, last_hop};
use crate::agent::turn::{self, Probed, Refusal};
use crate::egress::Trace;
use crate::ranges::current::Current;
use crate::ranges::select::Set;
use crate::target::Target;
use place::Place;

/// Of the media servers.
const PORT: u16 = 3478;
/// How many prefixes are asked at once.
const AT_ONCE: usize = 64;
/// For how many of them the way is looked at, at once: that takes 30 sockets each.
const WAYS: usize = 8;
/// How many more addresses of a prefix are asked where the first is silent: one server may be down.
const MORE: usize = 3;
/// How many names are looked up at once.
const LOOK_UPS: usize = 64;
/// Hosts that are sampled for each set.
const SAMPLES: usize = 2;

/// What was seen.
pub(crate) struct Seen {
    places: Vec<(Place, Asked)>,
    /// TURN names without a usable address, and why.
    unresolved: Vec<(String, finding::Found)>,
    hosts: Hosts,
}

/// What came of the questions into one prefix.
enum Asked {
    /// No TURN name resolves into it.
    Nobody,
    /// In the order in which they were asked.
    Probes { probes: Vec<Probed>, last_hop: Option<LastHop> },
}

/// What came of the hosts for TCP.
enum Hosts {
    /// They aren't asked for.
    Left,
    /// A parent proxy carries all of them.
    ByProxy,
    /// Each with the set that an address of it is in.
    Sampled(Vec<(Option<Set>, Judged)>),
}

/// Tests the hole. `tls`: also for TCP 443. Takes as long as the look-up of the names and 20 s at most; hosts
/// over TLS that hang take 40 s.
pub(crate) async fn verify(
    network: &Network<'_>,
    current: &Current,
    tls: bool,
    progress: Progress<'_>,
) -> Seen {
    let ((places, unresolved), sample) = join(resolve(network, current), sample(network, current, tls)).await;
    let asked = places.iter().filter(|place| !place.addresses.is_empty()).count();
    let sampled = if let Sample::Hosts(hosts) = &sample { hosts.len() } else { 0 };
    let done = Cell::new(0);
    let advance = || {
        done.set(done.get() + 1);
        progress(done.get(), asked + sampled);
    };
    progress(0, asked + sampled);
    let (places, hosts) = join(ask_all(network, places, &advance), try_all(network, sample, &advance)).await;
    Seen { places, unresolved, hosts }
}

/// The prefixes with what the TURN names have in them, and the names that have nothing.
async fn resolve(network: &Network<'_>, current: &Current) -> (Vec<Place>, Vec<(String, finding::Found)>) {
    let (egress, own) = network.route.past_proxies();
    let look_ups = network.policy.media_servers().filter_map(|name| {
        let target = Target { port: PORT, ..Target::parse_human(name).ok()? };
        Some(async move { (name.to_owned(), egress.addresses(&target, own, &mut Trace::default()).await) })
    });
    let mut answers = stream::iter(look_ups.collect::<Vec<_>>()).buffered(LOOK_UPS);
    let (mut found, mut unresolved) = (Vec::new(), Vec::new());
    while let Some((name, answer)) = answers.next().await {
        match answer {
            Ok(addresses) => found.push((name, addresses)),
            Err(why) => unresolved.push((name, finding::of_unreached(&why))),
        }
    }
    (place::sort(&current.version, &found, &egress.allow_private), unresolved)
}

async fn ask_all(network: &Network<'_>, places: Vec<Place>, advance: &dyn Fn()) -> Vec<(Place, Asked)> {
    let ways = Semaphore::new(WAYS);
    let asked = places.into_iter().map(|place| async {
        if place.addresses.is_empty() {
            return (place, Asked::Nobody);
        }
        let asked = ask(network, &place, &ways).await;
        advance();
        (place, asked)
    });
    stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

/// Asks the first address as a browser does; where that is silent, a few others; where all are, the routers
/// on the way. Where there is no way to it, others of its family have none either: those behind a translator are
/// asked.
async fn ask(network: &Network<'_>, place: &Place, ways: &Semaphore) -> Asked {
    let (egress, _) = network.route.past_proxies();
    let Some((first, more)) = place.addresses.split_first() else { return Asked::Nobody };
    let mut probes = vec![turn::knock(egress, *first).await];
    if probes[0].answer.is_none() {
        let no_way = probes[0].refusal == Some(Refusal::NoWay);
        let more = more.iter().filter(|other| !no_way || other.is_ipv4() != first.is_ipv4()).take(MORE);
        probes.extend(join_all(more.map(|address| turn::knock(egress, *address))).await);
    }
    let dropped = |probed: &Probed| {
        // Nothing of what this machine kept back passes a router, and there are none within it.
        let left = matches!(probed.refusal, None | Some(Refusal::Network { .. }));
        left && !probed.address.ip().is_loopback()
    };
    let mut last = None;
    if probes.iter().all(|probed| probed.answer.is_none())
        && let Some(silent) = probes.iter().find(|probed| dropped(probed))
    {
        // It is never closed.
        let _place = ways.acquire().await;
        last = last_hop(egress, silent.address).await;
    }
    Asked::Probes { probes, last_hop: last }
}

/// What is to be tried over TCP.
enum Sample {
    Left,
    ByProxy,
    Hosts(Vec<(Option<Set>, Endpoint)>),
}

/// A few hosts of the allow list for each set that their addresses are in, and for none.
async fn sample(network: &Network<'_>, current: &Current, tls: bool) -> Sample {
    if !tls {
        return Sample::Left;
    }
    let wanted = Wanted { hosts: &[], web_socket: None, categories: &[] };
    let all = targets::endpoints(network.policy, network.connect, &wanted);
    let candidates = all.into_iter().filter_map(|endpoint| match (&endpoint.plan, endpoint.added) {
        (Plan::Tcp(target), false) => Some((target.clone(), endpoint)),
        _ => None,
    });
    let (by_proxy, direct): (Vec<_>, Vec<_>) =
        candidates.partition(|(target, _)| network.route.by_proxy(target));
    if direct.is_empty() && !by_proxy.is_empty() {
        return Sample::ByProxy;
    }
    let allowed = &network.route.past_proxies().0.allow_private;
    let look_ups = direct.into_iter().map(|(target, endpoint)| async move {
        network.route.look_up(&target).await;
        let found = network.route.found(&target);
        let set = |address: &IpAddr| current.service_of(*address, target.port, allowed);
        let of = found.iter().find_map(set);
        (!found.is_empty()).then_some((of, endpoint))
    });
    let found: Vec<Option<(Option<Set>, Endpoint)>> =
        stream::iter(look_ups.collect::<Vec<_>>()).buffered(LOOK_UPS).collect().await;
    let mut found: Vec<(Option<Set>, Endpoint)> = found.into_iter().flatten().collect();
    let mut sampled = Vec::new();
    for set in Set::VARIANTS.iter().copied().map(Some).chain([None]) {
        let (of, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(other, _)| *other == set);
        found = rest;
        sampled.extend(spread(of));
    }
    Sample::Hosts(sampled)
}

/// Some of them, of different categories as far as there are.
fn spread(of: Vec<(Option<Set>, Endpoint)>) -> impl Iterator<Item = (Option<Set>, Endpoint)> {
    let mut seen = Vec::new();
    let (first, again): (Vec<_>, Vec<_>) = of.into_iter().partition(|(_, endpoint)| {
        let is_first = !seen.contains(&endpoint.category);
        seen.push(endpoint.category);
        is_first
    });
    first.into_iter().chain(again).take(SAMPLES)
}

async fn try_all(network: &Network<'_>, sample: Sample, advance: &dyn Fn()) -> Hosts {
    let sampled = match sample {
        Sample::Left => return Hosts::Left,
        Sample::ByProxy => return Hosts::ByProxy,
        Sample::Hosts(sampled) => sampled,
    };
    let tried: FuturesUnordered<_> = sampled
        .into_iter()
        .enumerate()
        .map(|(at, (set, endpoint))| async move {
            let judged = Box::pin(one(network, endpoint)).await;
            advance();
            (at, set, judged)
        })
        .collect();
    let mut tried: Vec<_> = tried.collect().await;
    tried.sort_by_key(|(at, ..)| *at);
    let (sets, mut judged): (Vec<_>, Vec<_>) =
        tried.into_iter().map(|(_, set, judged)| (set, judged)).unzip();
    settle::by_clocks(&mut judged);
    Hosts::Sampled(sets.into_iter().zip(judged).collect())
}
