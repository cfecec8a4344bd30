//! What is known of a name: its addresses, of which one family may come later.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::egress::dns::stub::{Definite, Late};

/// What is known of a name.
#[derive(Clone)]
pub struct Addresses {
    /// One at least.
    pub known: Arc<[IpAddr]>,
    /// The other family, where it is still awaited. A caller that reaches none of the known addresses can
    /// wait for it.
    pub rest: Option<Rest>,
}

/// What comes of a family that answers late.
#[derive(Clone)]
pub(super) enum LateAnswer {
    /// Its addresses, and for how many seconds they hold.
    Addresses(Arc<[IpAddr]>, u32),
    /// It definitely has none.
    Nothing,
    /// It may have some: no answer came, or none that says so.
    Failed,
}

/// The family that answers late, for all who may want to wait for it.
#[derive(Clone)]
pub struct Rest {
    pub(super) answer: Shared<BoxFuture<'static, LateAnswer>>,
    /// When the other family answered.
    since: tokio::time::Instant,
}

/// How long an answer in one family that leads nowhere is kept back for the other family.
///
/// RFC 8305 bounds the wait before a dial (section 3: 50 ms) and says nothing of the wait after the
/// last address has failed; glibc dials nothing before both families are in, and would wait for
/// `dns.timeout` and longer. Both questions went to one server at once. Within a second that server
/// has answered the second one as well, also when it had to ask elsewhere, and when a packet was lost:
/// the query is sent again after half a second. A server that is silent for longer swallows the
/// question, as some firewalls do with AAAA, and an agent waits for nothing.
const LATE: Duration = Duration::from_secs(1);

impl Rest {
    pub(super) fn new(late: Late) -> Self {
        let addresses = async {
            match late.await {
                Ok(Definite::Addresses(more, ttl)) => LateAnswer::Addresses(more.into(), ttl),
                Ok(Definite::Nothing(..)) => LateAnswer::Nothing,
                Err(_) => LateAnswer::Failed,
            }
        };
        Self { answer: addresses.boxed().shared(), since: tokio::time::Instant::now() }
    }

    /// The addresses, none where there are none; after the time of the server at the latest.
    pub async fn addresses(&mut self) -> Arc<[IpAddr]> {
        match (&mut self.answer).await {
            LateAnswer::Addresses(addresses, _) => addresses,
            LateAnswer::Nothing | LateAnswer::Failed => Arc::default(),
        }
    }

    /// The same, where the far side or the policy has refused what the other family led to: it is
    /// not worth a long wait. None as well where nothing came in time.
    pub async fn addresses_soon(&mut self) -> Arc<[IpAddr]> {
        let until = self.since + LATE;
        tokio::time::timeout_at(until, self.addresses()).await.unwrap_or_default()
    }
}

impl Addresses {
    /// Both families, or the only one.
    pub fn all(known: Arc<[IpAddr]>) -> Self {
        Self { known, rest: None }
    }
}
