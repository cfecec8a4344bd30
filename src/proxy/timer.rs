//! Keeps a one-second timer armed while connections negotiate, and none while tunnels only relay.
//!
//! tokio writes to an eventfd whenever a timer is set that rings before all others, also from the
//! loop's own thread: in a loop without timers, each connection's time limits would cost a system
//! call and a wake-up. But a loop with a timer costs the kernel one more timer for each wait, and a
//! worker full of tunnels waits ten thousand times a second.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Every time limit of a negotiation is longer than this, unless it is set to less.
const BEAT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Still,
    /// Beating, and nothing has happened since the last beat.
    Fading,
    Stirred,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Still) };
    static WAKE: Arc<Notify> = Arc::default();
}

/// Says that a connection begins to negotiate on this thread.
pub(crate) fn stir() {
    if STATE.replace(State::Stirred) == State::Still {
        WAKE.with(|wake| wake.notify_one());
    }
}

/// Beats on this thread for as long as it is stirred. Never ends.
pub(crate) async fn keep() {
    let wake = WAKE.with(Arc::clone);
    loop {
        wake.notified().await;
        while STATE.get() != State::Still {
            sleep(BEAT).await;
            let faded = STATE.get() == State::Fading;
            STATE.set(if faded { State::Still } else { State::Fading });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_beats_while_it_is_stirred_and_then_stops() {
        let beating = tokio::spawn(keep());
        for _ in 0..3 {
            stir();
            sleep(BEAT / 2).await;
            assert!(STATE.get() != State::Still);
        }
        let quiet = Instant::now();
        while STATE.get() != State::Still {
            sleep(BEAT / 20).await;
        }
        assert!(quiet.elapsed() < BEAT * 3, "{:?}", quiet.elapsed());
        stir();
        sleep(BEAT / 2).await;
        assert!(STATE.get() != State::Still, "it begins anew");
        assert!(!beating.is_finished());
    }
}
