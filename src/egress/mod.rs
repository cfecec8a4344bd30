//! How a target is reached: connect_to, resolve, judge, dial. Knows nothing of clients, of answers
//! or of the log, so that whatever wants to go the proxy's way can.

pub mod own;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::address::{self, Barred, Special};
use crate::net::dialer::{DialError, dial};
use crate::net::resolver::{ResolveError, Resolver};
use crate::policy::Pattern;
use crate::target::{Host, Target};
use own::Own;

/// The section `[egress]` in force, with the resolver.
pub struct Egress {
    pub resolver: Resolver,
    pub connect_timeout: Duration,
    pub source_address: Vec<IpAddr>,
    pub allow_private: Vec<IpNet>,
    /// The most specific first.
    pub connect_to: Vec<(Pattern, u16, SocketAddr)>,
}

/// How far an attempt has come, and how long its steps took. Filled in on the way, so that it tells
/// of an attempt that was given up, too.
#[derive(Debug)]
pub struct Trace {
    /// `decide`, `dns` or `connect`.
    pub stage: &'static str,
    /// Zero where the answer was known without asking; none where no name was looked up.
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    /// The address that took the connection.
    pub address: Option<SocketAddr>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { stage: "decide", dns: None, connect: None, address: None }
    }
}

/// Why a target is not reached.
#[derive(Debug)]
pub enum Unreached {
    Dns(ResolveError),
    /// No address of the name may be dialled; this is why not, for the most telling one.
    Barred(Barred),
    /// The way leads back to this process.
    Own(Loop),
    Dial(DialError),
}

/// A way that leads back to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    pub address: SocketAddr,
    pub by: Lead,
}

/// What led to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// The target's own name.
    Name,
    /// `egress.connect_to`.
    ConnectTo,
}

impl Egress {
    /// Resolves, judges and dials. The address that was judged is the one that is dialled.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub async fn reach(&self, target: &Target, own: &Own, trace: &mut Trace) -> Result<TcpStream, Unreached> {
        let mut one = [SocketAddr::new(IpAddr::from([0; 4]), target.port)];
        let addresses: Cow<'_, [SocketAddr]> = if let Some(fixed) = self.connect_to(target) {
            if own.is(fixed) {
                return Err(Unreached::Own(Loop { address: fixed, by: Lead::ConnectTo }));
            }
            one[0] = fixed;
            Cow::Borrowed(&one)
        } else {
            let found = self.resolve(&target.host, trace).await?;
            let mut fit = found.iter().filter_map(|address| self.vet(*address, target.port, own).ok());
            match (fit.next(), found.len()) {
                (Some(only), 1) => {
                    one[0] = only;
                    Cow::Borrowed(&one)
                }
                (Some(first), _) => Cow::Owned(std::iter::once(first).chain(fit).collect()),
                (None, _) => return Err(self.why_none(&found, target.port, own)),
            }
        };
        trace.stage = "connect";
        let dialled = Instant::now();
        let connected = dial(&addresses, &self.source_address, self.connect_timeout).await;
        trace.connect = Some(dialled.elapsed());
        let (stream, address) = connected.map_err(Unreached::Dial)?;
        trace.address = Some(address);
        Ok(stream)
    }

    /// The address that `egress.connect_to` puts in place of a target.
    fn connect_to(&self, target: &Target) -> Option<SocketAddr> {
        let fits =
            |(p, port, _): &&(Pattern, u16, SocketAddr)| *port == target.port && p.matches(&target.host);
        self.connect_to.iter().find(fits).map(|(.., to)| *to)
    }

    async fn resolve(&self, host: &Host, trace: &mut Trace) -> Result<Arc<[IpAddr]>, Unreached> {
        let name = match host {
            Host::Ip(address) => return Ok(Arc::from([*address])),
            Host::Name(name) => name,
        };
        if let Some(found) = self.resolver.cached(name).await {
            trace.dns = Some(Duration::ZERO);
            return Ok(found);
        }
        trace.stage = "dns";
        let asked = Instant::now();
        let answer = self.resolver.lookup(name).await;
        trace.dns = Some(asked.elapsed());
        answer.map_err(Unreached::Dns)
    }

    /// The address to dial for one that a name has, if it may be dialled.
    fn vet(&self, address: IpAddr, port: u16, own: &Own) -> Result<SocketAddr, Unreached> {
        address::judge(address, &self.allow_private).map_err(Unreached::Barred)?;
        // An IPv4-mapped address is dialled as the IPv4 address that it is.
        let address = SocketAddr::new(address.to_canonical(), port);
        if own.is(address) {
            return Err(Unreached::Own(Loop { address, by: Lead::Name }));
        }
        Ok(address)
    }

    /// Why none of these may be dialled: a way to credentials or a loop is news, a private address
    /// among them is not.
    fn why_none(&self, found: &[IpAddr], port: u16, own: &Own) -> Unreached {
        let telling = |why: &Unreached| match why {
            Unreached::Barred(Barred { special: Special::Metadata, .. }) => 2,
            Unreached::Own(_) => 1,
            _ => 0,
        };
        let whys = found.iter().filter_map(|address| self.vet(*address, port, own).err());
        // Of equals the first: `max_by_key` takes the last.
        let most = whys.reduce(|first, other| if telling(&other) > telling(&first) { other } else { first });
        most.unwrap_or_else(|| {
            let why = "the name has no address".into();
            Unreached::Dns(ResolveError::Answer { rcode: "NOERROR", why })
        })
    }
}
