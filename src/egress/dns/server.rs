//! What is remembered of a DNS server from one question to the next, by all look-ups together. Nothing is
//! sent here.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How long a server is asked without EDNS before it is tried again.
const WITHOUT_EDNS: Duration = Duration::from_secs(600);
/// A server that was silent has less time for so long; then it gets all of its time again.
const SHORTENED_FOR: Duration = Duration::from_secs(30);
/// The time of a server that was silent, while there is another one to ask.
const SHORTENED: Duration = Duration::from_millis(500);

/// A server, and how it behaved.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    without_edns_until: Option<Instant>,
    silent_until: Option<Instant>,
    heard: Option<Instant>,
}

impl Server {
    /// A server of which nothing is known yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Notes that the server answered something.
    pub(crate) fn answered(&self) {
        let mut memory = self.memory();
        memory.heard = Some(Instant::now());
        if memory.silent_until.take().is_some() {
            tracing::info!(event = "dns_server_back", server = %self.address, "the DNS server answers again");
        }
    }

    /// Notes that the server let its time pass, which began at `began`. It may have answered other
    /// questions meanwhile.
    pub(crate) fn was_silent(&self, began: Instant) {
        let mut memory = self.memory();
        if memory.heard.is_some_and(|heard| heard >= began) {
            return;
        }
        let known = memory.silent_until.replace(Instant::now() + SHORTENED_FOR).is_some();
        if !known {
            tracing::warn!(
                event = "dns_server_silent",
                server = %self.address,
                "the DNS server does not answer; until it does, the next one waits for it no longer than {SHORTENED:?}"
            );
        }
    }

    /// How much of the time that is due to a server it gets now.
    pub(crate) fn patience(&self, due: Duration) -> Duration {
        let silent = self.memory().silent_until.is_some_and(|until| Instant::now() < until);
        if silent { due.min(SHORTENED) } else { due }
    }

    /// Whether it may be asked with EDNS.
    pub(crate) fn takes_edns(&self) -> bool {
        self.memory().without_edns_until.is_none_or(|until| until <= Instant::now())
    }

    /// Notes that the server answers only queries without EDNS.
    pub(crate) fn refuses_edns(&self) {
        let known = self.memory().without_edns_until.replace(Instant::now() + WITHOUT_EDNS).is_some();
        if !known {
            tracing::info!(
                event = "dns_server_without_edns",
                server = %self.address,
                "the DNS server answers only queries without EDNS, and gets such ones"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: Duration = Duration::from_secs(3);

    #[test]
    fn silence_shortens_its_time_until_it_is_heard() {
        let server = Server::new("192.0.2.1:53".parse().unwrap());
        assert_eq!(server.patience(DUE), DUE);
        server.was_silent(Instant::now());
        assert_eq!(server.patience(DUE), SHORTENED);
        assert_eq!(server.patience(SHORTENED / 2), SHORTENED / 2);
        server.answered();
        assert_eq!(server.patience(DUE), DUE);
    }

    #[test]
    fn a_server_that_answers_others_is_not_silent() {
        let server = Server::new("192.0.2.1:53".parse().unwrap());
        let began = Instant::now();
        server.answered();
        server.was_silent(began);
        assert_eq!(server.patience(DUE), DUE);
    }
}
