//! Which of a name's addresses may be dialled, and why none may.

use std::net::{IpAddr, SocketAddr};

use super::Egress;
use super::dns::NO_ADDRESS;
use super::own::Own;
use super::resolver::ResolveError;
use super::unreached::{Lead, Loop, Outside, Unreached};
use super::within::Within;
use crate::address::{self, Barred, Special};
use crate::target::{Host, Target};

/// What an address is judged by.
pub(super) struct Vet<'a> {
    /// Whose address it is.
    pub host: &'a Host,
    pub within: &'a Within,
    pub port: u16,
    pub own: &'a Own,
}

impl Egress {
    /// Fixed answers are the administrator's: they may lead outside the ranges.
    pub(super) fn narrowed<'a>(&self, within: &'a Within, host: &Host) -> &'a Within {
        match (within, host) {
            (Within::Ranges(_), Host::Name(name)) if self.resolver.fixed_by(name).is_some() => {
                &Within::Public
            }
            _ => within,
        }
    }

    /// The address to dial for one of a name's addresses, if it may be dialled.
    pub(super) fn vet(&self, address: IpAddr, judge: &Vet<'_>) -> Result<SocketAddr, Unreached> {
        let Vet { within, port, own, .. } = judge;
        self.bars(address, within)?;
        // An IPv4-mapped address is dialled as the IPv4 address that it is.
        let dialled = SocketAddr::new(address.to_canonical(), *port);
        if own.is(dialled) {
            return Err(Unreached::Own(Loop { address: dialled, by: Lead::Name }));
        }
        match within {
            Within::Ranges(current) if !current.amazon.is_led_to_by(address, &self.allow_private) => {
                let of = current.version.ranges.create_date.clone();
                Err(Unreached::Outside(Outside { address: dialled.ip(), of }))
            }
            _ => Ok(dialled),
        }
    }

    /// Whether a target is itself an address that may not be dialled.
    pub(crate) fn bars_target(&self, target: &Target) -> bool {
        let Host::Ip(address) = target.host else { return false };
        self.fixed(target).is_none() && self.bars(address, &Within::Public).is_err()
    }

    /// Keeps private and special addresses out, where not every address may be dialled.
    pub(super) fn bars(&self, address: IpAddr, within: &Within) -> Result<(), Unreached> {
        if matches!(within, Within::Anywhere) {
            return Ok(());
        }
        address::judge(address, &self.allow_private).map_err(|barred| Unreached::Barred(barred, None))
    }

    /// The addresses of the family that answered late which may be dialled, where none of the other's may.
    pub(super) fn fit_of(
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

    /// Why none of these may be dialled. A metadata service or a loop is more telling than a private
    /// address.
    pub(super) fn why_none(&self, found: &[IpAddr], judge: &Vet<'_>) -> Unreached {
        let telling = |why: &Unreached| match why {
            Unreached::Barred(Barred { special: Special::Metadata, .. }, _) => 2,
            Unreached::Own(_) => 1,
            _ => 0,
        };
        let whys = found.iter().filter_map(|address| self.vet(*address, judge).err());
        // Of equals the first: `max_by_key` takes the last.
        let most = whys.reduce(|first, other| if telling(&other) > telling(&first) { other } else { first });
        match (most, judge.host) {
            (Some(Unreached::Barred(barred, _)), Host::Name(name)) => {
                Unreached::Barred(barred, self.resolver.fixed_by(name))
            }
            (Some(why), _) => why,
            (None, _) => {
                let why = NO_ADDRESS.into();
                Unreached::Dns(ResolveError::Answer { rcode: "NOERROR", why })
            }
        }
    }

    /// Whether a target was dialled at an address outside the ranges, which `policy.ranges` lets through
    /// and counts. `address` is the one that took the connection.
    pub(crate) fn strays(&self, target: &Target, address: SocketAddr) -> bool {
        let Some(current) = self.ranges.warns() else { return false };
        let inside = current.amazon.is_led_to_by(address.ip(), &self.allow_private);
        if inside || self.lead(target) != Lead::Name {
            return false;
        }
        !matches!(&target.host, Host::Name(name) if self.resolver.fixed_by(name).is_some())
    }
}
