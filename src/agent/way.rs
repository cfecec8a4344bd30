//! How a browser gets through a proxy: with a connection for each tunnel, or with one for all. It offers both to a
//! proxy that it speaks TLS with, and does what that chooses.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::h2::{Proxy, Shared, Stream};
use super::io::{Io, boxed};
use crate::egress::connect_to::ConnectTo;
use crate::egress::failure::Failure;
use crate::egress::own::Own;
use crate::egress::parent::Parent;
use crate::egress::within::{Guard, Within};
use crate::egress::{Egress, Trace, Unreached};
use crate::outcome::Stage;
use crate::target::Target;

/// The way through a proxy that resolves the names. `egress` says how its own name is resolved and its
/// address dialled.
pub(crate) fn through(egress: &Egress, proxy: Parent) -> Egress {
    Egress {
        resolver: egress.resolver.clone(),
        connect_timeout: egress.connect_timeout,
        source_address: egress.source_address.clone(),
        allow_private: egress.allow_private.clone(),
        connect_to: ConnectTo::from_iter([]),
        parent: Some(proxy),
        ranges: Guard::off(),
    }
}

/// The way of one browser.
pub(crate) struct Way {
    /// Made by [`through`].
    egress: Arc<Egress>,
    /// Its one connection, where it would have one.
    shared: Option<Shared>,
    /// Whether the proxy speaks HTTP/2, once this browser knows.
    spoken: OnceCell<bool>,
    /// The same, once any browser of this way knows. None of them waits for another one that asks.
    known: Arc<OnceLock<bool>>,
}

impl Way {
    /// With a connection for each tunnel, by HTTP/1.1.
    pub(crate) fn each(egress: Egress) -> Self {
        Self { egress: Arc::new(egress), shared: None, spoken: OnceCell::new(), known: Arc::default() }
    }

    /// With one connection for all tunnels where the proxy speaks HTTP/2, which browsers offer over TLS alone.
    pub(crate) fn as_browsers_do(egress: Egress) -> Self {
        let shared = egress.parent.as_ref().and_then(Shared::new);
        Self { egress: Arc::new(egress), shared, spoken: OnceCell::new(), known: Arc::default() }
    }

    /// The way of another browser, which knows what the proxy speaks from this one.
    pub(crate) fn another(&self) -> Self {
        let shared = self.shared.as_ref().map(Shared::another);
        let spoken = OnceCell::new_with(self.known.get().copied());
        Self { egress: self.egress.clone(), shared, spoken, known: self.known.clone() }
    }

    /// Finds out what the proxy speaks, for all browsers of this way, by a connection that nothing else goes over.
    /// Where that fails, each of them meets what is wrong by itself.
    pub(crate) async fn ask(&self, own: &Own) {
        let egress = &*self.egress;
        let (Some(shared), Some(parent)) = (&self.shared, &egress.parent) else { return };
        let proxy = Proxy { egress, parent, own };
        if let Ok(Ok(spoken)) =
            timeout(parent.patience(egress.connect_timeout), shared.is_spoken(&proxy)).await
        {
            let _ = self.known.set(spoken);
        }
        shared.leave().await;
    }

    /// What the proxy chose to speak; none where it had no choice, or has not answered.
    pub(crate) fn protocol(&self) -> Option<&'static str> {
        self.known.get().map(|http2| if *http2 { "HTTP/2" } else { "HTTP/1.1" })
    }

    /// A tunnel to `target`.
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(super) async fn open(
        &self,
        target: &Target,
        own: &Own,
        trace: &mut Trace,
    ) -> Result<Box<dyn Io>, Unreached> {
        let egress = &*self.egress;
        if let (Some(shared), Some(parent)) = (&self.shared, &egress.parent) {
            let (proxy, limit) = (Proxy { egress, parent, own }, parent.patience(egress.connect_timeout));
            trace.stage = Stage::Connect;
            let asked = Instant::now();
            let opened = timeout(limit, Box::pin(self.open_shared(shared, &proxy, target))).await;
            trace.connect = Some(asked.elapsed());
            let silent = |_| Err(parent.unreached(Failure::Silent(limit)));
            if let Some(stream) = opened.unwrap_or_else(silent)? {
                return Ok(Box::new(stream));
            }
        }
        Box::pin(egress.reach(target, &Within::Public, None, own, trace)).await.map(boxed)
    }

    /// A tunnel by a connection of its own to an address that the proxy was found at: see [`Egress::reach_again`].
    ///
    /// # Errors
    /// See [`Unreached`].
    pub(super) async fn open_again(
        &self,
        target: &Target,
        address: SocketAddr,
        segments: Option<u16>,
        own: &Own,
    ) -> Result<Box<dyn Io>, Unreached> {
        self.egress.reach_again(target, address, segments, own).await.map(boxed)
    }

    /// None: the proxy speaks HTTP/1.1.
    async fn open_shared(
        &self,
        shared: &Shared,
        proxy: &Proxy<'_>,
        target: &Target,
    ) -> Result<Option<Stream>, Unreached> {
        // The first of a browser's tunnels asks, with the connection that they need anyway.
        let spoken = *self.spoken.get_or_try_init(|| shared.is_spoken(proxy)).await?;
        let _ = self.known.set(spoken);
        match spoken {
            true => shared.open(proxy, target).await.map(Some),
            false => Ok(None),
        }
    }

    /// Keeps no connection, but all sessions.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            shared.leave().await;
        }
    }
}
