//! What leads to a target: `egress.connect_to`, else a parent proxy, else its own name, which is resolved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::own::Own;
use super::parent::Parent;
use super::resolver::{Addresses, ResolveError};
use super::unreached::{Lead, Loop, Unreached};
use super::{Egress, Trace};
use crate::outcome::Stage;
use crate::target::{Host, Target};

impl Egress {
    /// What leads to a target: what [`Egress::reach`] goes by.
    pub(crate) fn lead(&self, target: &Target) -> Lead {
        match (self.connect_to.address_for(target), self.parent_for(&target.host)) {
            (Some(_), _) => Lead::ConnectTo,
            (None, Some(_)) => Lead::Parent,
            (None, None) => Lead::Name,
        }
    }

    /// The address that stands for a target by `egress.connect_to`.
    pub(crate) fn fixed(&self, target: &Target) -> Option<SocketAddr> {
        self.connect_to.address_for(target)
    }

    /// The address that stands for a target by `egress.connect_to`, unless it leads here.
    pub(super) fn redirected(&self, target: &Target, own: &Own) -> Result<Option<SocketAddr>, Unreached> {
        match self.fixed(target) {
            Some(address) if own.is(address) => Err(Unreached::Own(Loop { address, by: Lead::ConnectTo })),
            fixed => Ok(fixed),
        }
    }

    /// The parent proxy through which a host is reached.
    pub(super) fn parent_for(&self, host: &Host) -> Option<&Parent> {
        self.parent.as_ref().filter(|parent| parent.takes(host))
    }

    pub(super) async fn resolve(&self, host: &Host, trace: &mut Trace) -> Result<Addresses, ResolveError> {
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
}
