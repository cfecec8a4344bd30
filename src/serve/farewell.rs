//! The order in which the last tunnels of a drain end. A browser opens most of them again without
//! anybody noticing; a WebSocket of signalling carries the call that an agent is in. All at once would be a storm
//! of handshakes on the next proxy.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::journal::ledger::Seat;
use crate::policy::Category;
use crate::proxy::shared::Shared;

/// The farewell takes the last tenth of a drain, and no longer than this.
const LONGEST: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_secs(2);
/// A tunnel that has been silent for so many seconds is idle.
const IDLE: u32 = 10;

/// How long before the end of a drain the first tunnels are ended.
pub(super) fn length(drain: Duration) -> Duration {
    (drain / 10).min(LONGEST)
}

/// Ends tunnels from now until `end`, evenly; the last of them are left to the end.
pub(super) async fn say(shared: &Shared, end: Instant) {
    loop {
        let now = Instant::now();
        let left = end.saturating_duration_since(now);
        if left <= STEP {
            // The last step is the deadline itself, at which all that still live are cut and counted.
            return sleep_until(end).await;
        }
        sleep_until(now + STEP).await;
        let mut live =
            shared.journal.ledger.live(|seat| !seat.chosen.load(Ordering::Relaxed), usize::MAX).items;
        let steps = left.div_duration_f64(STEP);
        let chosen = (live.len() as f64 / steps).floor() as usize;
        live.sort_by_key(|seat| turn(traffic(seat), seat.idle()));
        for seat in live.iter().take(chosen) {
            seat.chosen.store(true, Ordering::Relaxed);
        }
        if chosen > 0 {
            shared.drain.cut_chosen();
        }
    }
}

fn traffic(seat: &Arc<Seat>) -> Option<Category> {
    seat.labels.traffic
}

/// The smaller, the earlier: what is easily opened again, what is idle, what has been so for longer.
fn turn(traffic: Option<Category>, idle: u32) -> (u8, bool, Reverse<u32>) {
    let rank = match traffic {
        Some(Category::Signalling) => 2,
        Some(Category::Telecom | Category::Media) => 1,
        _ => 0,
    };
    (rank, idle < IDLE, Reverse(idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_and_opened_again_goes_first_and_signalling_last() {
        let mut all = [
            (Some(Category::Signalling), 0),
            (Some(Category::Static), 0),
            (Some(Category::Signalling), 500),
            (Some(Category::Chat), 30),
            (Some(Category::Telecom), 40),
            (None, 90),
        ];
        all.sort_by_key(|(traffic, idle)| turn(*traffic, *idle));
        assert_eq!(
            all,
            [
                (None, 90),
                (Some(Category::Chat), 30),
                (Some(Category::Static), 0),
                (Some(Category::Telecom), 40),
                (Some(Category::Signalling), 500),
                (Some(Category::Signalling), 0),
            ]
        );
    }

    #[test]
    fn it_takes_a_tenth_of_the_drain_and_minutes_at_most() {
        assert_eq!(length(Duration::from_secs(36_000)), LONGEST);
        assert_eq!(length(Duration::from_secs(60)), Duration::from_secs(6));
        assert_eq!(length(Duration::ZERO), Duration::ZERO);
    }
}
