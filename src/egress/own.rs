//! The proxy as its own target: the addresses at which this process listens, and whether an address leads
//! there, checked before the dial by asking the kernel which addresses are this machine's; and its mark,
//! by which it knows a request of its own that other proxies bring back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::via::Mark;
use crate::address;

/// What this process knows itself by.
#[derive(Default)]
pub(crate) struct Own {
    listeners: ArcSwap<Vec<SocketAddr>>,
    pub(super) mark: Mark,
}

impl Own {
    /// Puts other addresses in force. The port of each is the real one, never 0.
    pub(crate) fn set(&self, addresses: Vec<SocketAddr>) {
        self.listeners.store(Arc::new(addresses));
    }

    /// Listeners have closed: other programs may have their addresses.
    pub(crate) fn leave(&self, closed: &[SocketAddr]) {
        let is_closed = |own: &&SocketAddr| {
            // One on all addresses of both families is here twice.
            let same = |ip: IpAddr| ip == own.ip() || ip.is_unspecified() && own.ip().is_unspecified();
            closed.iter().any(|closed| closed.port() == own.port() && same(closed.ip()))
        };
        self.listeners.rcu(|own| own.iter().filter(|own| !is_closed(own)).copied().collect::<Vec<_>>());
    }

    /// Whether a connection to `address` would end at this very process. Compares a short list, and makes
    /// system calls only where the port is one of this process.
    pub(crate) fn is(&self, address: SocketAddr) -> bool {
        let own = self.listeners.load();
        let listeners = || own.iter().filter(|listener| listener.port() == address.port());
        // First the port: mostly no listener has it.
        listeners().next().is_some()
            && address::reached_by(address.ip())
                .any(|to| listeners().any(|listener| leads(to, listener.ip())))
    }
}

/// Whether what is sent `to` an address arrives at a `listener` on the same port.
fn leads(to: IpAddr, listener: IpAddr) -> bool {
    to == listener
        // A listener on "all" has those of its family; one for both families is here twice.
        || to.is_ipv4() == listener.is_ipv4() && (to.is_unspecified() || listener.is_unspecified() && is_local(to))
}

/// Whether an address is one of this machine's.
///
/// A list of interfaces is not enough: all of 127.0.0.0/8 is local, and so is what a `local` route names.
/// Nor is a bind alone, which `net.ipv4.ip_nonlocal_bind` permits for any address. Nothing is sent.
fn is_local(address: IpAddr) -> bool {
    // Any port will do: connecting a UDP socket looks up a route and sends nothing.
    const PORT: u16 = 9;
    let asked = match address {
        // The route from an address exists only if that address is local.
        IpAddr::V4(_) => UdpSocket::bind((address, 0)).and_then(|socket| {
            socket.connect((address, PORT))?;
            Ok(true)
        }),
        // To one of its own addresses a machine sends from that very address (RFC 6724 rule 1).
        IpAddr::V6(_) => UdpSocket::bind("[::]:0").and_then(|socket| {
            socket.connect((address, PORT))?;
            Ok(socket.local_addr()?.ip() == address)
        }),
    };
    asked.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listeners: &[&str]) -> Own {
        let own = Own::default();
        own.set(listeners.iter().map(|l| l.parse().unwrap()).collect());
        own
    }

    #[test]
    fn a_listener_on_all_addresses_has_every_local_one() {
        let all = own(&["0.0.0.0:3128", "[::]:3129"]);
        for address in [
            "127.0.0.1:3128",
            "127.0.0.7:3128",
            "127.255.255.254:3128",
            "0.0.0.0:3128",
            "[::ffff:127.0.0.9]:3128",
            "[64:ff9b::127.0.0.9]:3128",
            "[2002:7f00:9::1]:3128",
            "[::1]:3129",
            "[::]:3129",
        ] {
            assert!(all.is(address.parse().unwrap()), "{address}");
        }
        for address in
            ["127.0.0.1:3127", "127.0.0.1:3129", "[::1]:3128", "192.0.2.1:3128", "[2001:db8::1]:3129"]
        {
            assert!(!all.is(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_listener_on_one_address_has_that_alone() {
        let one = own(&["127.0.0.1:3128", "192.0.2.1:443"]);
        for address in ["127.0.0.1:3128", "0.0.0.0:3128", "192.0.2.1:443", "[64:ff9b::192.0.2.1]:443"] {
            assert!(one.is(address.parse().unwrap()), "{address}");
        }
        for address in ["127.0.0.2:3128", "127.0.0.1:443", "[64:ff9b:1::1]:443"] {
            assert!(!one.is(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_has_closed_is_others() {
        let own = own(&["[::]:3128", "0.0.0.0:3128", "127.0.0.1:3129", "127.0.0.1:9090"]);
        own.leave(&["[::]:3128", "127.0.0.2:3129"].map(|closed| closed.parse().unwrap()));
        for (address, is) in [
            ("127.0.0.1:3128", false),
            ("[::1]:3128", false),
            ("127.0.0.1:3129", true),
            ("127.0.0.1:9090", true),
        ] {
            assert_eq!(own.is(address.parse().unwrap()), is, "{address}");
        }
    }

    #[test]
    fn addresses_of_interfaces_are_local() {
        // The address from which this machine would send, where it has a way out at all.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let address = socket.local_addr().unwrap().ip();
            assert!(is_local(address), "{address}");
        }
        assert!(!is_local("192.0.2.1".parse().unwrap()));
        assert!(!is_local("2001:db8::1".parse().unwrap()));
    }
}
