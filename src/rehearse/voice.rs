//! The voice of a call, past every proxy: one address of one media endpoint, asked until it answers once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::script::in_turn;
use crate::agent::turn::{self, Refusal};
use crate::diagnose::finding::{Found, ended, failed};
use crate::diagnose::media::unanswered;
use crate::diagnose::observed::{End, Seen};
use crate::egress::Egress;
use crate::egress::own::Own;
use crate::target::Target;

/// Asks for the call of this number; returns how long the answer took, none where there is no endpoint.
///
/// # Errors
/// What was found in its place.
pub(super) async fn ask(
    egress: &Egress,
    own: &Own,
    endpoints: &[Target],
    number: u32,
) -> Result<Option<Duration>, Found> {
    let Some(target) = in_turn(endpoints, number) else { return Ok(None) };
    let mut seen = Seen::default();
    let addresses = egress.addresses(target, own, &mut seen.trace).await;
    let addresses = addresses.map_err(|why| ended(&mut seen, End::Unreached(why)))?;
    // Calls go round the endpoints first, then round the addresses of each: those that this machine has a way to. One
    // without IPv6 lacks nothing for a call.
    let round = number / u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
    let there: Vec<SocketAddr> = addresses.iter().copied().filter(|one| egress.has_way_to(*one)).collect();
    let addresses = if there.is_empty() { addresses } else { there };
    let mut asked = Vec::new();
    for turn in (round..).take(addresses.len()) {
        let Some(address) = in_turn(&addresses, turn) else { break };
        let begun = Instant::now();
        let probed = turn::knock(egress, *address).await;
        if probed.answer.is_some() {
            return Ok(Some(begun.elapsed()));
        }
        let refusal = probed.refusal;
        asked.push(probed);
        if refusal != Some(Refusal::NoWay) {
            break;
        }
    }
    let (cause, detail) = unanswered(asked);
    Err(failed(cause, detail))
}
