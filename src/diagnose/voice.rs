//! The voice path: every media endpoint asked over UDP, all side by side, and judged together.

use std::net::SocketAddr;

use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt};

use super::media::{self, Control, Meaning, Seen};
use crate::agent::hops::last_hop;
use crate::agent::turn::{self, Probed, Refusal, SILENCE};
use crate::cause::Cause;
use crate::egress::own::Own;
use crate::egress::{Egress, Trace, Unreached};
use crate::target::{Host, Target};

/// How many addresses are asked at once, over all endpoints.
const AT_ONCE: usize = 256;
/// For how many silent endpoints the way is looked at: they mostly share it.
const WAYS: usize = 4;

/// What is known of one media endpoint.
pub(crate) struct Tested {
    pub trace: Trace,
    /// Why its addresses aren't known or may not be used, or what they say.
    pub meaning: Result<Meaning, Unreached>,
}

/// Tests all endpoints, and `control`, a STUN server that is known to answer. Takes 10 s where they are
/// silent, 3 s where they answer and 20 s at most, after the look-up of their names.
pub(crate) async fn test(
    egress: &Egress,
    own: &Own,
    endpoints: &[Target],
    control: Option<&Target>,
) -> Vec<Tested> {
    let ((resolved, seen), control) =
        join(ask(egress, own, endpoints), ask_control(egress, own, control)).await;
    let mut judged = media::judge(&seen, &control).into_iter();
    let tested = resolved.into_iter().map(|(trace, resolved)| {
        // Meaning are those that resolved, in their order.
        let meaning = resolved.map(|()| judged.next().expect("one for each name that resolved"));
        Tested { trace, meaning }
    });
    tested.collect()
}

/// Whether each name resolved, and what was seen of those that did.
async fn ask(
    egress: &Egress,
    own: &Own,
    endpoints: &[Target],
) -> (Vec<(Trace, Result<(), Unreached>)>, Vec<Seen>) {
    let resolved = endpoints.iter().map(|target| async move {
        let mut trace = Trace::default();
        let found = egress.addresses(target, own, &mut trace).await;
        // A packet that was lost once is no slow resolver.
        let slow = |took| Cause::DnsSlow.about().threshold.is_some_and(|limit| limit.judge(took).is_some());
        if let (Host::Name(name), Some(took)) = (&target.host, trace.dns.filter(|took| slow(*took)))
            && let Some(anew) = egress.resolver.time_anew(name).await
        {
            trace.dns = Some(took.min(anew));
        }
        (trace, found)
    });
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    let mut seen = Vec::new();
    for (trace, found) in join_all(resolved).await {
        let found = found.map(|found| {
            addresses.extend(found.into_iter().map(|address| (seen.len(), address)));
            seen.push(Seen { addresses: Vec::new(), last_hop: None });
        });
        names.push((trace, found));
    }
    let probes =
        addresses.into_iter().map(|(at, address)| async move { (at, turn::probe(egress, address).await) });
    let mut probes = stream::iter(probes).buffered(AT_ONCE);
    while let Some((at, probed)) = probes.next().await {
        seen[at].addresses.push(probed);
    }
    // Where somebody refused it, that is known already.
    let silent = seen.iter_mut().filter_map(|seen| {
        // There are no routers within this machine.
        let silent = |probed: &&Probed| {
            probed.answer.is_none() && probed.refusal.is_none() && !probed.address.ip().is_loopback()
        };
        let address = seen.addresses.iter().find(silent)?.address;
        Some(async move { seen.last_hop = last_hop(egress, address).await })
    });
    join_all(silent.take(WAYS)).await;
    (names, seen)
}

async fn ask_control(egress: &Egress, own: &Own, control: Option<&Target>) -> Control {
    let Some(target) = control else { return Control::None };
    let found = match (egress.addresses(target, own, &mut Trace::default()).await, &target.host) {
        // An address that the administrator wrote may be anywhere.
        (Err(_), Host::Ip(address)) => Ok(vec![SocketAddr::new(*address, target.port)]),
        (found, _) => found,
    };
    let name = target.to_string();
    let Ok(found) = found else {
        return Control::Unasked(name, "its name does not resolve to a public address".to_owned());
    };
    // A server has few addresses; one that answers is enough.
    let there = found.into_iter().filter(|address| egress.has_way_to(*address)).take(4);
    let probed = join_all(there.map(|address| turn::probe(egress, address))).await;
    if probed.iter().any(|probed| probed.answer.is_some()) {
        return Control::Answers(name);
    }
    if !probed.iter().all(Probed::is_unsent) {
        return Control::Silent(name, format!("no answer in {} s", SILENCE.as_secs()));
    }
    let why = match probed.iter().any(|probed| probed.refusal == Some(Refusal::NoSocket)) {
        true => "this machine has no local address, port or socket left for it",
        false => "this machine has no route there",
    };
    Control::Unasked(name, why.to_owned())
}
