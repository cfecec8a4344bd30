//! Builds the network of a fault: its servers, the configuration that leads to them, the arguments of
//! `check`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use toml::{Table, Value};

use super::file::{Fault, Media, Mood, Place, Site, Tcp, Tls, Udp, is};
use super::identity::Identity;
use super::media::{MediaServer, refusing};
use super::{hostile, namespace, site};
use crate::support::{Authority, Blackhole, Dns, Proxy, Raw, Refusing, Reply, Upstream, ccpgate};

/// The names that the panel needs, as far as one pattern holds them together.
const HOSTS: [&str; 11] = [
    "*.amazonaws.com",
    "*.cloudfront.net",
    "*.aws.amazon.com",
    "signin.aws.amazon.com",
    "*.signin.aws",
    "*.static.connect.aws",
    "*.my.connect.aws",
    "tools.connect.aws",
    "*.awsapps.com",
    "*.a2z.com",
    "*.connect.aws",
];
const MEDIA: &str = "*.elb.us-west-2.amazonaws.com";
const OTHER_MEDIA: &str = "*.elb.eu-central-1.amazonaws.com";
/// Where the network stands in a namespace: in the range that AWS publishes for Oregon, so that nothing
/// has to be allowed.
const NETWORK: [u8; 3] = [15, 193, 7];
/// In a namespace without free ports; the kernel's own default begins where these end.
const PORTS: std::ops::RangeInclusive<u16> = 32000..=32099;

/// How a program asks a network: with what.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) config: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) folder: PathBuf,
    /// Where `--via` leads.
    pub(super) via: Option<SocketAddr>,
}

/// A network that runs, until this is dropped.
pub(super) struct Network {
    pub(super) asked: Asked,
    _folder: TempDir,
    /// Before the servers, which are woken by a connection to end.
    _ports: Vec<TcpListener>,
    _dns: Dns,
    pub(super) held: Vec<Held>,
    pub(super) proxies: Vec<Proxy>,
    pub(super) clients: Vec<Raw>,
}

/// What lives as long as the network.
#[expect(dead_code, reason = "held for what their end would end")]
pub(super) enum Held {
    Upstream(Upstream),
    Blackhole(Blackhole),
    Refusing(Refusing),
    Media(MediaServer),
    Udp(UdpSocket),
}

impl Network {
    /// Builds it; for a namespace the thread must be in one already.
    pub(super) fn build(fault: &Fault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let public = Arc::new(Authority::new());
        let dns = match fault.place {
            Place::Loopback | Place::Namespace => Dns::start(),
            Place::Far => {
                let [a, b, c] = NETWORK;
                let address = Ipv4Addr::new(a, b, c, 53);
                namespace::own(address.into());
                Dns::start_at((address, 53).into())
            }
        };
        let mut building = Building {
            fault,
            dns: &dns,
            public: public.clone(),
            held: Vec::new(),
            connect_to: Table::new(),
            environment: Vec::new(),
            folder: folder.path().to_owned(),
        };
        building.name_server();
        building.sites();
        building.media();
        let mut config = building.config();
        merge(&mut config, fault.config.clone());
        let (mut held, environment) = (building.held, building.environment);
        let config = config.to_string();

        write(&folder, "check.toml", &config);
        let mut arguments = vec!["--ca".to_owned(), write(&folder, "public.pem", &public.pem())];
        for argument in &fault.arguments {
            arguments.push(if argument == "{control}" {
                let control = MediaServer::start((Ipv4Addr::LOCALHOST, 0).into(), Udp::Open);
                let address = control.address();
                held.push(Held::Media(control));
                address.to_string()
            } else {
                argument.clone()
            });
        }
        if let Some(of) = &fault.pac {
            let mut other: Table = config.parse().unwrap();
            merge(&mut other, of.clone());
            let pac = ccpgate(Some(&other.to_string()), &["pac"]).expect(0).stdout;
            arguments.extend(["--pac".to_owned(), write(&folder, "proxy.pac", &pac)]);
        }
        let mut network = Self {
            asked: Asked { config, arguments, environment, folder: folder.path().to_owned(), via: None },
            _folder: folder,
            _ports: Vec::new(),
            _dns: dns,
            held,
            proxies: Vec::new(),
            clients: Vec::new(),
        };
        if let Some(via) = fault.via {
            let address = network.proxy(via, fault.place);
            network.asked.via = Some(address);
            network.asked.arguments.extend(["--via".to_owned(), format!("http://{address}")]);
        }
        if fault.no_ports {
            // After all servers, which want ports, too.
            network._ports = use_up_ports();
        }
        network
    }
}

/// What is known of a network while it is built.
struct Building<'a> {
    fault: &'a Fault,
    dns: &'a Dns,
    public: Arc<Authority>,
    held: Vec<Held>,
    connect_to: Table,
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

impl Building<'_> {
    fn here(&self) -> bool {
        self.fault.place == Place::Loopback
    }

    fn name_server(&mut self) {
        for (name, mood) in &self.fault.dns {
            let private = || Reply::addresses(&["10.11.12.13"]);
            let reply = match mood {
                Mood::Silent => Reply::Mute,
                Mood::Nxdomain => Reply::Code(3),
                Mood::Empty => Reply::Nothing,
                Mood::Servfail => Reply::Failure,
                Mood::Refused => Reply::Refused,
                Mood::Private => private(),
                Mood::Sinkhole => Reply::addresses(&["0.0.0.0"]),
                // The addresses come with the sites.
                Mood::Slow | Mood::Good => continue,
            };
            if name == "*" {
                self.dns.set_otherwise(reply);
            } else {
                self.dns.set(&name.to_ascii_lowercase(), reply);
            }
        }
    }

    fn sites(&mut self) {
        let mut sites = self.fault.site.clone();
        if !sites.iter().any(|site| site.hosts.is_empty()) {
            sites.push(Site::default());
        }
        let port = 443;
        for (number, site) in sites.into_iter().enumerate() {
            let hosts = match &site.hosts[..] {
                [] => HOSTS.map(str::to_owned).to_vec(),
                some => some.to_vec(),
            };
            let address = match self.fault.ipv6 {
                false => self.address(10 + number, port),
                true => (Ipv6Addr::new(0x2600, 0x1f14, 7, 0, 0, 0, 0, 10 + number as u16), port).into(),
            };
            let address = self.site(address, site);
            self.lead(&hosts, port, &[address]);
        }
    }

    fn site(&mut self, address: SocketAddr, site: Site) -> SocketAddr {
        let here = self.here();
        let own = || {
            if !here {
                namespace::own(address.ip())
            }
        };
        match site.tcp {
            Tcp::Open | Tcp::Reset => {}
            Tcp::Refused if here => {
                let refusing = Refusing::new();
                let address = refusing.address();
                self.held.push(Held::Refusing(refusing));
                return address;
            }
            Tcp::Refused => {
                own();
                return address;
            }
            Tcp::Silent if here => {
                let hole = Blackhole::new();
                let address = hole.address();
                self.held.push(Held::Blackhole(hole));
                return address;
            }
            Tcp::Silent => {
                namespace::swallowing(v4(address));
                return address;
            }
            Tcp::Unreachable => {
                assert!(!here, "only in a namespace");
                namespace::unreachable(v4(address));
                return address;
            }
        }
        own();
        let issuer = match site.tls {
            Tls::Intercepted | Tls::Untrusted => {
                let organisation = site.issuer.as_deref().unwrap_or("Example Corporation");
                Arc::new(Authority::called(Some(organisation), "Example TLS Inspection CA"))
            }
            _ => self.public.clone(),
        };
        if site.tls == Tls::Intercepted {
            let file = self.folder.join("platform.pem");
            std::fs::write(&file, issuer.pem()).unwrap();
            self.environment.push(("SSL_CERT_FILE".to_owned(), file.to_string_lossy().into_owned()));
        }
        let tls = Identity::server(issuer, site.tls, site.harm.map(hostile::subject));
        let upstream = Upstream::serve_at(address, move |stream| site::serve(&site, &tls, stream));
        let address = upstream.address();
        self.held.push(Held::Upstream(upstream));
        address
    }

    fn media(&mut self) {
        let mut all = self.fault.media.clone();
        if !all.iter().any(|media| media.hosts.is_empty()) {
            all.push(Media::default());
        }
        let mut led: Vec<(Vec<String>, Vec<SocketAddr>)> = Vec::new();
        for (number, media) in all.into_iter().enumerate() {
            let hosts = match &media.hosts[..] {
                [] => vec![MEDIA.to_owned(), OTHER_MEDIA.to_owned()],
                some => some.to_vec(),
            };
            let address = self.address(200 + number, 3478);
            let address = self.media_server(address, media.udp);
            match led.iter_mut().find(|(of, _)| *of == hosts) {
                Some((_, addresses)) => addresses.push(address),
                None => led.push((hosts, vec![address])),
            }
        }
        for (hosts, addresses) in led {
            self.lead(&hosts, 3478, &addresses);
        }
    }

    fn media_server(&mut self, address: SocketAddr, udp: Udp) -> SocketAddr {
        if !self.here() {
            if udp == Udp::Silent {
                namespace::swallowing(v4(address));
                return address;
            }
            namespace::own(address.ip());
        }
        if udp == Udp::Refused {
            if !self.here() {
                return address;
            }
            let (socket, address) = refusing();
            self.held.push(Held::Udp(socket));
            return address;
        }
        let server = MediaServer::start(address, udp);
        let address = server.address();
        self.held.push(Held::Media(server));
        address
    }

    /// Where the next server stands.
    fn address(&self, last: usize, port: u16) -> SocketAddr {
        let [a, b, c] = NETWORK;
        match self.fault.place {
            Place::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
            Place::Namespace | Place::Far => {
                (Ipv4Addr::new(a, b, c, u8::try_from(last).unwrap()), port).into()
            }
        }
    }

    /// Makes names lead to these addresses, unless the file says what becomes of their look-up.
    fn lead(&mut self, hosts: &[String], port: u16, addresses: &[SocketAddr]) {
        for host in hosts {
            let mood = self.fault.dns.iter().find(|(name, _)| is(name, host)).map(|(_, mood)| *mood);
            if self.here() {
                // What `connect_to` leads to is never looked up.
                let looked_up = mood.is_some() || self.fault.dns.keys().any(|name| is(host, name));
                if !looked_up && !self.connect_to.contains_key(&format!("{host}:{port}")) {
                    let address = addresses.first().unwrap().to_string();
                    self.connect_to.insert(format!("{host}:{port}"), Value::String(address));
                }
                continue;
            }
            let reply = Reply::Addresses(addresses.iter().map(SocketAddr::ip).collect());
            let reply = match mood {
                None | Some(Mood::Good) => reply,
                Some(Mood::Slow) => Reply::Late(Duration::from_millis(1500), Box::new(reply)),
                Some(_) => continue,
            };
            self.dns.set_unless_set(&host.to_ascii_lowercase(), reply);
        }
    }

    fn config(&self) -> Table {
        let text = format!(
            "[connect]\nregions = [\"us-west-2\"]\ninstances = [\"acme\"]\n\
             [dns]\nservers = [\"{}\"]\n[egress]\nconnect_timeout = \"3s\"\n",
            self.dns.address()
        );
        let mut config: Table = text.parse().unwrap();
        let mut egress = Table::new();
        egress.insert("connect_to".to_owned(), Value::Table(self.connect_to.clone()));
        let mut more = Table::new();
        more.insert("egress".to_owned(), Value::Table(egress));
        merge(&mut config, more);
        config
    }
}

fn v4(address: SocketAddr) -> Ipv4Addr {
    match address {
        SocketAddr::V4(v4) => *v4.ip(),
        SocketAddr::V6(_) => unreachable!("the network is IPv4"),
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

/// Adds `more`, table by table; what it says wins.
pub(super) fn merge(config: &mut Table, more: Table) {
    for (key, value) in more {
        match (config.get_mut(&key), value) {
            (Some(Value::Table(mine)), Value::Table(its)) => merge(mine, its),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}

/// Leaves TCP no local port in this namespace.
fn use_up_ports() -> Vec<TcpListener> {
    let range = format!("{} {}", PORTS.start(), PORTS.end());
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
    PORTS.map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()).collect()
}
