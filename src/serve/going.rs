//! How long a drain may last: `limits.drain` after a signal to stop, and no longer than
//! `limits.reboot_drain` once the machine goes down. A machine that goes down while nobody is there
//! (unattended upgrades) must come up again; so quiet tunnels are ended halfway, whose browsers turn
//! to the next proxy in peace, and those that talk keep the whole time.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use crate::proxy::shared::Shared;

/// How long live tunnels may run on.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// From the signal to stop.
    pub drain: Duration,
    /// From the word that the machine goes down (SIGPWR).
    pub reboot: Duration,
}

impl Time {
    /// Ends when the time is over. `power` tells that the machine goes down, `already` that it was told.
    pub(super) async fn over(self, shared: &Shared, power: &mut Signal, already: bool) {
        let begun = Instant::now();
        let end = begun.checked_add(self.drain);
        if !already {
            let drained = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = drained => return,
                Some(()) = power.recv() => {}
            }
        }
        let told = Instant::now();
        let short = told + self.reboot;
        let end = end.map_or(short, |end| end.min(short));
        tracing::warn!(
            event = "going_down",
            tunnels = shared.busy_now(),
            limit = %humantime::format_duration(Duration::from_secs((end - told).as_secs())),
            "the machine goes down: quiet tunnels are ended halfway, all at the end of limits.reboot_drain"
        );
        shared.drain.watch();
        sleep_until(told + (end - told) / 2).await;
        shared.drain.cut_quiet();
        sleep_until(end).await;
    }
}
