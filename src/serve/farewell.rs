//! The order in which the last tunnels of a drain end. A browser opens most of them again without
//! anybody noticing; a WebSocket of signalling carries the call that an agent is in. All at once would be a storm
//! of handshakes on the next proxy.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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
        in_turn(&mut live, |seat| (seat.labels.traffic, seat.idle()));
        for seat in live.iter().take(chosen) {
            seat.chosen.store(true, Ordering::Relaxed);
        }
        if chosen > 0 {
            shared.drain.cut_chosen(&shared.journal.ledger);
        }
    }
}

/// Sorts tunnels by their turns, by what they carry and for how many seconds they have been idle. Each is looked at
/// once: tunnels go on meanwhile, and a sort whose order changes under it panics.
fn in_turn<T>(live: &mut [T], look: impl Fn(&T) -> (Option<Category>, u32)) {
    live.sort_by_cached_key(|one| {
        let (traffic, idle) = look(one);
        turn(traffic, idle)
    });
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
    use std::cell::Cell;

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
        in_turn(&mut all, |one| *one);
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
    fn tunnels_that_move_while_they_are_sorted_do_no_harm() {
        let looks = Cell::new(1_u32);
        let mut all: Vec<usize> = (0..10_000).collect();
        in_turn(&mut all, |_| {
            // As random as it need be: whoever is looked at twice has another place each time.
            looks.set(looks.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
            (None, looks.get() >> 16)
        });
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..10_000), "none is lost, and none is there twice");
    }

    #[test]
    fn it_takes_a_tenth_of_the_drain_and_minutes_at_most() {
        assert_eq!(length(Duration::from_secs(36_000)), LONGEST);
        assert_eq!(length(Duration::from_secs(60)), Duration::from_secs(6));
        assert_eq!(length(Duration::ZERO), Duration::ZERO);
    }
}
