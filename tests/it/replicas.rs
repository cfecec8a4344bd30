//! Three replicas behind HAProxy, by the files of deploy/haproxy as they are shipped: who is moved when one
//! dies or leaves, how soon everybody has a tunnel again, and that nobody else notices.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use toml::{Table, Value};

use crate::support::{NAME, PATIENCE, Proxy, Raw, Secured, Upstream, eventually, in_a_network_of_its_own};

const TARGET: &str = "good.example:443";
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 10);
const REPLICAS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 9, 0, 21), Ipv4Addr::new(10, 9, 0, 22), Ipv4Addr::new(10, 9, 0, 23)];
const AGENTS: u8 = 36;
/// What agents may take to have a new tunnel, all of them.
const AGAIN: Duration = Duration::from_secs(2);

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy").join(name)).unwrap()
}

fn agent(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 20, 1, n))
}

fn sh(command: &str) {
    assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success(), "{command}");
}

/// The configuration of a replica: the shipped file, with files and addresses of the test.
fn configuration(address: Ipv4Addr, upstream: &Upstream, secured: &Secured, key: &Path) -> String {
    let mut config: Table = shipped("ccpgate.toml").parse().unwrap();
    let mut set = |section: &str, name: &str, value: Value| {
        let section = config.entry(section).or_insert_with(|| Table::new().into());
        section.as_table_mut().unwrap().insert(name.to_owned(), value);
    };
    let path = |path: &Path| Value::from(path.to_str().unwrap());
    set("proxy", "listen", vec![format!("{address}:3128")].into());
    set("tls", "listen", vec![format!("{address}:3129")].into());
    set("tls", "certificate", path(&secured.path("proxy.pem")));
    set("tls", "key", path(&secured.path("proxy.key")));
    set("tls", "ticket_keys", vec![path(key)].into());
    let targets = upstream.for_targets(&[TARGET]);
    format!("{config}\n[[allow]]\npattern = \"good.example\"\n{targets}")
}

/// Gives the machine its addresses, and starts all replicas.
fn replicas(upstream: &Upstream, secured: &Secured) -> Vec<Option<Proxy>> {
    for address in REPLICAS.iter().chain([&BALANCER]) {
        sh(&format!("ip addr add {address}/32 dev lo"));
    }
    sh("ip route add local 10.20.0.0/16 dev lo");
    let key = secured.ticket_key("shared.key");
    let start = |address| Proxy::start(&configuration(address, upstream, secured, &key));
    REPLICAS.into_iter().map(|address| Some(start(address))).collect()
}

struct Balancer(Child);

impl Balancer {
    /// All of them are one machine here, so the balancer takes an address of its own; and it holds fewer
    /// descriptors.
    fn start(folder: &Path) -> Self {
        let mut config = shipped("haproxy.cfg");
        for (from, to) in [
            ("maxconn 60000", "maxconn 1000".to_owned()),
            ("bind :3128", format!("bind {BALANCER}:3128")),
            ("bind :3129", format!("bind {BALANCER}:3129")),
            ("default-server send-proxy-v2", format!("default-server source {BALANCER} send-proxy-v2")),
        ] {
            assert_eq!(config.matches(from).count(), 1, "{from}");
            config = config.replace(from, &to);
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut haproxy = Command::new("haproxy");
        let child = haproxy.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A tunnel of an agent through the balancer; none where it isn't opened.
fn open(n: u8) -> Option<Raw> {
    let mut client = Raw::connect_from(agent(n), SocketAddr::from((BALANCER, 3128)));
    client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.try_read_exactly(1)?);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    Some(client)
}

/// Which replica each agent's tunnel is on, as the replicas say.
fn places(replicas: &[Option<Proxy>]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, replica) in replicas.iter().enumerate() {
        let Some(replica) = replica else { continue };
        let tunnels: serde_json::Value = replica.get("/api/tunnels").json();
        for tunnel in tunnels["live"].as_array().unwrap() {
            let client = tunnel["client"].as_str().unwrap();
            assert_eq!(found.insert(client.to_owned(), at), None, "{client} has one tunnel");
        }
    }
    found
}

/// The same once so many tunnels are there: an agent has its answer a moment before its tunnel is on the list.
fn places_of(count: usize, replicas: &[Option<Proxy>]) -> BTreeMap<String, usize> {
    eventually("all tunnels", || Some(places(replicas)).filter(|places| places.len() == count))
}

/// Opens a tunnel for each of these agents, as browsers do that lost theirs: again at once.
fn open_all(agents: impl Iterator<Item = u8>) -> BTreeMap<u8, Raw> {
    agents.map(|n| (n, eventually("a tunnel", || open(n)))).collect()
}

fn numbers_at(places: &BTreeMap<String, usize>, replica: usize) -> Vec<u8> {
    (1..=AGENTS).filter(|n| places[&agent(*n).to_string()] == replica).collect()
}

#[test]
fn one_of_three_dies_another_leaves_and_only_their_agents_are_moved() {
    in_a_network_of_its_own(&["haproxy"], || {
        let (upstream, secured) = (Upstream::echo(), Secured::new());
        let mut replicas = replicas(&upstream, &secured);
        let _balancer = Balancer::start(&secured.path(""));
        eventually("HAProxy sends somebody through", || {
            std::net::TcpStream::connect((BALANCER, 3128)).ok().and_then(|_| open(1)).map(drop)
        });
        // Its checks are known as checks, and none is refused.
        for replica in replicas.iter().flatten() {
            eventually("checks", || {
                (replica.metric("ccpgate_proxy_headers_total{said=\"check\"}") >= 3.0).then_some(())
            });
            assert_eq!(replica.metric("ccpgate_proxy_headers_total{said=\"refused\"}"), 0.0);
            let denied = replica.log_so_far().iter().any(|line| line["event"] == "denied");
            assert!(!denied, "a balancer's check is no denial");
        }
        places_of(0, &replicas);

        let mut tunnels = open_all(1..=AGENTS);
        let all = usize::from(AGENTS);
        let before = places_of(all, &replicas);
        let counts: Vec<usize> = (0..3).map(|at| numbers_at(&before, at).len()).collect();
        assert!(counts.iter().all(|count| *count >= 3), "{counts:?}");

        // One dies. Its agents' tunnels end, and they open others.
        let dead = replicas[1].take().unwrap();
        let lost = numbers_at(&before, 1);
        let died = Instant::now();
        dead.signal(Signal::KILL);
        for n in &lost {
            tunnels.remove(n).unwrap().expect_gone();
        }
        let again = open_all(lost.iter().copied());
        let took = died.elapsed();
        assert!(took < AGAIN, "{} agents had tunnels again after {took:?}", lost.len());
        drop(dead);
        // Nobody else has noticed.
        for tunnel in tunnels.values_mut() {
            tunnel.expect_echo(b"still the same tunnel");
        }
        tunnels.extend(again);
        let after = places_of(all, &replicas);
        for n in 1..=AGENTS {
            let agent = agent(n).to_string();
            assert_eq!(after[&agent] == before[&agent], !lost.contains(&n), "{agent}");
        }
        // Also who opens another one is where he was.
        drop(tunnels);
        places_of(0, &replicas);
        let mut live = open_all(1..=AGENTS);
        let moved = places_of(all, &replicas);
        for n in (1..=AGENTS).filter(|n| !lost.contains(n)) {
            let agent = agent(n).to_string();
            assert_eq!(moved[&agent], before[&agent], "{agent}");
        }

        // Another one leaves in order: no new agents, and live tunnels go on.
        replicas[2].as_ref().unwrap().signal(Signal::TERM);
        let leaving = Instant::now();
        let mut left = false;
        while !left {
            assert!(leaving.elapsed() < PATIENCE, "HAProxy sends agents to a replica that leaves");
            // Whoever comes in the meantime has a tunnel, here or there.
            let fresh = (101..=106).map(|n| (n, open(n).expect("nobody is refused"))).collect::<Vec<_>>();
            let now = places_of(all + fresh.len(), &replicas);
            left = fresh.iter().all(|(n, _)| now[&agent(*n).to_string()] == 0);
            for (_, mut tunnel) in fresh {
                tunnel.finish();
                tunnel.expect_closed();
            }
            places_of(all, &replicas);
        }
        for tunnel in live.values_mut() {
            tunnel.expect_echo(b"a drain ends no call");
        }
    });
}

#[test]
fn an_agent_that_is_moved_resumes_its_tls_session() {
    in_a_network_of_its_own(&["haproxy"], || {
        let (upstream, secured) = (Upstream::echo(), Secured::new());
        let mut replicas = replicas(&upstream, &secured);
        let _balancer = Balancer::start(&secured.path(""));
        let browser = secured.agent();
        let visit = || {
            let name = ServerName::try_from(NAME).unwrap();
            let tls = ClientConnection::new(browser.config(), name).unwrap();
            let mut client =
                Raw::connect_from(agent(1), SocketAddr::from((BALANCER, 3129))).secure(tls).ok()?;
            (client.connect_target(TARGET).status == 200).then_some(client)
        };
        eventually("HAProxy's port", || std::net::TcpStream::connect((BALANCER, 3129)).ok().map(drop));
        let mut first = eventually("a tunnel over TLS", visit);
        assert!(!first.resumed());
        // The tickets have come with it.
        first.expect_echo(b"over TLS");
        let at = places(&replicas)[&agent(1).to_string()];
        let dead = replicas[at].take().unwrap();
        let died = Instant::now();
        dead.signal(Signal::KILL);
        // Without a goodbye of TLS: nobody was there to say it.
        assert!(first.read_to_end().is_err());
        let again = eventually("a tunnel over TLS elsewhere", visit);
        assert!(died.elapsed() < AGAIN, "{:?}", died.elapsed());
        assert!(again.resumed(), "by the ticket key that the replicas share");
        drop(dead);
        places_of(1, &replicas);
    });
}
