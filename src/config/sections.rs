//! Every section and key of the configuration: name, type, meaning, and how it is written. The
//! only list of keys there is; reading, printing, suggestions and the JSON Schema follow it, and
//! the defaults stand in `config/default.toml`. Judges single values, not how they fit together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use ipnet::IpNet;

use super::direct::direct;
use super::endpoint::{self, PatternPort};
use super::kind::many::{self, Or, StarOr, list, list_of_some};
use super::kind::{FilePath, Flag, Kind, OptionalPath, Size, Span, Text, Whole, one_of, read_key, text};
use super::notation;
use super::parent::{OptionalParent, OptionalUrl};
use super::read::{Reading, Table};
use super::section::{About, Reader, Section, section};
use crate::catalogue::{self, Choice, Feature, SignIn, Wildcards};
use crate::egress::url::{ParentUrl, Url};
use crate::journal::log::{Format, Level};
use crate::pac::Direct;
use crate::pac::proxies::Advertised;
use crate::pac::rendezvous::Spread;
use crate::policy::{Category, IpTargets, Mode, OutsideRanges, Pattern};
use crate::tls::Alpn;
use crate::tunnel::hello::Check;

section! {
    /// The instances of Amazon Connect that agents work with.
    impl "connect" Choice {
        /// AWS regions of the instances, or `["*"]` for all.
        regions: Vec<String> = StarOr(list_of_some(text(r#"a region such as "us-west-2", or "*""#, catalogue::region)));
        /// Aliases of the instances (the first label of their host names), or `["*"]` for any.
        instances: Vec<String> = StarOr(list_of_some(text(r#"an alias of 1 to 63 letters, digits and inner hyphens, or "*""#, catalogue::alias)));
        /// S3 buckets that hold attachments.
        attachment_buckets: Vec<String> = list(text("the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and inner hyphens", catalogue::bucket));
        /// Ids of the instances, for `ccpgate origins`.
        instance_ids: Vec<String> = list(text(r#"the id of an instance such as "12345678-90ab-cdef-1234-567890abcdef""#, catalogue::instance_id));
        /// Sites that embed the panel.
        origins: Vec<String> = list(text(r#"a site such as "https://crm.example": https, a host, and a port that isn't 443"#, catalogue::origin));
        /// Whether agents take calls in the browser; `false`: a media-less CCP, no TURN endpoints.
        media: bool = Flag;
        /// Whether names that AWS has replaced are let through as well.
        legacy: bool = Flag;
        /// The sign-in pages that agents use.
        signin: Vec<SignIn> = list(one_of::<SignIn>());
        /// Optional groups of endpoints.
        features: Vec<Feature> = list(one_of::<Feature>());
        /// `documented`: wildcards as AWS prints them; `narrow`: published hosts in place of wildcards open to any AWS customer.
        wildcards: Wildcards = one_of::<Wildcards>();
    }
}

section! {
    /// Anything else that agents need, such as the identity provider; one table for each pattern.
    "allow" Allow {
        /// A host, or a pattern: `*` within a label, `*.` in front for one or more labels.
        pattern: Pattern = HOST_PATTERN;
        /// The ports that may be connected to.
        ports: Vec<u16> = Or(list_of_some(PORT), || vec![443]);
        /// What the host is used for, as metrics and lists group it.
        category: Category = Or(one_of::<Category>(), || Category::Extra);
    }
}

section! {
    /// What is refused, and how strictly.
    "policy" PolicyRules {
        /// `enforce`: refuse; `report`: let through and count what the policy would deny.
        mode: Mode = one_of::<Mode>();
        /// Host patterns that win over every allow rule.
        deny: Vec<Pattern> = list(HOST_PATTERN);
        /// What the first bytes in a tunnel must be: `sni`: a ClientHello naming the CONNECT host; `tls`: any ClientHello; `off`: any bytes.
        tls: Check = one_of::<Check>();
        /// What becomes of a name of AWS's that resolves to an address outside AWS's published ranges: `off`: nothing; `warn`: it is counted; `enforce`: it isn't dialled.
        ranges: OutsideRanges = one_of::<OutsideRanges>();
        /// `ranges`: a CONNECT to an address inside the ranges in use counts as one to its service; `off`: it is refused as any address.
        ip_targets: IpTargets = one_of::<IpTargets>();
    }
}

section! {
    /// The proxy listeners, and who may use them.
    "proxy" Proxy {
        /// The name of this deployment in Proxy-Status.
        name: String = text("1 to 100 printable ASCII characters", notation::printable);
        /// Addresses of the plain HTTP proxy listener.
        listen: Vec<SocketAddr> = list(LISTEN);
        /// Networks whose clients may use the proxy; others get 403.
        clients: Vec<IpNet> = list(NETWORK);
        /// Networks of load balancers that must, and alone may, begin a connection with a PROXY protocol header; the client that it names counts as the client.
        proxy_protocol: Vec<IpNet> = list(NETWORK);
        /// The proxies that the PAC file names, in order; empty: the host that the file was fetched from.
        advertise: Vec<Advertised> = list(text(r#""HOST:PORT" or "https://HOST:PORT""#, endpoint::advertised));
    }
}

section! {
    /// The PAC file.
    "pac" Pac {
        /// The answer for every host that is not on the allow list.
        otherwise: String = text(r#""DIRECT", "PROXY host:port", or several such results separated by ";""#, endpoint::pac_result);
        /// Hosts that never go to a proxy: patterns, networks, and `"plain"` for names without a dot; localhost never does.
        direct: Vec<Direct> = list(text(r#"a host pattern such as "*.corp.example", a network such as "10.0.0.0/8", or "plain""#, direct));
        /// Whether hosts are spread over the ports that one proxy name is advertised with, the other ports behind as fail-over.
        lanes: bool = Flag;
        /// `client`: the order of the proxies depends on who fetches the file; `off`: it is that of the list.
        spread: Spread = one_of::<Spread>();
    }
}

section! {
    /// The HTTPS proxy listener; off while `listen` is empty.
    "tls" Tls {
        /// Addresses of the HTTPS proxy listener.
        listen: Vec<SocketAddr> = list(LISTEN);
        /// The certificate chain, PEM; read again on reload and when the file changes.
        certificate: PathBuf = FilePath;
        /// The private key of the certificate, PEM.
        key: PathBuf = FilePath;
        /// What the HTTPS listener offers, in the order of its preference; `["http/1.1"]`: no HTTP/2.
        alpn: Vec<Alpn> = list_of_some(one_of::<Alpn>());
        /// Certification authorities, PEM; set: clients must show a certificate from one of them.
        client_ca: Option<PathBuf> = OptionalPath;
        /// Files of ticket keys shared by all replicas; the first encrypts, all decrypt.
        ticket_keys: Vec<PathBuf> = list(FilePath);
    }
}

section! {
    /// How long a TLS session may be resumed: the sum of the three spans.
    "shift" Shift {
        /// The working time of a shift.
        length: Duration = SOME_TIME;
        /// All short breaks together.
        breaks: Duration = ANY_TIME;
        /// The lunch break.
        lunch: Duration = ANY_TIME;
        /// Capacity of the session cache.
        sessions: usize = COUNT;
    }
}

section! {
    /// How names are resolved.
    "dns" Dns {
        /// Fixed answers, by name.
        hosts: BTreeMap<String, Vec<IpAddr>> = many::Table {
            expects: "a host name",
            entry: notation::host_name,
            item: list_of_some(IP),
        };
        /// DNS servers, port 53 unless given; empty: those of the system.
        servers: Vec<SocketAddr> = list(text(r#"an IP address with or without a port, such as "10.0.0.2" or "10.0.0.2:5353""#, notation::dns_server));
        /// How long one server may take.
        timeout: Duration = SOME_TIME;
        /// Whether servers are asked with EDNS first; `false`: never.
        edns: bool = Flag;
    }
}

section! {
    /// How targets are reached.
    "egress" Egress {
        /// Time to connect to a target, over all its addresses.
        connect_timeout: Duration = SOME_TIME;
        /// Private networks that a name may resolve into.
        allow_private: Vec<IpNet> = list(NETWORK);
        /// Where to connect to in place of a host pattern and port, like curl's `--connect-to`.
        connect_to: BTreeMap<PatternPort, SocketAddr> = many::Table {
            expects: r#""HOST-PATTERN:PORT""#,
            entry: endpoint::pattern_port,
            item: text(r#"an IP address and port such as "127.0.0.1:8443""#, notation::remote_address),
        };
        /// Local addresses to dial from.
        source_address: Vec<IpAddr> = list(IP);
        /// A parent proxy to reach targets through, `http://HOST:PORT` or `https://HOST:PORT`; `""`: none.
        proxy: Option<ParentUrl> = OptionalParent;
        /// Host patterns that go through the parent proxy; empty: all hosts.
        proxy_for: Vec<Pattern> = list(HOST_PATTERN);
        /// A file with `user:password` for the parent proxy.
        proxy_credentials: Option<PathBuf> = OptionalPath;
        /// Certification authorities, PEM, for a parent proxy over https; `""`: those of the system.
        proxy_ca: Option<PathBuf> = OptionalPath;
    }
}

section! {
    /// Bounds on what clients can take up.
    "limits" Limits {
        /// Open client connections.
        connections: usize = COUNT;
        /// Open connections of one client address.
        connections_per_client: usize = COUNT;
        /// Size of a request's head, in bytes.
        request_header: usize = Size { least: 1 << 10, most: 1 << 20 };
        /// Time for a request's head, and for the ClientHello in a tunnel.
        header_timeout: Duration = SOME_TIME;
        /// Silence after which a tunnel ends; `0s`: never.
        idle_timeout: Duration = ANY_TIME;
        /// Silence after which a tunnel ends that is closed on one side.
        half_closed: Duration = SOME_TIME;
        /// How long after SIGTERM `/readyz` says no before the listeners close, for balancers that take a while to notice; `0s`: they close at once.
        lame_duck: Duration = ANY_TIME;
        /// How long live tunnels may run on after SIGTERM.
        drain: Duration = ANY_TIME;
        /// How long they may at most when the machine itself goes down (SIGPWR).
        reboot_drain: Duration = ANY_TIME;
    }
}

section! {
    /// The admin listener.
    "admin" Admin {
        /// Address of the status page, metrics and probes.
        listen: SocketAddr = LISTEN;
        /// Host names, besides IP addresses and localhost, under which page and API answer.
        hosts: Vec<String> = list(text("a host name", notation::host_name));
    }
}

section! {
    /// Rounds of `ccpgate check` inside the running proxy.
    "watch" WatchRounds {
        /// How often; `0s`: never.
        every: Duration = ROUNDS;
        /// Whether the media endpoints are tested, too, over UDP.
        stun: bool = Flag;
        /// An authority, PEM, that counts as public, for private setups; `""`: none.
        ca: Option<PathBuf> = OptionalPath;
    }
}

section! {
    /// The page on the proxy listeners that tests an agent's own desk.
    "desk" DeskCheck {
        /// Whether `/check` is there, for the clients of the proxy.
        enabled: bool = Flag;
    }
}

section! {
    /// What a running proxy remembers of tunnels, for `ccpgate tunnels` and its neighbours.
    "ledger" Ledger {
        /// How many ended tunnels are remembered; `0`: none.
        ended: usize = Whole { least: 0, most: 100_000 };
        /// And for how long.
        keep: Duration = SOME_TIME;
        /// Whether client addresses are cut to /24 and /48 wherever they are shown, the log included.
        anonymise: bool = Flag;
    }
}

section! {
    /// AWS's address ranges, ip-ranges.json.
    "ranges" RangesSource {
        /// The file; `""`: none.
        file: Option<PathBuf> = OptionalPath;
        /// Where the running proxy fetches it from, over HTTPS; `""`: nowhere.
        url: Option<Url> = OptionalUrl;
        /// An authority, PEM, for a mirror of your own, besides the public and the system's; `""`: none.
        ca: Option<PathBuf> = OptionalPath;
        /// How often it is fetched.
        refresh: Duration = REFRESH;
        /// The age of a version above which it is warned of.
        max_age: Duration = SOME_TIME;
        /// The folder that the running proxy keeps versions in; `""`: `$STATE_DIRECTORY`, else none are kept.
        state: Option<PathBuf> = OptionalPath;
        /// Whether EC2's GLOBAL prefixes count beside those of the region.
        ec2_global: bool = Flag;
    }
}

section! {
    /// Lists that firewalls fetch by themselves, on listeners of their own.
    "edl" Edl {
        /// Addresses of the listeners; empty: the lists are on the admin listener alone.
        listen: Vec<SocketAddr> = list(LISTEN);
        /// The certificate chain, PEM, with `key`: HTTPS; `""`: HTTP.
        certificate: Option<PathBuf> = OptionalPath;
        /// The private key of the certificate, PEM.
        key: Option<PathBuf> = OptionalPath;
        /// Networks whose machines may fetch; others get 403.
        clients: Vec<IpNet> = list(NETWORK);
        /// A file of `name:hash` lines, as `htpasswd -B` writes them; set: basic authentication.
        users: Option<PathBuf> = OptionalPath;
    }
}

section! {
    /// What is logged, and how.
    "log" Log {
        /// `text`: lines for people; `json`: every line an object.
        format: Format = one_of::<Format>();
        /// The least severe level that is written.
        level: Level = one_of::<Level>();
        /// Whether each tunnel and each denial gets a line.
        access: bool = Flag;
    }
}

// Kinds that several keys share. Constants, so that each use is the same.
const ANY_TIME: Span = Span { least: Duration::ZERO, none: None };
const REFRESH: Span = Span { least: Duration::from_secs(1), none: None };
const ROUNDS: Span = Span { least: Duration::from_secs(1), none: Some("never") };
const SOME_TIME: Span = Span { least: Duration::from_nanos(1), none: None };
/// Far beyond any machine, and small enough for every counter and allocation size.
const COUNT: Whole<usize> = Whole { least: 1, most: 100_000_000 };
const PORT: Whole<u16> = Whole { least: 1, most: u16::MAX };
const HOST_PATTERN: Text<Pattern> = Text {
    expects: r#"a host or a pattern such as "*.example.com""#,
    parse: notation::pattern,
    write: Pattern::to_string,
};
const LISTEN: Text<SocketAddr> = Text {
    expects: r#"an IP address and port such as "127.0.0.1:3128" or "[::1]:3128""#,
    parse: notation::listen_address,
    write: SocketAddr::to_string,
};
const NETWORK: Text<IpNet> = Text {
    expects: r#"a network such as "10.0.0.0/8", or an IP address"#,
    parse: notation::network,
    write: IpNet::to_string,
};
const IP: Text<IpAddr> = Text { expects: "an IP address", parse: notation::ip, write: IpAddr::to_string };

/// A list of tables, `[[allow]]`.
pub(super) fn read_allow(value: &Value, reading: &mut Reading<'_>) -> Option<Vec<Allow>> {
    const EXPECTED: &str = "expected a list of tables: write [[allow]] above the keys of each";
    reading.provenance.sources.insert("allow".to_owned(), vec![reading.source(value.tag())]);
    let Value::Array(_, items) = value else {
        reading.fault("allow", value, EXPECTED.to_owned());
        return None;
    };
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let key = format!("allow[{index}]");
        reading.record(&key, item);
        match item {
            Value::Dict(tag, dict) => {
                read.push(Allow::read(&Table { key, dict, tag: *tag }, reading, None));
            }
            _ => {
                reading.fault(&key, item, EXPECTED.to_owned());
                read.push(None);
            }
        }
    }
    read.into_iter().collect()
}

impl RangesSource {
    /// Whether it says where ranges come from.
    #[must_use]
    pub(crate) fn is_named(&self) -> bool {
        self.file.is_some() || self.url.is_some()
    }
}
