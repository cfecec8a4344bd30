//! A Connect region on loopback, with faults to choose: its own certificate authority, name server,
//! pages, API, WebSockets and media endpoint. For rehearsals without a network, and for tests.
//!
//! The proxy reaches all names of its list by `egress.connect_to`. The signalling of calls has hosts and
//! a port of its own, and is reached as in earnest, by DNS: so each step of it can fail.

mod authority;
mod dns;
pub(crate) mod faults;
mod socket;
mod turn;
mod web;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use hickory_proto::rr::Name;
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::policy::{Category, Protocol, Rule};
use authority::Authority;
use faults::Faults;
use web::Role;

/// Where nobody listens on the port of signalling.
const REFUSED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where the port of signalling is held by a socket whose queue is full.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A running region. It ends when it is dropped.
pub(crate) struct Region {
    code: String,
    authority: Arc<Authority>,
    faults: Arc<Faults>,
    web: SocketAddr,
    signalling: SocketAddr,
    media: SocketAddr,
    dns: SocketAddr,
    /// Holds the queue of [`SILENT`] full.
    _full: (TcpListener, TcpStream),
    _tasks: JoinSet<Infallible>,
}

impl Region {
    /// Starts the region `code`, such as `us-west-2`, on ports that the kernel chooses.
    ///
    /// # Errors
    /// When sockets or keys can't be had.
    pub(crate) async fn start(code: &str, seed: u64) -> io::Result<Self> {
        let faults = Arc::new(Faults::new(seed));
        let authority = Arc::new(Authority::new("Simulated region")?);
        let interceptor = Arc::new(Authority::new("Simulated interception")?);
        let (web_socket, signalling_socket) = (listener().await?, listener().await?);
        let (media_socket, dns_socket) = (
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        );
        let (web, signalling) = (web_socket.local_addr()?, signalling_socket.local_addr()?);
        let (media, dns) = (media_socket.local_addr()?, dns_socket.local_addr()?);
        let full = full(signalling.port()).await?;
        let zone = Name::from_ascii(format!("{}.", zone(code))).map_err(io::Error::other)?;

        let mut tasks = JoinSet::new();
        let config = authority.server()?;
        let role = Role::Signalling { intercepted: interceptor.server()? };
        let places = dns::Places { open: Ipv4Addr::LOCALHOST, refused: REFUSED, silent: SILENT };
        tasks.spawn(web::serve(web_socket, config.clone(), Role::Web, faults.clone()));
        tasks.spawn(web::serve(signalling_socket, config, role, faults.clone()));
        tasks.spawn(dns::serve(dns_socket, zone, places, faults.clone()));
        tasks.spawn(turn::serve(media_socket, media, faults.clone()));
        Ok(Self {
            code: code.to_owned(),
            authority,
            faults,
            web,
            signalling,
            media,
            dns,
            _full: full,
            _tasks: tasks,
        })
    }

    /// What goes wrong; may be changed at any time.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The certificate of its authority, as PEM.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    /// A certificate of its authority for a name, and its key, as PEM.
    ///
    /// # Errors
    /// When no certificate can be for such a name.
    pub(crate) fn certificate(&self, name: &str) -> io::Result<(String, String)> {
        self.authority.leaf(name)
    }

    /// The signalling address of a call; each `call` (a DNS label) has a host of its own.
    pub(crate) fn url(&self, call: &str) -> String {
        format!("wss://{}:{}/", host(call, &self.code), self.signalling.port())
    }

    /// The configuration, in TOML, by which a proxy reaches this region; `connect` is its section of that name, whole,
    /// and `rules` is the list that it resolves to.
    ///
    /// # Errors
    /// When it can't be written as TOML, which no rule brings about.
    pub(crate) fn configuration(
        &self,
        connect: &toml::Table,
        rules: &[Rule],
    ) -> Result<String, toml::ser::Error> {
        let mut connect_to = BTreeMap::new();
        for rule in rules {
            let to = match rule.protocol {
                Protocol::Tcp => self.web,
                Protocol::Udp => self.media,
            };
            for port in &rule.ports {
                connect_to.insert(format!("{}:{port}", rule.pattern.as_str()), to);
            }
        }
        toml::to_string(&Configuration {
            connect,
            allow: [host(CALL, &self.code), format!("*.{}", zone(&self.code))].map(|pattern| Allow {
                pattern,
                ports: [self.signalling.port()],
                category: Category::Signalling.as_str(),
            }),
            dns: Dns { servers: [self.dns] },
            egress: Egress { allow_private: ["127.0.0.0/8"], connect_to },
        })
    }
}

/// The hosts of the calls' signalling are below it. It lies below a documented name, so that a host of it
/// reads like one of AWS's, and is none of theirs.
fn zone(region: &str) -> String {
    format!("{ZONE}{region}.amazonaws.com")
}

fn host(call: &str, region: &str) -> String {
    format!("{call}.{}", zone(region))
}

/// The call whose host is on the list by its own name: so `check`, which can't guess what lies under a
/// wildcard, tests the signalling as well, and finds what goes wrong there.
pub(crate) const CALL: &str = "call";

/// How it begins.
const ZONE: &str = "simulated.transport.connect.";

/// The host of call `number`, where `host` is that of a call in a simulated region: each has its own, so that
/// what goes wrong with a name hits one call, however many there are.
pub(crate) fn host_of_call(host: &str, number: u32) -> Option<String> {
    let (call, zone) = host.split_once('.')?;
    zone.starts_with(ZONE).then(|| format!("{call}-{number}.{zone}"))
}

async fn listener() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // A shift begins with thousands of connections at once.
    socket.listen(4096)
}

/// A listener that takes no connection: its queue of one is full.
async fn full(port: u16) -> io::Result<(TcpListener, TcpStream)> {
    let socket = TcpSocket::new_v4()?;
    let address = SocketAddrV4::new(SILENT, port);
    socket.bind(address.into())?;
    let listener = socket.listen(0)?;
    let queued = TcpStream::connect(address).await?;
    Ok((listener, queued))
}

#[derive(Serialize)]
struct Configuration<'a> {
    connect: &'a toml::Table,
    allow: [Allow; 2],
    dns: Dns,
    egress: Egress,
}

#[derive(Serialize)]
struct Allow {
    pattern: String,
    ports: [u16; 1],
    category: &'static str,
}

#[derive(Serialize)]
struct Dns {
    servers: [SocketAddr; 1],
}

#[derive(Serialize)]
struct Egress {
    allow_private: [&'static str; 1],
    connect_to: BTreeMap<String, SocketAddr>,
}
