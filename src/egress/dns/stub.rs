//! The order in which servers are asked, and how the answers of the two address families are joined.
//!
//! Both families are asked of one server, side by side, as glibc does: one server, one view of the name.
//! The next server is asked where this one gave no address and no definite answer for both. Unlike glibc,
//! an address in one family does not wait for the other but 50 ms.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{Family, Question, Said};
use super::server::Server;
use super::{Failure, ResolveError, exchange};

/// RFC 8305 §3: the family that has an address waits so long for the other.
const GRACE: Duration = Duration::from_millis(50);
/// A server whose port refuses may be restarting: it is asked again after this.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// How many answers in a row may end in an alias of which they say nothing.
const MAX_FOLLOWED: usize = 8;

/// The servers, and how they are asked.
#[derive(Debug)]
pub(crate) struct Stub {
    servers: Vec<Arc<Server>>,
    timeout: Duration,
    edns: bool,
}

/// What DNS knows of a name.
pub(crate) enum Found {
    /// One address at least.
    Addresses {
        /// Of both families, in no order.
        addresses: Vec<IpAddr>,
        /// How long all of them hold, in seconds.
        ttl: u32,
        /// How it stands with the other family.
        other: Other,
    },
    /// Definitely nothing.
    Nothing {
        /// False for NXDOMAIN.
        exists: bool,
        /// How long that holds, in seconds, where the answer says so.
        ttl: Option<u32>,
        /// The server that says so.
        by: SocketAddr,
    },
}

/// The other family of a name that has addresses in one family at least.
pub(crate) enum Other {
    /// Its addresses are there, or it definitely has none.
    Known,
    /// The server failed at it, and it may have addresses: nobody knows. As with glibc the next server
    /// isn't asked for it: one server, one view of the name.
    Failed,
    /// Its answer is still awaited.
    Late(Late),
}

/// One family's answer, still awaited; bounded by the time of its server.
pub(crate) type Late = Pin<Box<dyn Future<Output = Heard> + Send>>;

/// What one server says about one family.
pub(crate) type Heard = Result<Definite, Failure>;

/// A definite answer about one family.
#[derive(Debug)]
pub(crate) enum Definite {
    /// Addresses, one at least, and for how many seconds they hold.
    Addresses(Vec<IpAddr>, u32),
    /// None of this family: whether the name exists, and for how many seconds that holds.
    Nothing(bool, Option<u32>),
}

impl Stub {
    /// What is remembered of servers in `before` is kept.
    pub(crate) fn new(servers: &[SocketAddr], timeout: Duration, edns: bool, before: Option<&Self>) -> Self {
        let known = |address: &SocketAddr| {
            before.and_then(|stub| stub.servers.iter().find(|server| server.address == *address)).cloned()
        };
        let server = |address| known(address).unwrap_or_else(|| Arc::new(Server::new(*address)));
        Self { servers: servers.iter().map(server).collect(), timeout, edns }
    }

    /// How long a look-up may take over all its servers.
    pub(crate) fn whole(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    /// Asks the servers for `name`, which is absolute, until `deadline`.
    ///
    /// # Errors
    /// The most telling failure of all servers, when no answer was definite.
    pub(crate) async fn lookup(&self, name: &str, deadline: Instant) -> Result<Found, ResolveError> {
        let (Some(four), Some(six)) = (Question::new(name, Family::V4), Question::new(name, Family::V6))
        else {
            let why = "a name that DNS can't hold".into();
            return Err(ResolveError::Answer { rcode: "NXDOMAIN", why });
        };
        let mut told: Option<(Arc<Server>, Failure)> = None;
        let mut turns = VecDeque::from(self.turns());
        let (mut refused, mut again) = (Vec::new(), false);
        loop {
            let Some((server, patience)) = turns.pop_front() else {
                if refused.is_empty() || again {
                    break;
                }
                again = true;
                turns.extend(refused.drain(..));
                sleep_until(deadline.min(Instant::now() + AFTER_REFUSAL.min(self.timeout / 4))).await;
                continue;
            };
            let began = Instant::now();
            let until = deadline.min(began + patience);
            if until <= began {
                break;
            }
            let questions = [four.clone(), six.clone()];
            match self.at(&server, questions, until, turns.is_empty()).await {
                Ok(found) => return Ok(found),
                Err(failure) => {
                    if matches!(failure, Failure::Timeout | Failure::Cut) {
                        server.was_silent(began.into_std());
                    }
                    tracing::debug!(server = %server.address, name, ?failure, "DNS");
                    if matches!(failure, Failure::Unreachable(_) | Failure::Exhausted(_)) {
                        refused.push((server.clone(), patience));
                    }
                    if told.as_ref().is_none_or(|(_, before)| failure.rank() > before.rank()) {
                        told = Some((server, failure));
                    }
                }
            }
        }
        let asked = self.servers.iter().map(|server| server.address).collect();
        Err(match told {
            Some((server, failure)) => failure.of(server.address, asked),
            None => ResolveError::Timeout(asked),
        })
    }

    /// Which servers are asked, and for how long: in the order written. A server that was silent the last
    /// time has less time while there are others; it gets the rest of its time when they don't help.
    fn turns(&self) -> Vec<(Arc<Server>, Duration)> {
        let count = u32::try_from(self.servers.len()).unwrap_or(u32::MAX).max(1);
        let due = self.timeout.min(self.whole() / count);
        let turn = |server: &Arc<Server>| {
            let patience = if count > 1 { server.patience(due) } else { due };
            (server.clone(), patience)
        };
        let mut turns: Vec<_> = self.servers.iter().map(turn).collect();
        let again: Vec<_> =
            turns.iter().filter(|(_, patience)| *patience < due).map(|(s, _)| (s.clone(), due)).collect();
        turns.extend(again);
        turns
    }

    /// Asks one server for both families. `last`: there is no other server after it.
    async fn at(
        &self,
        server: &Arc<Server>,
        [four, six]: [Question; 2],
        until: Instant,
        last: bool,
    ) -> Result<Found, Failure> {
        let ask = |question| -> Late { Box::pin(family(server.clone(), question, self.edns, until)) };
        let (first, mut rest, four_first) = match select(ask(four), ask(six)).await {
            Either::Left((first, rest)) => (first, rest, true),
            Either::Right((first, rest)) => (first, rest, false),
        };
        let wait = match &first {
            Ok(Definite::Addresses(..)) => true,
            Ok(Definite::Nothing(..)) => false,
            Err(_) => !last,
        };
        let second = if wait { timeout(GRACE, &mut rest).await.ok() } else { Some(rest.as_mut().await) };
        let by = server.address;
        match (first, second) {
            (Ok(Definite::Addresses(addresses, ttl)), None) => {
                Ok(Found::Addresses { addresses, ttl, other: Other::Late(rest) })
            }
            (Err(failure), None) => Err(failure),
            (first, None) => unreachable!("{first:?} waits for the other family"),
            (first, Some(second)) if four_first => both(first, second, by),
            (first, Some(second)) => both(second, first, by),
        }
    }
}

/// What a server's answers for both families say together.
fn both(four: Heard, six: Heard, by: SocketAddr) -> Result<Found, Failure> {
    match (four, six) {
        (Ok(Definite::Addresses(mut addresses, ttl)), Ok(Definite::Addresses(six, its))) => {
            addresses.extend(six);
            Ok(Found::Addresses { addresses, ttl: ttl.min(its), other: Other::Known })
        }
        (Ok(Definite::Addresses(addresses, ttl)), other)
        | (other, Ok(Definite::Addresses(addresses, ttl))) => {
            let other = if other.is_ok() { Other::Known } else { Other::Failed };
            Ok(Found::Addresses { addresses, ttl, other })
        }
        (Ok(Definite::Nothing(exists, ttl)), Ok(Definite::Nothing(_, its))) => {
            let ttl = ttl.zip(its).map(|(a, b)| a.min(b)).or(ttl).or(its);
            Ok(Found::Nothing { exists, ttl, by })
        }
        // The name itself doesn't exist (RFC 8020). Some servers say it of any name, but of AAAA only.
        (Ok(Definite::Nothing(false, ttl)), Err(_)) => Ok(Found::Nothing { exists: false, ttl, by }),
        (Err(failure), Ok(Definite::Nothing(..))) | (Ok(Definite::Nothing(..)), Err(failure)) => Err(failure),
        (Err(four), Err(six)) => Err(four.or_better(six)),
    }
}

/// Asks one server for one family, and again for each alias of which an answer says nothing.
async fn family(server: Arc<Server>, mut question: Question, edns: bool, until: Instant) -> Heard {
    let mut least = u32::MAX;
    for _ in 0..MAX_FOLLOWED {
        match exchange::ask(&server, &question, edns, until).await? {
            Said::Addresses(addresses, ttl) => return Ok(Definite::Addresses(addresses, ttl.min(least))),
            Said::Nothing { exists, ttl } => {
                return Ok(Definite::Nothing(exists, ttl.map(|ttl| ttl.min(least))));
            }
            Said::Alias(to, ttl) => {
                least = least.min(ttl);
                question.name = to;
            }
            Said::Failed(failure) => return Err(failure),
        }
    }
    Err(Failure::Circle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn stub(count: u8) -> Stub {
        let servers: Vec<SocketAddr> = (0..count).map(|n| ([192, 0, 2, n], 53).into()).collect();
        Stub::new(&servers, TIMEOUT, true, None)
    }

    fn patience(stub: &Stub) -> Vec<(usize, Duration)> {
        let at =
            |server: &Arc<Server>| stub.servers.iter().position(|s| s.address == server.address).unwrap();
        stub.turns().iter().map(|(server, patience)| (at(server), *patience)).collect()
    }

    #[test]
    fn every_server_has_its_turn_within_the_whole() {
        assert_eq!(patience(&stub(1)), [(0, TIMEOUT)]);
        assert_eq!(patience(&stub(2)), [(0, TIMEOUT), (1, TIMEOUT)]);
        let each = Duration::from_millis(1500);
        assert_eq!(patience(&stub(4)), [(0, each), (1, each), (2, each), (3, each)]);
    }

    #[test]
    fn a_silent_server_stays_in_its_place_with_less_time() {
        let (two, one) = (stub(2), stub(1));
        for stub in [&two, &one] {
            stub.servers[0].was_silent(std::time::Instant::now());
        }
        let short = Duration::from_millis(500);
        assert_eq!(patience(&two), [(0, short), (1, TIMEOUT), (0, TIMEOUT)]);
        assert_eq!(patience(&one), [(0, TIMEOUT)]);
    }

    #[test]
    fn a_family_that_failed_is_told_from_one_that_has_nothing() {
        let by = ([192, 0, 2, 1], 53).into();
        let some = || Ok(Definite::Addresses(vec![[192, 0, 2, 9].into()], 300));
        let others: [(fn() -> Heard, bool); 5] = [
            (|| Ok(Definite::Nothing(true, Some(60))), true),
            (|| Ok(Definite::Nothing(false, None)), true),
            (|| Err(Failure::Timeout), false),
            (|| Err(Failure::Lame), false),
            (|| Err(Failure::Exhausted(24)), false),
        ];
        for (other, known) in others {
            for found in [both(some(), other(), by), both(other(), some(), by)] {
                let Ok(Found::Addresses { ttl: 300, other, .. }) = found else { panic!("no addresses") };
                assert_eq!(matches!(other, Other::Known), known);
                assert_eq!(matches!(other, Other::Failed), !known);
            }
        }
    }

    #[test]
    fn servers_are_remembered_when_the_list_changes() {
        let before = stub(2);
        before.servers[1].was_silent(std::time::Instant::now());
        let after = Stub::new(&[before.servers[1].address], TIMEOUT, true, Some(&before));
        assert!(Arc::ptr_eq(&after.servers[0], &before.servers[1]));
    }
}
