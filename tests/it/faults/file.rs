//! The data file of a fault: a network, what is asked of it, and what `check` must say.
//!
//! Its keys are explained in `tests/faults/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::hostile::Harm;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Fault {
    /// The name of the file.
    #[serde(skip)]
    pub name: String,
    /// What has happened, for people.
    pub about: String,
    #[serde(default)]
    pub place: Place,
    /// Name or `*.suffix` to the name server's mood; `*` stands for every name.
    #[serde(default)]
    pub dns: BTreeMap<String, Mood>,
    /// The first one that has a host answers for it; whatever is left, a healthy one.
    #[serde(default)]
    pub site: Vec<Site>,
    /// Of several with the same host each is an address of it.
    #[serde(default)]
    pub media: Vec<Media>,
    /// A proxy, given with `--via`.
    pub via: Option<Via>,
    /// The configuration whose PAC file is given with `--pac`.
    pub pac: Option<toml::Table>,
    /// It stands at the far end of a line that loses longer packets without a word, there and back: see `wire`.
    pub largest_packets: Option<[u16; 2]>,
    /// Its sites have IPv6 addresses: only at the end of a line.
    #[serde(default)]
    pub ipv6: bool,
    /// The first local ports, all of which are in use.
    #[serde(default)]
    pub no_ports: bool,
    /// Added to the configuration of the network.
    #[serde(default)]
    pub config: toml::Table,
    /// Arguments of `check` besides `--ca`, `--via` and `--pac`; `{control}` becomes a STUN server that
    /// answers.
    #[serde(default)]
    pub arguments: Vec<String>,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// Ports that the kernel chose, reached by `egress.connect_to`.
    #[default]
    Loopback,
    /// A network of its own, where names have public addresses and services their own ports.
    Namespace,
    /// The same at the other end of a line: see `wire`, not from a file.
    #[serde(skip)]
    Far,
}

/// What the name server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mood {
    Silent,
    Nxdomain,
    /// Knows the name, and no address.
    Empty,
    Servfail,
    Refused,
    /// Answers in 1.5 s.
    Slow,
    /// Answers with an address of the private network.
    Private,
    /// Answers with 0.0.0.0.
    Sinkhole,
    /// Answers with this network's own addresses: only in a namespace, as `slow`.
    Good,
}

/// An address, and all that answers there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Site {
    /// Names and `*.suffix`; none: every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub tcp: Tcp,
    #[serde(default)]
    pub tls: Tls,
    /// Organisation of who intercepts.
    pub issuer: Option<String>,
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub websocket: WebSocket,
    /// A connection that is silent for this long is cut.
    #[serde(default, deserialize_with = "time")]
    pub idle: Option<Duration>,
    #[serde(default)]
    pub idle_end: End,
    /// How far the server's clock is ahead of ours.
    #[serde(default, deserialize_with = "time")]
    pub ahead: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub behind: Option<Duration>,
    /// It means harm: not from a file.
    #[serde(skip)]
    pub harm: Option<Harm>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tcp {
    #[default]
    Open,
    Refused,
    /// Every packet is dropped.
    Silent,
    /// The connection is reset as soon as it is there.
    Reset,
    /// No way leads there: only in a namespace.
    Unreachable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tls {
    #[default]
    Good,
    /// By an authority that the platform trusts, and the public doesn't.
    Intercepted,
    /// By an authority that nobody trusts.
    Untrusted,
    Expired,
    NotYetValid,
    /// Valid since an hour ago by a clock that is a day ahead.
    FreshTomorrow,
    WrongName,
    /// The server speaks something else.
    Garbage,
    /// The server speaks HTTP, and answers whatever comes.
    Clear,
    /// The server takes the ClientHello and says nothing.
    Silent,
    /// A box on the way reads a ClientHello of one packet alone, and drops longer ones.
    ShortHello,
    /// The same, with a reset.
    ShortHelloReset,
    /// The server resets the connection at the ClientHello, as a filter by name does.
    Reset,
    /// The server closes the connection at the ClientHello.
    Closed,
    /// The server sends a fatal alert.
    Alert,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Http {
    #[default]
    Service,
    BlockPage,
    /// 511.
    Portal,
    /// To somebody else's sign-in page.
    Redirect,
    /// 503 for everything: the service's own trouble.
    Down,
    /// The connection is reset when a request has come.
    Reset,
}

/// What comes back for an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WebSocket {
    /// 403, as from AWS without a login.
    #[default]
    NoLogin,
    Echo,
    /// A box on the way says 403 to whatever is an upgrade.
    Refused,
    /// 200, as if it were any request.
    Stripped,
    /// The connection is reset when the upgrade has come.
    Reset,
    Hung,
    /// Open, and cut after 2 s: `Cut10` after 10 s.
    Cut,
    Cut10,
    /// What is said comes back in heaps every 5 s.
    Buffered,
    /// 101 after 1.5 s.
    Slow,
}

/// How a cut shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    #[default]
    Reset,
    /// What comes afterwards goes nowhere.
    Silence,
}

/// An address of a media server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Media {
    /// None: every media host.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub udp: Udp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Udp {
    #[default]
    Open,
    /// Only Allocate is answered.
    Turn,
    /// Every packet is dropped.
    Silent,
    /// Refused by ICMP.
    Refused,
    /// Every fourth packet is dropped.
    Lossy,
    /// See `hostile`: not from a file.
    #[serde(skip)]
    Hostile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Via {
    /// A ccpgate with the same configuration.
    Open,
    Down,
    /// Takes connections and says nothing.
    Silent,
    Password,
    /// A ccpgate for another region.
    Denies,
    /// A ccpgate with one place, which is taken.
    Full,
    /// See `hostile`: not from a file.
    #[serde(skip)]
    Hostile,
}

/// What `check` must say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub verdict: String,
    /// None where all is well.
    pub cause: Option<String>,
    pub owner: Option<String>,
    pub exit: i32,
    /// Each is in the summary, in whatever case.
    #[serde(default)]
    pub summary: Vec<String>,
    /// What is said of single endpoints.
    #[serde(default)]
    pub endpoint: Vec<Endpoint>,
    /// All causes that endpoints have; default: that of the first line alone.
    pub causes: Option<Vec<String>>,
}

/// What must be said of each endpoint that this names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    /// A name or `*.suffix`.
    pub host: String,
    pub status: String,
    pub cause: Option<String>,
    pub because: Option<String>,
    /// Each is in the detail, in whatever case.
    #[serde(default)]
    pub detail: Vec<String>,
}

impl Fault {
    pub(super) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let mut fault: Self = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        fault.name = file.file_stem().unwrap().to_string_lossy().into_owned();
        fault
    }
}

/// All of them, by name.
pub(super) fn all() -> Vec<Fault> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files.iter().map(|file| Fault::read(file)).collect()
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Whether a name is this one, or lies below `*.suffix`.
pub(super) fn is(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => name.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()),
        None => name.eq_ignore_ascii_case(pattern),
    }
}
