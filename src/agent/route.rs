//! The way to a target: [`Egress`], which is the running proxy's own, or a proxy that is asked for a
//! tunnel as a browser asks for one. Both go through the same code, so that a test of the network
//! sees what a CONNECT would.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::io::{Io, boxed};
use super::way::Way;
use crate::egress::own::Own;
use crate::egress::resolver::{Fixed, ResolveError};
use crate::egress::{Egress, Lead, Trace, Unreached};
use crate::target::{Host, Target};

/// What came of looking a name up.
#[derive(Clone, Debug)]
pub(crate) struct LookedUp {
    pub took: Duration,
    pub failed: Option<ResolveError>,
}

/// A way to every target.
pub(crate) struct Route<'a> {
    egress: &'a Egress,
    own: &'a Own,
    /// Through a proxy that carries everything, in place of `egress`.
    via: Option<&'a Way>,
}

impl<'a> Route<'a> {
    /// The way of the running proxy, or of the one that would run with this configuration.
    pub(crate) fn straight(egress: &'a Egress, own: &'a Own) -> Self {
        Self { egress, own, via: None }
    }

    /// The way of a browser through a proxy, where there is one; else straight.
    pub(crate) fn via(egress: &'a Egress, own: &'a Own, via: Option<&'a Way>) -> Self {
        Self { egress, own, via }
    }

    /// Opens a way to `target`.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn open(&self, target: &Target, trace: &mut Trace) -> Result<Box<dyn Io>, Unreached> {
        self.open_as(target, false, trace).await
    }

    /// The same; `of_catalogue`: as one of AWS's own names, whose addresses `policy.ranges` judges.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn open_as(
        &self,
        target: &Target,
        of_catalogue: bool,
        trace: &mut Trace,
    ) -> Result<Box<dyn Io>, Unreached> {
        if let Some(way) = self.via {
            return way.open(target, self.own, trace).await;
        }
        let within = self.egress.ranges.within(of_catalogue);
        Box::pin(self.egress.reach(target, &within, None, self.own, trace)).await.map(boxed)
    }

    /// The way once more, to an address that it has led to before: see [`Egress::reach_again`].
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(crate) async fn open_again(
        &self,
        target: &Target,
        address: SocketAddr,
        segments: Option<u16>,
    ) -> Result<Box<dyn Io>, Unreached> {
        match self.via {
            Some(way) => way.open_again(target, address, segments, self.own).await,
            None => self.egress.reach_again(target, address, segments, self.own).await.map(boxed),
        }
    }

    /// Looks up the name of a target, where its way begins so, and says how long that took. What is
    /// known then is known to [`Self::open`].
    pub(crate) async fn look_up(&self, target: &Target) -> Option<LookedUp> {
        match &target.host {
            Host::Name(name) if self.lead(target) == Lead::Name => {
                let asked = Instant::now();
                let failed = self.egress.resolver.lookup(name).await.err();
                Some(LookedUp { took: asked.elapsed(), failed })
            }
            _ => None,
        }
    }

    /// The addresses that a name was just found to have, without asking again; none where
    /// `egress.connect_to` or a proxy takes the place of the name.
    pub(crate) fn found(&self, target: &Target) -> Vec<IpAddr> {
        match (&target.host, self.lead(target)) {
            (_, Lead::ConnectTo) => self.egress.fixed(target).iter().map(SocketAddr::ip).collect(),
            (Host::Name(name), Lead::Name) => {
                self.egress.resolver.cached(name).map_or_else(Vec::new, |found| found.known.to_vec())
            }
            _ => Vec::new(),
        }
    }

    /// Who says in place of DNS which addresses a target's name has; none where its name isn't resolved here.
    pub(crate) fn fixed_by(&self, target: &Target) -> Option<Fixed> {
        match (&target.host, self.lead(target)) {
            (Host::Name(name), Lead::Name) => self.egress.resolver.fixed_by(name),
            _ => None,
        }
    }

    /// How long DNS takes for a target's name that is asked for anew; none where nothing is asked, or no
    /// answer comes.
    pub(crate) async fn time_dns_anew(&self, target: &Target) -> Option<Duration> {
        match (&target.host, self.lead(target)) {
            (Host::Name(name), Lead::Name) => self.egress.resolver.time_anew(name).await,
            _ => None,
        }
    }

    /// Whether a proxy on the way resolves and dials.
    pub(crate) fn by_proxy(&self, target: &Target) -> bool {
        self.lead(target) == Lead::Parent
    }

    /// The way of what goes past every proxy, as media do.
    pub(crate) fn past_proxies(&self) -> (&'a Egress, &'a Own) {
        (self.egress, self.own)
    }

    /// Whether everything goes through one proxy, in the place of the desk's proxy.
    pub(crate) fn is_via(&self) -> bool {
        self.via.is_some()
    }

    fn lead(&self, target: &Target) -> Lead {
        match self.via {
            Some(_) => Lead::Parent,
            None => self.egress.lead(target),
        }
    }
}
