//! How a browser gets through the proxy: with a connection for each tunnel, or with one for all.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::Office;
use crate::agent::h2::Shared;
use crate::agent::route::{self, Io, Route};
use crate::agent::tls;
use crate::egress::parent::Parent;
use crate::egress::{Egress, Trace};
use crate::target::Target;

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

/// The way of one browser. The sessions with the proxy are its own.
pub(super) enum Way {
    Each(Box<Egress>),
    Shared(Box<Shared>),
}

impl Way {
    /// From the address `own`; `patience` is for the proxy's answer.
    ///
    /// # Errors
    /// In words, when it can't be made.
    pub(super) fn new(office: &Office, own: IpAddr, patience: Duration) -> Result<Self, String> {
        let (proxy, roots) = (&office.proxy, office.roots.clone());
        let parent = Parent::given(proxy.clone(), None, roots.clone(), patience)?;
        let egress = Egress { source_address: vec![own], ..route::through(&office.egress, parent) };
        Ok(match office.plan.over {
            Over::Plain | Over::Tls => Self::Each(Box::new(egress)),
            Over::H2 => {
                let target = Target { host: proxy.host.clone(), port: proxy.port };
                Self::Shared(Box::new(Shared::new(egress, target, tls::browser(roots, b"h2")?)?))
            }
        })
    }

    /// A tunnel to `target`.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn open(&self, office: &Office, target: &Target) -> Result<Box<dyn Io>, String> {
        match self {
            Self::Each(egress) => {
                let route = Route::via(&office.egress, &office.own, Some(egress));
                let opened = route.open(target, &mut Trace::default()).await;
                opened.map_err(|why| format!("{}: {why:?}", why.cause().as_str()))
            }
            Self::Shared(shared) => Ok(Box::new(shared.open(target).await?)),
        }
    }

    /// Keeps no connection, but all sessions.
    pub(super) async fn leave(&self) {
        if let Self::Shared(shared) = self {
            shared.leave().await;
        }
    }
}
