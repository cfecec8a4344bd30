//! Names to addresses: fixed answers, `/etc/hosts`, then DNS, behind a cache that keeps each
//! answer exactly as long as its TTL allows. Whether an address may be dialled is not judged here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;

/// Names in the cache; denied names are never resolved, so only allowed ones compete for it.
const CACHED_NAMES: u64 = 10_000;
/// An agent retries at once: a negative answer must not outlive the cause by much.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// Entries of the hosts file have no TTL of their own, and DNS answers rarely need a longer one.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("no DNS server answered in time")]
    Timeout,
    /// The response code as RFC 9209 wants it in `rcode`, for example `NXDOMAIN`.
    #[error("{rcode}: {why}")]
    Answer { rcode: &'static str, why: String },
    #[error("the DNS servers can't be reached: {0}")]
    Transport(String),
}

#[derive(Clone)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    valid_until: Instant,
}

struct UntilTtl;

impl Expiry<Box<str>, Answer> for UntilTtl {
    fn expire_after_create(&self, _: &Box<str>, answer: &Answer, now: Instant) -> Option<Duration> {
        Some(answer.valid_until.saturating_duration_since(now))
    }
}

/// Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Resolver {
    fixed: Arc<BTreeMap<Box<str>, Arc<[IpAddr]>>>,
    cache: Cache<Box<str>, Answer>,
    dns: Arc<TokioResolver>,
    timeout: Duration,
    /// Look-ups run here, so that they end well when the tunnel that asked goes away, and the
    /// DNS sockets belong to a runtime that outlives every worker.
    runtime: Handle,
}

impl Resolver {
    /// `hosts` are fixed answers by name in normal form; without `servers` the system's are used.
    ///
    /// # Errors
    /// When the system's resolver configuration is needed and can't be read.
    pub fn new(
        hosts: &BTreeMap<String, Vec<IpAddr>>,
        servers: &[SocketAddr],
        timeout: Duration,
        runtime: Handle,
    ) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            TokioResolver::builder(provider)?
        } else {
            TokioResolver::builder_with_config(given(servers), provider)
        };
        tune(builder.options_mut(), timeout);
        let dns = Arc::new(builder.build()?);
        let fixed =
            hosts.iter().map(|(name, to)| (name.to_ascii_lowercase().into(), to.clone().into())).collect();
        let cache = Cache::builder().max_capacity(CACHED_NAMES).expire_after(UntilTtl).build();
        Ok(Self { fixed: Arc::new(fixed), cache, dns, timeout, runtime })
    }

    /// What is known without waiting: a fixed answer or a cached one.
    pub async fn cached(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        if let Some(fixed) = self.fixed.get(name) {
            return Some(fixed.clone());
        }
        Some(Box::pin(self.cache.get(name)).await?.addresses)
    }

    /// All addresses of `name`, which is absolute and in normal form. Concurrent look-ups of one
    /// name share one query.
    ///
    /// # Errors
    /// See [`ResolveError`]; after `dns.timeout` for each server at the latest.
    pub async fn lookup(&self, name: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        let query = self.clone().query(name.into());
        // Boxed: a look-up is rare and its state large, and every tunnel would keep room for it.
        let answer = Box::pin(self.cache.try_get_with(name.into(), query)).await;
        answer.map(|a| a.addresses).map_err(|e| (*e).clone())
    }

    async fn query(self, name: Box<str>) -> Result<Answer, ResolveError> {
        // The whole look-up is bounded as well: a server that is mute, then its TCP, then the next.
        let whole = self.timeout.saturating_mul(2);
        let dns = self.dns.clone();
        // The dot makes the name absolute: no search list may widen the policy.
        let task = self.runtime.spawn(async move { dns.lookup_ip(format!("{name}.")).await });
        let found = match tokio::time::timeout(whole, task).await {
            Err(_) => return Err(ResolveError::Timeout),
            Ok(Err(join)) => return Err(ResolveError::Transport(join.to_string())),
            Ok(Ok(result)) => result.map_err(explain)?,
        };
        let addresses: Arc<[IpAddr]> = found.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::Answer { rcode: "NOERROR", why: "the name has no address".into() });
        }
        Ok(Answer { addresses, valid_until: found.valid_until() })
    }
}

fn given(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let mut config = NameServerConfig::udp_and_tcp(address.ip());
        config.connections = config.connections.into_iter().map(at_port).collect();
        config
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

fn tune(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout;
    options.attempts = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.try_tcp_on_error = true;
    options.edns0 = true;
    options.cache_size = 1024;
    options.negative_max_ttl = Some(NEGATIVE_TTL);
    options.positive_max_ttl = Some(POSITIVE_TTL);
}

fn explain(error: NetError) -> ResolveError {
    match error {
        NetError::Timeout => ResolveError::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let rcode = code(none.response_code);
            let why = match rcode {
                "NXDOMAIN" => "the name does not exist",
                "NOERROR" => "the name has no address",
                _ => "the DNS server could not answer",
            };
            ResolveError::Answer { rcode, why: why.into() }
        }
        NetError::Dns(DnsError::ResponseCode(rcode)) => {
            ResolveError::Answer { rcode: code(rcode), why: "the DNS server could not answer".into() }
        }
        other => ResolveError::Transport(other.to_string()),
    }
}

fn code(code: hickory_resolver::proto::op::ResponseCode) -> &'static str {
    use hickory_resolver::proto::op::ResponseCode;
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        _ => "OTHER",
    }
}
