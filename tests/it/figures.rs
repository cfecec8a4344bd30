//! The figures of docs/tls-sessions.md, measured on the real process. They need a quiet machine and
//! an optimised build, so nothing runs them by itself:
//! `cargo test --release --test it figures:: -- --ignored --nocapture --test-threads 1`
//!
//! Memory needs neither: what an idle connection may hold is held by tests like any other.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use rcgen::KeyPair;
use rustls::client::Resumption;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Agent, H2, NAME, Port, Proxy, Raw, Secured, Upstream, behind_a_balancer, fleet, have, stall,
};

const TARGET: &str = "good.example:443";

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of all threads of a process, in microseconds (proc(5), schedstat: nanoseconds).
fn cpu_micros(process: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1000.0
}

/// Memory that a process shares with nobody, in KiB.
fn private_kib(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let of = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    of("Private_Clean:") + of("Private_Dirty:")
}

fn process(proxy: &Proxy) -> u32 {
    u32::try_from(proxy.id().as_raw_nonzero().get()).unwrap()
}

/// One handshake up to the last ticket, and not a byte more.
fn shake_hands(proxy: &Proxy, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(NAME).unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    let tickets = match (tls.protocol_version(), tls.handshake_kind()) {
        (Some(ProtocolVersion::TLSv1_3), Some(HandshakeKind::Resumed)) => 1,
        (Some(ProtocolVersion::TLSv1_3), _) => 2,
        _ => 0,
    };
    while tls.tls13_tickets_received() < tickets {
        tls.complete_io(&mut stream).unwrap();
    }
    tls.send_close_notify();
    tls.complete_io(&mut stream).unwrap();
    tls.handshake_kind().unwrap()
}

#[test]
#[ignore = "a figure: needs a quiet machine and an optimised build"]
fn a_resumed_handshake_against_a_full_one() {
    const HANDSHAKES: usize = 250;
    const AT_ONCE: usize = 8;
    const ROUNDS: usize = 5;
    for (name, limit) in [("RSA-2048", 0.5), ("ECDSA P-256", 0.85)] {
        let (upstream, secured) = (Upstream::echo(), Secured::new());
        if name == "RSA-2048" {
            let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
            let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref())).unwrap();
            secured.renew_with(&key, |_| {});
        }
        let proxy = secured.start(&upstream, "", "");
        for version in [&TLS13, &TLS12] {
            // Several agents at once, as at 9:00: a proxy that sleeps between two handshakes would
            // mostly show what waking up costs.
            let resuming: Vec<_> =
                (0..AT_ONCE).map(|_| Agent::of_version(&secured.authority, version).config()).collect();
            let full: Vec<_> = resuming
                .iter()
                .map(|config| {
                    let mut config = (**config).clone();
                    config.resumption = Resumption::disabled();
                    Arc::new(config)
                })
                .collect();
            for config in &resuming {
                shake_hands(&proxy, config);
            }
            let cost = |configs: &[Arc<ClientConfig>], kind: HandshakeKind| {
                let before = cpu_micros(process(&proxy));
                std::thread::scope(|scope| {
                    for config in configs {
                        scope.spawn(|| {
                            for _ in 0..HANDSHAKES {
                                assert_eq!(shake_hands(&proxy, config), kind);
                            }
                        });
                    }
                });
                (cpu_micros(process(&proxy)) - before) / (HANDSHAKES * AT_ONCE) as f64
            };
            let (mut fulls, mut resumeds) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                fulls.push(cost(&full, HandshakeKind::Full));
                resumeds.push(cost(&resuming, HandshakeKind::Resumed));
            }
            let (full, resumed) = (median(fulls), median(resumeds));
            let ratio = resumed / full;
            println!(
                "{name}, {version:?}: full {full:.0} µs, resumed {resumed:.0} µs, ratio {ratio:.2} (at most {limit})"
            );
        }
    }
}

#[test]
#[ignore = "a figure: needs a quiet machine and an optimised build"]
fn resumption_rates() {
    if !have("python3") || !have("haproxy") {
        return;
    }
    for version in ["TLSv1_3", "TLSv1_2"] {
        let (upstream, secured) = (Upstream::echo(), Secured::new());
        let proxy = secured.start(&upstream, "", "");
        let (all, resumed) = fleet(&secured, &[proxy.https().to_string()], (200, 5, 6), version, || ());
        println!("{version}, 200 agents: {resumed} of {all} reconnections resumed");
        let (all, resumed) = behind_a_balancer((200, 5, 6), version);
        println!("{version}, 200 agents over two replicas: {resumed} of {all} reconnections resumed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a figure: needs a quiet machine and an optimised build"]
async fn sixty_tunnels_one_of_them_stalled() {
    for kind in ["the client does not read", "the upstream does not read"] {
        let (mut ratios, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let [before, after] = stall(kind, 100).await;
            ratios.push(after.1 as f64 / before.1 as f64);
            lines.push(format!("p50 {} to {} µs, p99 {} to {} µs", before.0, after.0, before.1, after.1));
        }
        println!("{kind}: p99 ratio {:.2} (at most 1.5); {}", median(ratios), lines.join("; "));
    }
}

/// Opens tunnels, sends a message each way through each, and returns what one costs in KiB.
fn memory(process: u32, count: usize, mut open: impl FnMut() -> Raw) -> f64 {
    let mut tunnels: Vec<Raw> = (0..200).map(|_| open()).collect();
    let before = private_kib(process);
    for _ in 0..count {
        tunnels.push(open());
    }
    std::thread::sleep(Duration::from_secs(1));
    (private_kib(process) - before) / count as f64
}

#[test]
#[ignore = "a figure: needs a quiet machine and an optimised build"]
fn memory_of_an_idle_tunnel() {
    const TUNNELS: usize = 1500;
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"off\"");
    let open = |mut client: Raw| {
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(&[7; 200]);
        client
    };
    let agent = secured.agent();
    let kib = memory(process(&proxy), TUNNELS, || open(agent.connect(&proxy)));
    println!("idle tunnel over TLS, resumed session: {kib:.1} KiB (at most 24)");
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"off\"");
    let kib = memory(process(&proxy), TUNNELS, || open(secured.agent().connect(&proxy)));
    println!("idle tunnel over TLS, full handshake, with its cached session: {kib:.1} KiB (at most 24)");
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"off\"");
    let kib = memory(process(&proxy), TUNNELS, || open(proxy.connect()));
    println!("idle tunnel without TLS: {kib:.1} KiB");
}

#[test]
fn an_idle_tunnel_over_tls_holds_no_buffer() {
    const TUNNELS: usize = 400;
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"off\"");
    let agent = secured.agent();
    let kib = memory(process(&proxy), TUNNELS, || {
        let mut client = agent.connect(&proxy);
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(&[7; 200]);
        client
    });
    // With a read buffer of rustls' own it is 9.7.
    assert!(kib < 8.0, "{kib:.1} KiB");
}

#[tokio::test]
async fn an_idle_http2_connection_holds_what_the_h2_crate_holds() {
    const CONNECTIONS: usize = 200;
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"off\"");
    let agent = secured.agent();
    let (mut held, mut before) = (Vec::new(), 0.0);
    for count in 0..CONNECTIONS + 100 {
        if count == 100 {
            before = private_kib(process(&proxy));
        }
        let mut client = H2::connect(&proxy, &agent).await;
        let mut tunnel = client.tunnel(TARGET).await;
        tunnel.expect_echo(&[7; 200]).await;
        held.push((client, tunnel));
    }
    let kib = (private_kib(process(&proxy)) - before) / CONNECTIONS as f64;
    // Its buffers and tables have 28 KiB, of which 23 are touched; with rustls' buffer and the handshake's
    // state it was 33.
    assert!(kib < 30.0, "{kib:.1} KiB");
}

/// Squid with an `https_port`, where Debian's squid-openssl is installed.
struct Squid {
    child: std::process::Child,
    address: std::net::SocketAddr,
    _port: Port,
}

impl Squid {
    fn start(secured: &Secured) -> Self {
        // Squid takes no port 0.
        let port = Port::keep();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.number()));
        let config = format!(
            "https_port {address} tls-cert={} tls-key={}\nhttp_access allow all\ncache deny all\n\
             access_log none\ncache_log /dev/null\npid_filename none\nmax_filedescriptors 16384\n\
             client_idle_pconn_timeout 1 hour\n",
            secured.path("proxy.pem").display(),
            secured.path("proxy.key").display(),
        );
        std::fs::write(secured.path("squid.conf"), config).unwrap();
        let child = std::process::Command::new("/usr/sbin/squid")
            .args(["-N", "-f"])
            .arg(secured.path("squid.conf"))
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let squid = Self { child, address, _port: port };
        crate::support::eventually("Squid", || TcpStream::connect(address).ok());
        squid
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "a figure: needs a quiet machine and Debian's squid-openssl"]
fn memory_of_an_idle_tunnel_in_squid() {
    const TUNNELS: usize = 1500;
    if !std::path::Path::new("/usr/sbin/squid").exists() {
        return println!("Squid is not installed: apt-get install squid-openssl");
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let squid = Squid::start(&secured);
    let target = upstream.address().to_string();
    let agent = secured.agent().alpn(&[]);
    let kib = memory(squid.child.id(), TUNNELS, || {
        let mut client = agent.try_connect(squid.address).unwrap();
        assert_eq!(client.connect_target(&target).status, 200);
        client.expect_echo(&[7; 200]);
        client
    });
    println!("idle tunnel over TLS in Squid: {kib:.1} KiB");
}

/// What ten status pages cost beside 4,000 tunnels with a message every half minute each: 60 s without and
/// with them, in turn. A viewer is what the page does: a stream, and the history every half minute.
#[test]
#[ignore = "a figure: needs a quiet machine and an optimised build"]
fn ten_viewers_of_the_page() {
    const TUNNELS: usize = 4000;
    const VIEWERS: usize = 10;
    const ROUND: Duration = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let upstream = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let target = "acme.my.connect.aws:443";
    let proxy = Proxy::start(&format!("[egress.connect_to]\n\"{target}\" = \"{upstream}\"\n"));
    let (http, admin) = (proxy.http(), proxy.admin());
    for number in 0..TUNNELS {
        let opened = runtime.block_on(async {
            // As many desks as a floor has, so that findings have something to look at.
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket
                .bind(format!("127.0.{}.{}:0", number / 8 / 250 + 1, number / 8 % 250 + 1).parse().unwrap())
                .unwrap();
            let mut stream = socket.connect(http).await.unwrap();
            stream.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).await.unwrap();
            assert!(head[..count].starts_with(b"HTTP/1.1 200"));
            stream
        });
        runtime.spawn(async move {
            let (mut opened, mut heard) = (opened, [0; 200]);
            tokio::time::sleep(Duration::from_millis(number as u64 * 30_000 / TUNNELS as u64)).await;
            loop {
                opened.write_all(&[b'x'; 200]).await.unwrap();
                opened.read_exact(&mut heard).await.unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        });
    }
    let ask = move |path: &'static str| async move {
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        let asked = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let mut shares = [Vec::new(), Vec::new()];
    for round in 0..6 {
        let viewers: Vec<_> = (0..VIEWERS * (round % 2))
            .flat_map(|_| {
                let stream = runtime.spawn(async move { _ = ask("/api/events").await });
                let history = runtime.spawn(async move {
                    loop {
                        ask("/api/history?minutes=180").await.unwrap();
                        tokio::time::sleep(Duration::from_secs(30)).await;
                    }
                });
                [stream, history]
            })
            .collect();
        let (begun, before) = (Instant::now(), cpu_micros(process(&proxy)));
        std::thread::sleep(ROUND);
        let share = (cpu_micros(process(&proxy)) - before) / begun.elapsed().as_micros() as f64;
        println!("{} viewers: {:.2} % of a core", VIEWERS * (round % 2), share * 100.0);
        shares[round % 2].push(share);
        viewers.iter().for_each(|viewer| viewer.abort());
    }
    let [without, with] = shares.map(median);
    println!("ten viewers cost {:.2} % of a core (below 1)", (with - without) * 100.0);
    drop(runtime);
}
