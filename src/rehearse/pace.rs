//! Keeps rehearsals from looking like an attack: connections to one host begin at a pace.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::lock::lock;
use crate::target::Host;

/// New connections to one host are so far apart, at least: ten a second, as a site of a few hundred
/// agents makes them when a shift begins.
const APART: Duration = Duration::from_millis(100);

/// When the next connection to each host may begin. The hosts are those of the list.
#[derive(Default)]
pub(crate) struct Pace(Mutex<HashMap<Host, Instant>>);

impl Pace {
    /// Waits for this connection's turn.
    pub(super) async fn turn(&self, host: &Host) {
        sleep_until(self.next(host, Instant::now())).await;
    }

    /// Takes the next turn.
    fn next(&self, host: &Host, now: Instant) -> Instant {
        let mut hosts = lock(&self.0);
        let free = hosts.entry(host.clone()).or_insert(now);
        let turn = (*free).max(now);
        *free = turn + APART;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn connections_to_one_host_are_apart() {
        let (pace, now) = (Pace::default(), Instant::now());
        let next = |name: &str, after: Duration| {
            pace.next(&Target::parse_human(name).unwrap().host, now + after) - now
        };
        assert_eq!(next("a.example", Duration::ZERO), Duration::ZERO);
        assert_eq!(next("b.example", Duration::ZERO), Duration::ZERO, "each host has its own");
        assert_eq!(next("a.example", Duration::ZERO), APART);
        assert_eq!(next("a.example", APART / 2), 2 * APART);
        assert_eq!(next("a.example", 9 * APART), 9 * APART, "turns that nobody took are gone");
    }
}
