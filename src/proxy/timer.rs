//! Keeps a one-second timer armed while connections negotiate, and none while tunnels only relay.
//!
//! tokio writes to an eventfd whenever a timer is set that is due before all others, also from the loop's
//! own thread: in a loop without timers, each connection's time limits would cost a system call and a
//! wake-up. But a loop with a timer costs the kernel one more timer for each wait, and a worker full of
//! tunnels waits ten thousand times a second.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Every time limit of a negotiation is longer than this, unless it is set to less.
const TICK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// The timer is armed, and no connection has begun to negotiate since the last tick.
    Quiet,
    Negotiating,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Off) };
    static WAKE: Arc<Notify> = Arc::default();
}

/// Says that a connection begins to negotiate on this thread.
pub(crate) fn arm() {
    if STATE.replace(State::Negotiating) == State::Off {
        WAKE.with(|wake| wake.notify_one());
    }
}

/// Keeps the timer armed on this thread while connections negotiate. Never ends.
pub(crate) async fn run() {
    let wake = WAKE.with(Arc::clone);
    loop {
        wake.notified().await;
        while STATE.get() != State::Off {
            sleep(TICK).await;
            let over = STATE.get() == State::Quiet;
            STATE.set(if over { State::Off } else { State::Quiet });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_while_connections_negotiate_and_then_stops() {
        let ticking = tokio::spawn(run());
        for _ in 0..3 {
            arm();
            sleep(TICK / 2).await;
            assert!(STATE.get() != State::Off);
        }
        let quiet = Instant::now();
        while STATE.get() != State::Off {
            sleep(TICK / 20).await;
        }
        assert!(quiet.elapsed() < TICK * 3, "{:?}", quiet.elapsed());
        arm();
        sleep(TICK / 2).await;
        assert!(STATE.get() != State::Off, "it begins anew");
        assert!(!ticking.is_finished());
    }
}
