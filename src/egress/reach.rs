//! The way of a tunnel to its target: what leads there, which of its addresses may be dialled, the dial
//! itself, and what a parent proxy answers.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use futures_util::future::{Either, select};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::dialer::{DialError, dial, dial_again};
use super::failure::Failure;
use super::own::Own;
use super::parent::Parent;
use super::resolver::{Addresses, Rest};
use super::unreached::{Circle, Lead, Loop, Unreached};
use super::vet::Vet;
use super::within::Within;
use super::{Egress, Trace, Upstream};
use crate::outcome::Stage;
use crate::target::{Host, Target};

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
        let within_of = self.narrowed(within, &target.host);
        let judge = Vet { host: &target.host, within: within_of, port: target.port, own };
        let addresses: Cow<'_, [SocketAddr]> = if let Some(fixed) = self.redirected(target, own)? {
            one[0] = fixed;
            Cow::Borrowed(&one)
        } else if let Some(through) = self.parent_for(&target.host) {
            if let Some(names) = via.and_then(|via| own.mark.since(via)) {
                return Err(Unreached::Circle(Circle { parent: through.url().clone(), names }));
            }
            // A target that is an address needs no resolving, so it is judged here.
            if let Host::Ip(address) = &target.host {
                self.bars(*address, within)?;
            }
            parent = Some(through);
            let (addresses, late) = self.addresses_of(through, own, trace).await?;
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
            Some(parent) => parent.unreached(Failure::Dial(error)),
        };
        let (stream, address) = connected.map_err(failed)?;
        trace.address = Some(address);
        let Some(parent) = parent else { return Ok(Upstream::Tcp(stream)) };
        // A box, for few need this and its state is large.
        let opened = Box::pin(self.through(parent, stream, target, via, own, dialled)).await;
        trace.connect = Some(dialled.elapsed());
        opened
    }

    /// Goes where [`Self::reach`] has led before: to an address that it judged then, in `segments` of at most
    /// so many bytes both ways; none: as large as any.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn reach_again(
        &self,
        target: &Target,
        address: SocketAddr,
        segments: Option<u16>,
        own: &Own,
    ) -> Result<Upstream, Unreached> {
        let parent = self.parent_for(&target.host).filter(|_| self.lead(target) == Lead::Parent);
        let dialled = Instant::now();
        let stream = dial_again(address, &self.source_address, self.connect_timeout, segments).await;
        match parent {
            None => stream.map(Upstream::Tcp).map_err(Unreached::Dial),
            Some(parent) => {
                let stream = stream.map_err(|error| parent.unreached(Failure::Dial(error)))?;
                self.through(parent, stream, target, None, own, dialled).await
            }
        }
    }

    /// Asks a parent proxy for a tunnel, by a connection that was begun at `dialled`.
    async fn through(
        &self,
        parent: &Parent,
        stream: TcpStream,
        target: &Target,
        via: Option<&str>,
        own: &Own,
        dialled: Instant,
    ) -> Result<Upstream, Unreached> {
        let limit = parent.patience(self.connect_timeout);
        let via = own.mark.via(parent.name(), via);
        let opened = parent.open(stream, target, &via, (dialled + limit).into(), limit).await;
        opened.map_err(|failure| parent.unreached(failure))
    }

    /// A connection to a parent proxy of which nothing is asked yet, for many tunnels.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn dial_parent(&self, parent: &Parent, own: &Own) -> Result<TcpStream, Unreached> {
        let (addresses, rest) = self.addresses_of(parent, own, &mut Trace::default()).await?;
        let url = parent.url();
        let judge = Vet { within: &Within::Anywhere, host: &url.host, port: url.port, own };
        let connected = match rest {
            None => dial(&addresses, &self.source_address, self.connect_timeout).await,
            Some(rest) => Box::pin(self.dial_both(&addresses, rest, &judge, Some(parent))).await,
        };
        connected.map(|(stream, _)| stream).map_err(|error| parent.unreached(Failure::Dial(error)))
    }

    /// Where to dial a parent proxy. The administrator chose it, so it may have any address except one of
    /// this process.
    async fn addresses_of(
        &self,
        parent: &Parent,
        own: &Own,
        trace: &mut Trace,
    ) -> Result<(Vec<SocketAddr>, Option<Rest>), Unreached> {
        let url = parent.url();
        let found = self.resolve(&url.host, trace).await;
        let Addresses { known, rest } = found.map_err(|error| parent.unreached(error.into()))?;
        let all = known.iter().map(|address| SocketAddr::new(address.to_canonical(), url.port));
        let (here, there): (Vec<_>, Vec<_>) = all.partition(|address| own.is(*address));
        match here.first() {
            Some(address) if there.is_empty() => {
                Err(Unreached::Own(Loop { address: *address, by: Lead::Parent }))
            }
            _ => Ok((there, rest)),
        }
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
            timeout_at(until, dialled)
                .await
                .unwrap_or_else(|_| Err(DialError::timeout(self.connect_timeout, &more)))
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
}
