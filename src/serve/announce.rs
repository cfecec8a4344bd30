//! The first lines of the log: what is allowed, warnings, and where to look next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::Config;
use crate::net::entrance::Entrance;
use crate::pac::proxies::{self, Remark};
use crate::policy::Mode;
use crate::proxy::snapshot::Snapshot;

/// Logs what the process is about to do, and every warning about it.
pub(super) fn starting(config: &Config, snapshot: &Snapshot, warnings: &[String], files: Option<u64>) {
    let connect = &config.connect;
    let rest = match config.policy.mode {
        Mode::Enforce => "and denies all else",
        Mode::Report => "and in report mode lets through and counts what it would deny",
    };
    tracing::info!(
        event = "starting",
        version = crate::VERSION,
        config = snapshot.source,
        rules = snapshot.policy.rules().len(),
        mode = config.policy.mode.into_str(),
        tls = config.policy.tls.into_str(),
        "ccpgate allows Amazon Connect in {} for instances {}, {rest}",
        connect.regions.join(", "),
        connect.instances.join(", "),
    );
    warn(config, snapshot, warnings);
    let wanted = (config.limits.connections as u64).saturating_mul(2) + 200;
    if let Some(files) = files.filter(|f| *f < wanted) {
        tracing::warn!(
            event = "file_limit",
            limit = files,
            wanted,
            "the limit of open files is too low for limits.connections: raise LimitNOFILE"
        );
    }
}

/// Logs that a changed configuration is in force.
pub(super) fn reloaded(config: &Config, snapshot: &Snapshot, warnings: &[String]) {
    warn(config, snapshot, warnings);
    tracing::info!(
        event = "reloaded",
        config = snapshot.source,
        rules = snapshot.policy.rules().len(),
        "reloaded; live tunnels go on as they are"
    );
}

/// Logs warnings and notes about the allow list, the PAC file and the parent proxy.
fn warn(config: &Config, snapshot: &Snapshot, warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(event = "policy_warning", "{warning}");
    }
    for remark in proxies::remarks(&config.into(), &snapshot.policy) {
        match remark {
            Remark::Warning(text) => tracing::warn!(event = "pac_warning", "{text}"),
            Remark::Note(text) => tracing::info!(event = "pac_note", "{text}"),
        }
    }
    parent(snapshot);
}

/// Logs that targets are reached through a parent proxy, and what follows from that.
fn parent(snapshot: &Snapshot) {
    let Some(parent) = &snapshot.egress.parent else { return };
    let hosts: Vec<&str> = parent.only().iter().map(|pattern| pattern.as_str()).collect();
    let hosts = if hosts.is_empty() { "all hosts".to_owned() } else { hosts.join(", ") };
    tracing::info!(
        event = "parent",
        parent = %parent.url(),
        %hosts,
        "{hosts} are reached through the parent proxy, which resolves their names: no address of theirs is judged here"
    );
    if let Some(warning) = parent.warnings() {
        tracing::warn!(event = "parent", parent = %parent.url(), "{warning}");
    }
}

/// Logs that a listener begins to accept. `all` are those of the configuration.
pub(super) fn listening(kind: Entrance, address: SocketAddr, all: &[(Entrance, SocketAddr)]) {
    tracing::info!(event = "listening", listener = kind.into_str(), %address, "listening");
    let ipv4 =
        |(other, a): &(Entrance, SocketAddr)| *other == kind && a.is_ipv4() && a.port() == address.port();
    if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) && !all.iter().any(ipv4) {
        let remedy = match kind {
            Entrance::Admin => "write 0.0.0.0 in its place if probes and scrapes come over IPv4",
            Entrance::Http | Entrance::Https | Entrance::Edl => {
                "add 0.0.0.0 beside it if clients come over IPv4"
            }
        };
        tracing::info!(
            event = "ipv6_only",
            listener = kind.into_str(),
            %address,
            "[::] in {} serves IPv6 alone, and IPv4 is refused: {remedy}",
            kind.key()
        );
    }
}

/// Logs that all listeners accept, and where the PAC file and the metrics are.
pub(super) fn ready(config: &Config, listeners: &[(Entrance, SocketAddr)]) {
    let admin = listeners.iter().find(|(kind, _)| *kind == Entrance::Admin).map(|(_, address)| *address);
    if let (Some(pac), Some(admin)) = (pac(config, listeners, this_machine), admin) {
        let metrics = format!("http://{}/metrics", usable(admin, this_machine));
        tracing::info!(
            event = "ready",
            %pac,
            %metrics,
            "ready; point browsers at the PAC file, and ask `ccpgate explain HOST` why a host is denied"
        );
    }
}

/// Where browsers can fetch the PAC file: from the first proxy of `proxy.advertise`, else from the first
/// listener that other machines can reach, else from the first; plain before TLS, since a browser that
/// fetches it may not trust this proxy's certificate yet.
fn pac(
    config: &Config,
    listeners: &[(Entrance, SocketAddr)],
    machine: impl Fn(IpAddr) -> IpAddr,
) -> Option<String> {
    let advertise = &config.proxy.advertise;
    let plain = advertise.iter().find(|proxy| !proxy.https);
    if let Some(proxy) = plain.or(advertise.first()) {
        let scheme = if proxy.https { "" } else { "http://" };
        return Some(format!("{scheme}{proxy}/proxy.pac"));
    }
    let of = |wanted: Entrance| listeners.iter().filter(move |(kind, _)| *kind == wanted);
    let mut all = of(Entrance::Http).chain(of(Entrance::Https));
    let reachable = all.clone().find(|(_, address)| !address.ip().is_loopback());
    reachable.or_else(|| all.next()).map(|(kind, address)| {
        let scheme = kind.into_str();
        format!("{scheme}://{}/proxy.pac", usable(*address, machine))
    })
}

/// The address to show for a listener: one of this machine's where it listens on all.
fn usable(address: SocketAddr, machine: impl Fn(IpAddr) -> IpAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(machine(ip), address.port()),
        _ => address,
    }
}

/// The address of this machine towards the rest of the world, in the family of `unspecified`; loopback
/// where it has no route. Nothing is sent: connecting a datagram socket only looks up a route.
fn this_machine(unspecified: IpAddr) -> IpAddr {
    // RFC 5737 and RFC 3849: addresses of documentation, which nobody routes specially.
    let (far, loopback): (IpAddr, IpAddr) = match unspecified {
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let towards = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect((far, 9))?;
        socket.local_addr()
    };
    towards().map_or(loopback, |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn shown(set: &[&str], listeners: &[(Entrance, &str)]) -> Option<String> {
        let set = set.iter().map(|flag| flag.to_string()).collect();
        let config = load(&Sources { set, ..Sources::default() }).unwrap().config;
        let listeners: Vec<_> = listeners.iter().map(|(kind, a)| (*kind, a.parse().unwrap())).collect();
        let machine =
            |ip: IpAddr| if ip.is_ipv4() { [10, 1, 2, 3].into() } else { Ipv6Addr::LOCALHOST.into() };
        pac(&config, &listeners, machine)
    }

    #[test]
    fn the_pac_address_can_be_used() {
        use Entrance::{Admin, Http, Https};
        for (set, listeners, expected) in [
            (&[][..], &[(Http, "127.0.0.1:3128"), (Admin, "127.0.0.1:9128")][..], "http://127.0.0.1:3128"),
            (&[], &[(Http, "0.0.0.0:3128")], "http://10.1.2.3:3128"),
            (&[], &[(Http, "[::]:3128")], "http://[::1]:3128"),
            (&[], &[(Http, "127.0.0.1:3128"), (Http, "10.0.0.5:3128")], "http://10.0.0.5:3128"),
            (&[], &[(Https, "0.0.0.0:3129"), (Http, "0.0.0.0:3128")], "http://10.1.2.3:3128"),
            (&[], &[(Http, "127.0.0.1:3128"), (Https, "10.0.0.5:3129")], "https://10.0.0.5:3129"),
            (
                &["proxy.advertise=[\"https://p1.corp:3129\", \"p2.corp:8080\"]"],
                &[(Http, "0.0.0.0:3128")],
                "http://p2.corp:8080",
            ),
            (&["proxy.advertise=https://p1.corp:3129"], &[(Http, "0.0.0.0:3128")], "https://p1.corp:3129"),
            (
                &["proxy.advertise=[\"[2001:db8::1]:3128\"]"],
                &[(Http, "[::]:3128")],
                "http://[2001:db8::1]:3128",
            ),
        ] {
            assert_eq!(shown(set, listeners), Some(format!("{expected}/proxy.pac")), "{set:?} {listeners:?}");
        }
        assert_eq!(shown(&[], &[(Admin, "127.0.0.1:9128")]), None);
    }

    #[test]
    fn this_machine_has_an_address_that_is_one() {
        for unspecified in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            assert!(!this_machine(unspecified).is_unspecified());
        }
    }
}
