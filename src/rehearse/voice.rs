//! The voice of a call, past every proxy: the addresses of one media endpoint, asked side by side until each has
//! answered once or is silent. The call goes on with the first that answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::script::in_turn;
use crate::agent::turn::{self, Probed};
use crate::cause::Cause;
use crate::diagnose::finding::{Found, ended, failed};
use crate::diagnose::media;
use crate::diagnose::observed::{End, Seen};
use crate::egress::Egress;
use crate::egress::own::Own;
use crate::target::Target;

/// How many addresses of its endpoint a call asks.
const AT_ONCE: usize = 4;

type Knocks<'a> = FuturesUnordered<BoxFuture<'a, Probed>>;

/// An answer, and the addresses that are asked beside it.
pub(super) struct Heard<'a> {
    /// How long the first answer took.
    pub took: Duration,
    /// Those that have been asked, the one that answered among them.
    asked: Vec<Probed>,
    rest: Knocks<'a>,
}

/// Asks for the call of this number; returns the first answer, none where there is no endpoint.
///
/// # Errors
/// What was found in its place.
pub(super) async fn ask<'a>(
    egress: &'a Egress,
    own: &Own,
    endpoints: &[Target],
    number: u32,
) -> Result<Option<Heard<'a>>, Found> {
    let Some(target) = in_turn(endpoints, number) else { return Ok(None) };
    let mut seen = Seen::default();
    let addresses = egress.addresses(target, own, &mut seen.trace).await;
    let addresses = addresses.map_err(|why| ended(&mut seen, End::Unreached(why)))?;
    // Those that this machine has a way to: one without IPv6 lacks nothing for a call.
    let there: Vec<SocketAddr> = addresses.iter().copied().filter(|one| egress.has_way_to(*one)).collect();
    let addresses = if there.is_empty() { addresses } else { there };
    // Calls go round the endpoints first, then round the addresses of each.
    let round = number / u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
    let order = some_of(&addresses, round);
    let mut rest = Knocks::new();
    let begun = Instant::now();
    for address in &order {
        rest.push(turn::knock(egress, *address).boxed());
    }
    let mut asked = Vec::new();
    while let Some(probed) = rest.next().await {
        let answers = probed.answer.is_some();
        asked.push(probed);
        if answers {
            return Ok(Some(Heard { took: begun.elapsed(), asked, rest }));
        }
    }
    // They ended as they did; told they are in the order in which they were asked.
    asked.sort_by_key(|probed| order.iter().position(|address| *address == probed.address));
    let (cause, detail) = media::unanswered(asked);
    Err(failed(cause, detail))
}

/// Hears the other addresses out, each of which has as long to answer as the first one had. What the endpoint wants
/// for, if anything.
pub(super) async fn wanting(heard: Option<Heard<'_>>) -> Option<Cause> {
    let Heard { mut asked, mut rest, .. } = heard?;
    while let Some(probed) = rest.next().await {
        asked.push(probed);
    }
    media::wanting(&asked)
}

/// The addresses that the call of this round asks: all, or as many as it may, from another one on each time.
fn some_of(addresses: &[SocketAddr], round: u32) -> Vec<SocketAddr> {
    let turns = (0..=u32::MAX).map(|turn| round.wrapping_add(turn)).take(addresses.len().min(AT_ONCE));
    turns.filter_map(|turn| in_turn(addresses, turn)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_round_the_addresses() {
        let addresses: Vec<SocketAddr> =
            (1..=6).map(|last| SocketAddr::from(([198, 51, 100, last], 3478))).collect();
        let asked = |of: usize, round| {
            let asked = some_of(&addresses[..of], round);
            asked.iter().filter_map(|one| addresses.iter().position(|other| other == one)).collect::<Vec<_>>()
        };
        assert_eq!(asked(0, 3), [0_usize; 0]);
        assert_eq!([asked(1, 0), asked(1, 7)], [[0], [0]]);
        assert_eq!([asked(2, 0), asked(2, 1), asked(2, 2)], [[0, 1], [1, 0], [0, 1]]);
        assert_eq!([asked(6, 0), asked(6, 4)], [[0, 1, 2, 3], [4, 5, 0, 1]]);
    }
}
