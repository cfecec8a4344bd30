//! The desk check: what an agent's own browser is asked to try, and what its answers mean beside what the
//! proxy saw of it. Pure: no request is read here and nothing is kept.
//!
//! [`plan`] says what to try; [`page`] is what the browser gets, with all words from one table, [`texts`];
//! [`report`] is what it sends back, of which nothing is trusted; [`judge`] makes a verdict.

pub mod judge;
pub mod page;
pub mod plan;
pub mod report;
pub mod texts;

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::cause::{Cause, Owner};

/// The path of the page.
pub const PAGE: &str = "/check";
/// Where the page reports to.
pub const REPORT: &str = "/check/report";

/// What came of a check.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, VariantArray, IntoStaticStr, EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Verdict {
    Ok,
    /// A listed host isn't asked for through this proxy.
    NotThroughProxy,
    /// The desk can't look up the name of a media endpoint.
    TurnDns,
    /// A media endpoint doesn't answer over UDP.
    UdpBlocked,
    /// The browser tries no media endpoint at all.
    BrowserPolicy,
    /// A host that is asked for through this proxy isn't reached.
    CategoryUnreachable,
}

impl Verdict {
    /// The word in metrics, log and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whose turn it is.
    #[must_use]
    pub fn owner(self) -> Option<Owner> {
        match self {
            Self::Ok => None,
            Self::NotThroughProxy => Some(Cause::PacMissing.about().owner),
            Self::TurnDns => Some(Owner::Network),
            Self::UdpBlocked => Some(Cause::UdpBlocked.about().owner),
            Self::BrowserPolicy => Some(Owner::Desk),
            Self::CategoryUnreachable => Some(Owner::Network),
        }
    }

    /// What the owner does about it; in the words of the table of causes where it has the same cause.
    #[must_use]
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Ok => None,
            Self::NotThroughProxy => Some(Cause::PacMissing.about().remedy),
            Self::TurnDns => Some(
                "let the desks' own resolver look up *.elb.amazonaws.com: media goes past the proxy, so that \
                 the desk resolves these names itself",
            ),
            Self::UdpBlocked => Some(Cause::UdpBlocked.about().remedy),
            Self::BrowserPolicy => Some(
                "set the browser policy WebRtcIPHandling (Edge: WebRtcLocalhostIpHandling) to anything but \
                 disable_non_proxied_udp; in Firefox media.peerconnection.enabled must be true and \
                 media.peerconnection.ice.proxy_only false",
            ),
            Self::CategoryUnreachable => Some(
                "look what the proxy saw of these hosts (ccpgate tunnels --client ADDRESS), then run: ccpgate check",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_but_ok_has_an_owner_and_a_remedy() {
        for verdict in Verdict::VARIANTS {
            let is_bad = *verdict != Verdict::Ok;
            assert_eq!(verdict.owner().is_some(), is_bad, "{verdict:?}");
            assert_eq!(verdict.remedy().is_some(), is_bad, "{verdict:?}");
        }
    }
}
