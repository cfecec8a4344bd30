//! What goes to its target without a parent proxy: datagrams, and a connection to a server that the
//! administrator names.

use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, UdpSocket};

use super::dialer::{self, DialError, dial};
use super::own::Own;
use super::unreached::Unreached;
use super::vet::Vet;
use super::within::Within;
use super::{Egress, Trace};
use crate::target::Target;

impl Egress {
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
        self.fit_of(&[], &all, &Vet { host: &target.host, within: &Within::Public, port: target.port, own })
    }

    /// Dials a server that the administrator names, which may be anywhere: `connect_to`, else all its
    /// addresses, whatever they are. No parent proxy is asked.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn dial_unjudged(&self, target: &Target) -> Result<TcpStream, String> {
        let dial = async |addresses: &[SocketAddr]| {
            let dialled = dial(addresses, &self.source_address, self.connect_timeout).await;
            dialled.map(|(stream, _)| stream)
        };
        if let Some(fixed) = self.fixed(target) {
            return dial(&[fixed]).await.map_err(|error| error.to_string());
        }
        let found = self.resolve(&target.host, &mut Trace::default()).await;
        let found = found.map_err(|error| format!("DNS look-up failed: {error}"))?;
        let at = |addresses: &[IpAddr]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| SocketAddr::new(address.to_canonical(), target.port)).collect()
        };
        let dialled = match (dial(&at(&found.known)).await, found.rest) {
            // On an egress of one family the quick one may be the wrong one.
            (Err(error), Some(mut rest)) => match &at(&rest.addresses().await)[..] {
                [] => Err(error),
                more => dial(more).await.map_err(|other| error.or_better(other)),
            },
            (dialled, _) => dialled,
        };
        dialled.map_err(|error| error.to_string())
    }

    /// A socket for datagrams to one address, from `egress.source_address`: it takes in what comes from
    /// there alone.
    ///
    /// # Errors
    /// When this machine has no way there, or no socket.
    pub(crate) fn datagrams(&self, address: SocketAddr) -> Result<UdpSocket, DialError> {
        dialer::datagrams(address, &self.source_address)
    }

    /// Whether this machine has a route and an address of its own for this one. Nothing is sent.
    pub(crate) fn has_way_to(&self, address: SocketAddr) -> bool {
        !matches!(self.datagrams(address), Err(DialError::Unreachable(..)))
    }
}
