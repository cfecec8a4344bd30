//! How a target is reached: connect_to, else through a parent proxy, else resolve, judge, dial. Knows
//! nothing of clients, of answers to them or of the log, so that other parts of the program can use the
//! proxy's own way.

mod answer;
pub(crate) mod cause;
pub mod connect_to;
pub mod dialer;
pub mod dns;
pub mod failure;
pub(crate) mod fetch;
pub(crate) mod own;
pub(crate) mod parent;
pub mod resolver;
pub mod url;
mod via;
pub(crate) mod within;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use ipnet::IpNet;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout_at;

use crate::address::{self, Barred, Special};
use crate::outcome::Stage;
use crate::target::{Host, Target};
use crate::tunnel::wire::tls::TlsWire;
pub(crate) use answer::{dechunked, printable, without_tags};
use connect_to::ConnectTo;
use dialer::{DialError, dial};
use failure::{Failure, ParentError};
use own::Own;
use parent::Parent;
use resolver::{Addresses, ResolveError, Resolver, Rest};
use url::ParentUrl;
use within::{Guard, Within};

/// The section `[egress]` in force, with the resolver.
pub(crate) struct Egress {
    pub resolver: Resolver,
    pub connect_timeout: Duration,
    pub source_address: Vec<IpAddr>,
    pub allow_private: Vec<IpNet>,
    pub connect_to: ConnectTo,
    pub(crate) parent: Option<Parent>,
    pub(crate) ranges: Guard,
}

/// A connection that leads to a target.
pub(crate) enum Upstream {
    /// To the target itself, or through a parent proxy.
    Tcp(TcpStream),
    /// Through a parent proxy that is spoken to over TLS.
    Tls(TlsWire),
}

/// How far an attempt has come, and how long its steps took. Filled in on the way, so that it also
/// describes an attempt that was given up.
#[derive(Debug)]
pub struct Trace {
    /// `Decide`, `Dns` or `Connect`.
    pub stage: Stage,
    /// Zero where the answer was known without asking; none where no name was looked up.
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    /// The address that took the connection; a parent's, where one is gone through.
    pub address: Option<SocketAddr>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { stage: Stage::Decide, dns: None, connect: None, address: None }
    }
}

/// Why a target is not reached.
#[derive(Debug)]
pub enum Unreached {
    Dns(ResolveError),
    /// No address of the name may be dialled. This is the reason for one of them, the most telling.
    Barred(Barred),
    /// No address of the name lies in AWS's published ranges. This is the first.
    Outside(Outside),
    /// The way leads back to this process.
    Own(Loop),
    /// Parent proxies have brought the request back here.
    Circle(Circle),
    Dial(DialError),
    Parent(Box<ParentError>),
}

impl From<ResolveError> for Unreached {
    fn from(error: ResolveError) -> Self {
        DialError::instead_of(error).map_or_else(Self::Dns, Self::Dial)
    }
}

/// An address outside AWS's published ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    pub address: IpAddr,
    /// `createDate` of the ranges.
    pub of: String,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which isn't AWS's by ip-ranges.json of {}", self.address, self.of)
    }
}

/// What an address is judged by.
struct Vet<'a> {
    within: &'a Within,
    port: u16,
    own: &'a Own,
}

/// A way that leads back to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    pub address: SocketAddr,
    pub by: Lead,
}

/// A circle of parent proxies.
#[derive(Debug)]
pub struct Circle {
    /// The next one from here.
    pub parent: ParentUrl,
    /// What those on the way call themselves, as far as they do.
    pub names: Vec<String>,
}

/// What led to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// The target's own name.
    Name,
    /// `egress.connect_to`.
    ConnectTo,
    /// `egress.proxy`.
    Parent,
}

impl Egress {
    /// Resolves, judges and dials. The address that was judged is the one that is dialled. Behind a
    /// parent proxy it is the parent's address that is dialled, and no name but its own is resolved.
    /// `within` says which addresses it may have; `via` are the proxies that the request has come through,
    /// as the field of that name says.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn reach(
        &self,
        target: &Target,
        within: &Within,
        via: Option<&str>,
        own: &Own,
        trace: &mut Trace,
    ) -> Result<Upstream, Unreached> {
        let mut parent = None;
        let mut rest = None;
        let mut one = [SocketAddr::new(IpAddr::from([0; 4]), target.port)];
        let judge = Vet { within: self.narrowed(within, &target.host), port: target.port, own };
        let addresses: Cow<'_, [SocketAddr]> = if let Some(fixed) = self.redirected(target, own)? {
            one[0] = fixed;
            Cow::Borrowed(&one)
        } else if let Some(through) = self.parent_for(&target.host) {
            if let Some(names) = via.and_then(|via| own.mark.since(via)) {
                return Err(Unreached::Circle(Circle { parent: through.url().clone(), names }));
            }
            parent = Some(through);
            let (addresses, late) = self.addresses_of(through, target, within, own, trace).await?;
            rest = late;
            Cow::Owned(addresses)
        } else {
            let found = self.resolve(&target.host, trace).await.map_err(Unreached::from)?;
            rest = found.rest;
            let found = found.known;
            let mut fit = found.iter().filter_map(|address| self.vet(*address, &judge).ok());
            match (fit.next(), found.len()) {
                (Some(only), 1) => {
                    one[0] = only;
                    Cow::Borrowed(&one)
                }
                (Some(first), _) => Cow::Owned(std::iter::once(first).chain(fit).collect()),
                (None, _) => match rest.take() {
                    None => return Err(self.why_none(&found, &judge)),
                    Some(mut rest) => {
                        let more = rest.addresses_soon().await;
                        Cow::Owned(self.fit_of(&found, &more, &judge)?)
                    }
                },
            }
        };
        trace.stage = Stage::Connect;
        let dialled = Instant::now();
        let connected = match rest {
            None => dial(&addresses, &self.source_address, self.connect_timeout).await,
            // A box, for few need this and its state is large.
            Some(rest) => Box::pin(self.dial_both(&addresses, rest, &judge, parent)).await,
        };
        trace.connect = Some(dialled.elapsed());
        let failed = |error| match parent {
            None => Unreached::Dial(error),
            Some(parent) => of(parent, Failure::Dial(error)),
        };
        let (stream, address) = connected.map_err(failed)?;
        trace.address = Some(address);
        let Some(parent) = parent else { return Ok(Upstream::Tcp(stream)) };
        let limit = parent.patience(self.connect_timeout);
        let via = own.mark.via(parent.name(), via);
        // A box, for few need this and its state is large.
        let opened = Box::pin(parent.open(stream, target, &via, (dialled + limit).into(), limit)).await;
        trace.connect = Some(dialled.elapsed());
        opened.map_err(|failure| of(parent, failure))
    }

    /// The parent proxy through which a host is reached.
    fn parent_for(&self, host: &Host) -> Option<&Parent> {
        self.parent.as_ref().filter(|parent| parent.takes(host))
    }

    /// Where to dial a parent proxy. The administrator chose it, so it may have any address except one of
    /// this process.
    async fn addresses_of(
        &self,
        parent: &Parent,
        target: &Target,
        within: &Within,
        own: &Own,
        trace: &mut Trace,
    ) -> Result<(Vec<SocketAddr>, Option<Rest>), Unreached> {
        // A target that is an address needs no resolving, so it is judged here.
        if let Host::Ip(address) = &target.host {
            self.bars(*address, within)?;
        }
        let url = parent.url();
        let found = self.resolve(&url.host, trace).await;
        let Addresses { known, rest } = found.map_err(|error| of(parent, error.into()))?;
        let all = known.iter().map(|address| SocketAddr::new(address.to_canonical(), url.port));
        let (here, there): (Vec<_>, Vec<_>) = all.partition(|address| own.is(*address));
        match here.first() {
            Some(address) if there.is_empty() => {
                Err(Unreached::Own(Loop { address: *address, by: Lead::Parent }))
            }
            _ => Ok((there, rest)),
        }
    }

    /// The addresses of the family that answered late which may be dialled, where none of the other's may.
    fn fit_of(
        &self,
        found: &[IpAddr],
        more: &[IpAddr],
        judge: &Vet<'_>,
    ) -> Result<Vec<SocketAddr>, Unreached> {
        let fit: Vec<_> = more.iter().filter_map(|address| self.vet(*address, judge).ok()).collect();
        if fit.is_empty() {
            let all: Vec<_> = found.iter().chain(more).copied().collect();
            return Err(self.why_none(&all, judge));
        }
        Ok(fit)
    }

    /// Dials the addresses of the family that answered first, and those of the other once they are
    /// known, while the former are tried or after they have failed: on an egress of one family the
    /// quick one may be the wrong one.
    async fn dial_both(
        &self,
        addresses: &[SocketAddr],
        mut rest: Rest,
        judge: &Vet<'_>,
        parent: Option<&Parent>,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let fit = |address: &IpAddr| match parent {
            None => self.vet(*address, judge).ok(),
            Some(_) => Some(SocketAddr::new(address.to_canonical(), port)).filter(|a| !judge.own.is(*a)),
        };
        let until = tokio::time::Instant::now() + self.connect_timeout;
        let mut first = std::pin::pin!(dial(addresses, &self.source_address, self.connect_timeout));
        let early = match select(first.as_mut(), std::pin::pin!(rest.addresses())).await {
            Either::Left((Err(error), _)) if !matches!(error, DialError::Exhausted(_)) => Err(error),
            Either::Left((first, _)) => return first,
            Either::Right((more, _)) => Ok(more),
        };
        let (more, failed) = match early {
            Ok(more) => (more, None),
            Err(error) => {
                let awaited = async {
                    // No way from here to this family tells nothing of the target: all depends on
                    // the other one, and glibc would not even have asked for this one (AI_ADDRCONFIG).
                    if error.is_of_this_machine() {
                        rest.addresses().await
                    } else {
                        rest.addresses_soon().await
                    }
                };
                (timeout_at(until, awaited).await.unwrap_or_default(), Some(error))
            }
        };
        let more: Vec<_> = more.iter().filter_map(fit).collect();
        let second = async {
            let dialled = dial(&more, &self.source_address, self.connect_timeout);
            timeout_at(until, dialled).await.unwrap_or(Err(DialError::Timeout(self.connect_timeout)))
        };
        match (failed, more.is_empty()) {
            (Some(error), true) => Err(error),
            (Some(error), false) => second.await.map_err(|other| error.or_better(other)),
            (None, true) => first.await,
            (None, false) => match select(first, std::pin::pin!(second)).await {
                Either::Left((Err(error), second)) if !matches!(error, DialError::Exhausted(_)) => {
                    second.await.map_err(|other| error.or_better(other))
                }
                Either::Left((first, _)) => first,
                Either::Right((Ok(connected), _)) => Ok(connected),
                Either::Right((Err(error), first)) => first.await.map_err(|e| e.or_better(error)),
            },
        }
    }

    /// Every address of a target that may be reached, judged as in [`Self::reach`], for what goes there
    /// without a connection. No parent proxy is asked, since none carries datagrams.
    ///
    /// # Errors
    /// See [`Unreached`]. Nothing is dialled.
    pub(crate) async fn addresses(
        &self,
        target: &Target,
        own: &Own,
        trace: &mut Trace,
    ) -> Result<Vec<SocketAddr>, Unreached> {
        if let Some(fixed) = self.redirected(target, own)? {
            return Ok(vec![fixed]);
        }
        let found = self.resolve(&target.host, trace).await.map_err(Unreached::from)?;
        let more = match found.rest {
            Some(mut rest) => rest.addresses().await.to_vec(),
            None => Vec::new(),
        };
        let all: Vec<IpAddr> = found.known.iter().copied().chain(more).collect();
        self.fit_of(&[], &all, &Vet { within: &Within::Public, port: target.port, own })
    }

    /// Dials a server that the administrator names, which may be anywhere: `connect_to`, else all its
    /// addresses, whatever they are. No parent proxy is asked.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn dial_unjudged(&self, target: &Target) -> Result<TcpStream, String> {
        let addresses = match self.fixed(target) {
            Some(fixed) => vec![fixed],
            None => {
                let found = self.resolve(&target.host, &mut Trace::default()).await;
                let found = found.map_err(|error| format!("DNS look-up failed: {error}"))?;
                found
                    .known
                    .iter()
                    .map(|address| SocketAddr::new(address.to_canonical(), target.port))
                    .collect()
            }
        };
        let dialled = dial(&addresses, &self.source_address, self.connect_timeout).await;
        dialled.map(|(stream, _)| stream).map_err(|error| error.to_string())
    }

    /// A socket for datagrams to one address, from `egress.source_address`: it takes in what comes from
    /// there alone.
    ///
    /// # Errors
    /// When this machine has no way there, or no socket.
    pub(crate) fn datagrams(&self, address: SocketAddr) -> Result<UdpSocket, DialError> {
        dialer::datagrams(address, &self.source_address)
    }

    /// The address that stands for a target by `egress.connect_to`, unless it leads here.
    fn redirected(&self, target: &Target, own: &Own) -> Result<Option<SocketAddr>, Unreached> {
        match self.fixed(target) {
            Some(address) if own.is(address) => Err(Unreached::Own(Loop { address, by: Lead::ConnectTo })),
            fixed => Ok(fixed),
        }
    }

    /// The address that stands for a target by `egress.connect_to`.
    pub(crate) fn fixed(&self, target: &Target) -> Option<SocketAddr> {
        self.connect_to.address_for(target)
    }

    /// What leads to a target: what [`Egress::reach`] goes by.
    pub(crate) fn lead(&self, target: &Target) -> Lead {
        match (self.connect_to.address_for(target), self.parent_for(&target.host)) {
            (Some(_), _) => Lead::ConnectTo,
            (None, Some(_)) => Lead::Parent,
            (None, None) => Lead::Name,
        }
    }

    async fn resolve(&self, host: &Host, trace: &mut Trace) -> Result<Addresses, ResolveError> {
        let name = match host {
            Host::Ip(address) => return Ok(Addresses::all(Arc::from([*address]))),
            Host::Name(name) => name,
        };
        if let Some(found) = self.resolver.cached(name) {
            trace.dns = Some(Duration::ZERO);
            return Ok(found);
        }
        trace.stage = Stage::Dns;
        let asked = Instant::now();
        let answer = self.resolver.lookup(name).await;
        trace.dns = Some(asked.elapsed());
        answer
    }

    /// Keeps private and special addresses out, where not every address may be dialled.
    fn bars(&self, address: IpAddr, within: &Within) -> Result<(), Unreached> {
        if matches!(within, Within::Anywhere) {
            return Ok(());
        }
        address::judge(address, &self.allow_private).map_err(Unreached::Barred)
    }

    /// The address to dial for one of a name's addresses, if it may be dialled.
    fn vet(&self, address: IpAddr, judge: &Vet<'_>) -> Result<SocketAddr, Unreached> {
        let Vet { within, port, own } = judge;
        self.bars(address, within)?;
        // An IPv4-mapped address is dialled as the IPv4 address that it is.
        let dialled = SocketAddr::new(address.to_canonical(), *port);
        if own.is(dialled) {
            return Err(Unreached::Own(Loop { address: dialled, by: Lead::Name }));
        }
        match within {
            Within::Ranges(current) if !current.amazon.contains(address) => {
                let of = current.version.ranges.create_date.clone();
                Err(Unreached::Outside(Outside { address: dialled.ip(), of }))
            }
            _ => Ok(dialled),
        }
    }

    /// Fixed answers are the administrator's: they may lead outside the ranges.
    fn narrowed<'a>(&self, within: &'a Within, host: &Host) -> &'a Within {
        match (within, host) {
            (Within::Ranges(_), Host::Name(name)) if self.resolver.is_fixed(name) => &Within::Public,
            _ => within,
        }
    }

    /// Whether a target was dialled at an address outside the ranges, which `policy.ranges` lets through
    /// and counts. `address` is the one that took the connection.
    pub(crate) fn strays(&self, target: &Target, address: SocketAddr) -> bool {
        let Some(current) = self.ranges.warns() else { return false };
        if current.amazon.contains(address.ip()) || self.lead(target) != Lead::Name {
            return false;
        }
        !matches!(&target.host, Host::Name(name) if self.resolver.is_fixed(name))
    }

    /// Why none of these may be dialled. A metadata service or a loop is more telling than a private
    /// address.
    fn why_none(&self, found: &[IpAddr], judge: &Vet<'_>) -> Unreached {
        let telling = |why: &Unreached| match why {
            Unreached::Barred(Barred { special: Special::Metadata, .. }) => 2,
            Unreached::Own(_) => 1,
            _ => 0,
        };
        let whys = found.iter().filter_map(|address| self.vet(*address, judge).err());
        // Of equals the first: `max_by_key` takes the last.
        let most = whys.reduce(|first, other| if telling(&other) > telling(&first) { other } else { first });
        most.unwrap_or_else(|| {
            let why = dns::NO_ADDRESS.into();
            Unreached::Dns(ResolveError::Answer { rcode: "NOERROR", why })
        })
    }
}

fn of(parent: &Parent, failure: Failure) -> Unreached {
    Unreached::Parent(Box::new(parent.error(failure)))
}
