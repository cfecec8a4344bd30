//! The proxies that `--via` leads to, ccpgate itself where that fits.

use std::io::{Read, Write};
use std::net::SocketAddr;

use toml::Table;

use super::file::{Place, Via};
use super::network::{Held, Network, merge};
use super::{hostile, namespace};
use crate::support::{Proxy, Raw, Refusing, Upstream};

impl Network {
    /// Starts it, and says where it listens.
    pub(super) fn proxy(&mut self, via: Via, place: Place) -> SocketAddr {
        let with = |text: &str| {
            let mut config: Table = self.asked.config.parse().unwrap();
            merge(&mut config, text.parse().unwrap());
            config.to_string()
        };
        let upstream = match via {
            Via::Down => {
                let refusing = Refusing::new();
                let address = refusing.address();
                self.held.push(Held::Refusing(refusing));
                return address;
            }
            Via::Silent => Upstream::recorder(),
            Via::Hostile => Upstream::serve(hostile::proxy),
            Via::Password => Upstream::serve(|mut stream| {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\n\
                      Proxy-Authenticate: NTLM\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }),
            Via::Open if place == Place::Far => {
                namespace::own([15, 193, 7, 9].into());
                let here = "proxy.listen = [\"15.193.7.9:3128\"]\nproxy.clients = [\"198.18.0.1\"]";
                return self.ccpgate(&with(here));
            }
            Via::Open => return self.ccpgate(&self.asked.config.clone()),
            Via::Denies => {
                return self
                    .ccpgate(&with("connect.regions = [\"eu-central-1\"]\nconnect.instances = [\"other\"]"));
            }
            Via::Full => {
                let address = self.ccpgate(&with("limits.connections = 1"));
                let mut client = Raw::connect(address);
                // Counted once it has been answered.
                client.send("GET /readyz HTTP/1.1\r\nHost: proxy\r\n\r\n");
                assert_eq!(client.read_answer().status, 200);
                self.clients.push(client);
                return address;
            }
        };
        let address = upstream.address();
        self.held.push(Held::Upstream(upstream));
        address
    }

    fn ccpgate(&mut self, config: &str) -> SocketAddr {
        let proxy = Proxy::start(config);
        let address = proxy.http();
        self.proxies.push(proxy);
        address
    }
}
