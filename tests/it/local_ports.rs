//! How many tunnels the local ports of the proxy's machine allow: so many for each source address and each address
//! and port of an upstream, and not for each source address alone. docs/capacity.md reckons with it.

use std::net::{SocketAddr, TcpStream};

use rustix::net::{self, AddressFamily, SocketType};

use crate::support::{Proxy, Raw, Upstream, in_a_network_of_its_own};

const FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// So many ports.
const NARROW: &str = "20000 20039";
const PORTS: usize = 40;
const WIDE: &str = "32768 60999";

/// The narrow range, as long as this lives: the upstreams end by a connection from here, which needs a port as well.
struct Narrow;

impl Narrow {
    fn set() -> Self {
        std::fs::write(FILE, NARROW).unwrap();
        Self
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let _ = std::fs::write(FILE, WIDE);
    }
}

/// The client with this number, which has an address of its own. Its port lies outside the range: the kernel doesn't
/// choose a port for a connection that another socket was bound to.
fn connect(number: usize, proxy: SocketAddr) -> Raw {
    const PORT: u16 = 30_000;
    let [high, low] = u16::try_from(number + 1).unwrap().to_be_bytes();
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 9, high, low], PORT))).unwrap();
    net::connect(&socket, &proxy).unwrap();
    Raw::of(TcpStream::from(socket))
}

/// Opens tunnels to each of `upstreams` targets until the proxy has no port left for it; returns how many
/// there are in all.
fn tunnels(sources: &[&str], upstreams: usize) -> usize {
    let targets: Vec<String> = (0..upstreams).map(|nth| format!("t{nth}.example:443")).collect();
    let listening: Vec<Upstream> = targets.iter().map(|_| Upstream::echo()).collect();
    let to = targets.iter().zip(&listening);
    let to: String =
        to.map(|(target, upstream)| format!("{target:?} = \"{}\"\n", upstream.address())).collect();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"*.example\"\n[limits]\nconnections_per_client = 10000\n[egress]\nsource_address = {sources:?}\n\
         [egress.connect_to]\n{to}"
    ));
    let _narrow = Narrow::set();
    let (mut open, mut clients) = (Vec::new(), 0);
    for target in &targets {
        loop {
            let mut client = connect(clients, proxy.http());
            clients += 1;
            let answer = client.connect_target(target);
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "{}", answer.head);
                assert_eq!(answer.proxy_status("error"), Some("connection_limit_reached"));
                break;
            }
            client.expect_echo(b"through");
            open.push(client);
            assert!(open.len() < 10 * PORTS, "there is no end to ports");
        }
    }
    open.len()
}

#[test]
fn local_ports_count_for_each_source_and_each_upstream() {
    for (sources, upstreams) in [
        (&[][..], 1),
        (&[], 3),
        // An address that is given is no port that is given: the kernel chooses that by the target.
        (&["127.0.0.9"], 1),
        (&["127.0.0.9"], 3),
        (&["127.0.0.9", "127.0.0.10"], 1),
        (&["127.0.0.9", "127.0.0.10", "127.0.0.11"], 2),
    ] {
        in_a_network_of_its_own(&[], move || {
            let expected = PORTS * sources.len().max(1) * upstreams;
            assert_eq!(tunnels(sources, upstreams), expected, "{sources:?}, {upstreams} upstreams");
        });
    }
}
