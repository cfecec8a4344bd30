//! What browsers speak to the proxy.

use serde::Serialize;

use crate::agent::way::Way;
use crate::egress::Egress;

/// What browsers speak to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS: one connection for all tunnels of an agent.
    H2,
}

impl Over {
    /// The way of a browser through the proxy of `egress`.
    pub(super) fn way(self, egress: Egress) -> Way {
        match self {
            Self::Plain | Self::Tls => Way::each(egress),
            Self::H2 => Way::as_browsers_do(egress),
        }
    }
}
