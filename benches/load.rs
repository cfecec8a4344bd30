//! The whole proxy under load, and beside it, in the same run, a bare relay that checks, counts and
//! logs nothing. Machines drift, so it is the ratio between the two that says something.
//!
//! `cargo bench --bench load` measures everything in about three minutes;
//! `cargo bench --bench load -- setup messages` only what is named. All traffic is on loopback:
//! this process is the clients and the upstream, the proxies are processes of their own.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep};

const REPETITIONS: usize = 3;
const SETUPS: usize = 20_000;
const CONCURRENT: usize = 64;
const BULK_TUNNELS: usize = 4;
const BULK_BYTES: u64 = 1 << 30;
const IDLE_TUNNELS: usize = 4_000;
const TALKING_TUNNELS: usize = 500;
const MESSAGE: usize = 200;
const MESSAGES_EACH: usize = 50;
const MESSAGE_EVERY: Duration = Duration::from_millis(100);
const CHURNED: usize = 100_000;
const OPEN_AT_ONCE: usize = 6_000;

/// Both ends spread over several loopback addresses, or 100,000 closed connections in TIME_WAIT
/// would use up the local ports.
const ADDRESSES: u8 = 8;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Figures = Vec<(&'static str, f64)>;

fn main() -> Result<(), Failure> {
    if let Ok(upstreams) = std::env::var("BARE_RELAY_UPSTREAM_PORT") {
        return bare_relay(upstreams.parse()?);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|a| a == "--bench") {
        return Ok(()); // `cargo test --benches` only asks whether it builds
    }
    let named = |part: &str| {
        let mut parts = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|a| a == part)
    };
    raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let upstream = upstream().await?;
        let folder = tempfile::tempdir()?;
        let mut table = Table::default();
        for repetition in 1..=REPETITIONS {
            eprintln!("repetition {repetition} of {REPETITIONS}");
            for part in ["setup", "bulk", "idle", "messages"] {
                for kind in [Kind::Bare, Kind::Ccpgate] {
                    if !named(part) {
                        continue;
                    }
                    let proxy = Proxy::start(kind, upstream, folder.path()).await?;
                    let figures = match part {
                        "setup" => setup(&proxy).await?,
                        "bulk" => bulk(&proxy).await?,
                        "idle" => idle(&proxy).await?,
                        _ => messages(&proxy).await?,
                    };
                    table.add(kind, figures);
                }
            }
        }
        table.print();
        if named("leaks") {
            let proxy = Proxy::start(Kind::Ccpgate, upstream, folder.path()).await?;
            leaks(&proxy).await?;
        }
        Ok(())
    })
}

fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

// --- what is measured --------------------------------------------------------------------------

/// Opens tunnels, 64 at a time: one echoed byte each, then an orderly close both ways.
async fn setup(proxy: &Proxy) -> Result<Figures, Failure> {
    open_and_close(proxy, 1_000).await?;
    let (before, started) = (proxy.cpu()?, Instant::now());
    let mut latencies = open_and_close(proxy, SETUPS).await?;
    let (cpu, took) = (proxy.cpu()? - before, started.elapsed());
    latencies.sort_unstable();
    Ok(vec![
        ("CPU µs per tunnel", cpu.as_secs_f64() * 1e6 / SETUPS as f64),
        ("tunnels per second", SETUPS as f64 / took.as_secs_f64()),
        ("set-up p50 ms", percentile(&latencies, 50.0) * 1e3),
        ("set-up p99 ms", percentile(&latencies, 99.0) * 1e3),
    ])
}

async fn open_and_close(proxy: &Proxy, count: usize) -> Result<Vec<Duration>, Failure> {
    let turns = Arc::new(Semaphore::new(CONCURRENT));
    let mut running = JoinSet::new();
    for number in 0..count {
        let turn = turns.clone().acquire_owned().await?;
        let route = proxy.route.clone();
        running.spawn(async move {
            let started = Instant::now();
            let mut tunnel = route.open(number, b"E").await?;
            echo(&mut tunnel, b"x").await?;
            let took = started.elapsed();
            close(tunnel).await?;
            drop(turn);
            Ok::<_, Failure>(took)
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(done) = running.join_next().await {
        latencies.push(done??);
    }
    Ok(latencies)
}

/// A gibibyte through each of four tunnels at once, down and then up.
async fn bulk(proxy: &Proxy) -> Result<Figures, Failure> {
    let mut figures = Vec::new();
    for (down, throughput, cost) in
        [(true, "down Gbit/s", "down CPU s/GB"), (false, "up Gbit/s", "up CPU s/GB")]
    {
        let (before, started) = (proxy.cpu()?, Instant::now());
        let mut running = JoinSet::new();
        for number in 0..BULK_TUNNELS {
            let route = proxy.route.clone();
            running.spawn(async move {
                let mut tunnel = route.open(number, if down { b"S" } else { b"R" }).await?;
                let moved = if down { swallow(&mut tunnel).await? } else { pour(&mut tunnel).await? };
                same(moved, BULK_BYTES)
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        let (cpu, took) = (proxy.cpu()? - before, started.elapsed());
        let bytes = BULK_TUNNELS as f64 * BULK_BYTES as f64;
        figures.push((throughput, bytes * 8.0 / 1e9 / took.as_secs_f64()));
        figures.push((cost, cpu.as_secs_f64() / (bytes / 1e9)));
    }
    Ok(figures)
}

/// What open tunnels that have fallen silent after a message each way hold.
async fn idle(proxy: &Proxy) -> Result<Figures, Failure> {
    drop(open_all(proxy, 64).await?);
    proxy.settle(0).await?;
    let before = proxy.pss()?;
    let tunnels = open_all(proxy, IDLE_TUNNELS).await?;
    let held = proxy.pss()?.saturating_sub(before);
    drop(tunnels);
    Ok(vec![("KiB per idle tunnel", held as f64 / 1024.0 / IDLE_TUNNELS as f64)])
}

async fn open_all(proxy: &Proxy, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut tunnels = Vec::with_capacity(count);
    for number in 0..count {
        let mut tunnel = proxy.route.open(number, b"E").await?;
        echo(&mut tunnel, b"x").await?;
        tunnels.push(tunnel);
    }
    Ok(tunnels)
}

/// 500 tunnels with ten messages of 200 bytes a second each, echoed.
async fn messages(proxy: &Proxy) -> Result<Figures, Failure> {
    let tunnels = open_all(proxy, TALKING_TUNNELS).await?;
    let (before, start) = (proxy.cpu()?, tokio::time::Instant::now() + Duration::from_millis(100));
    let mut running = JoinSet::new();
    for (number, mut tunnel) in tunnels.into_iter().enumerate() {
        let offset = MESSAGE_EVERY.mul_f64(number as f64 / TALKING_TUNNELS as f64);
        running.spawn(async move {
            let mut ticks = interval_at(start + offset, MESSAGE_EVERY);
            let mut latencies = Vec::with_capacity(MESSAGES_EACH);
            for _ in 0..MESSAGES_EACH {
                ticks.tick().await;
                let sent = Instant::now();
                echo(&mut tunnel, &[7; MESSAGE]).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, Failure>((latencies, tunnel))
        });
    }
    let (mut latencies, mut open) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (of_one, tunnel) = done??;
        latencies.extend(of_one);
        open.push(tunnel);
    }
    let cpu = proxy.cpu()? - before;
    latencies.sort_unstable();
    Ok(vec![
        ("CPU µs per message", cpu.as_secs_f64() * 1e6 / latencies.len() as f64),
        ("message p50 µs", percentile(&latencies, 50.0) * 1e6),
        ("message p99 µs", percentile(&latencies, 99.0) * 1e6),
    ])
}

/// 100,000 tunnels opened and closed, then 6,000 open at once: nothing may stay behind. A first
/// round fills pools, caches and the allocator; the second must add nothing to it.
async fn leaks(proxy: &Proxy) -> Result<(), Failure> {
    let at_rest = proxy.descriptors()?;
    for round in 1..=2 {
        open_and_close(proxy, CHURNED).await?;
        let tunnels = open_all(proxy, OPEN_AT_ONCE).await?;
        let (open, peak) = (proxy.descriptors()?, proxy.pss()?);
        drop(tunnels);
        proxy.settle(at_rest).await?;
        println!(
            "round {round}: {CHURNED} opened and closed; {OPEN_AT_ONCE} open at once: {open} descriptors, \
             {} KiB; after: {} descriptors ({at_rest} at the start), {} KiB",
            peak / 1024,
            proxy.descriptors()?,
            proxy.pss()? / 1024
        );
    }
    Ok(())
}

fn percentile(sorted: &[Duration], percent: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * percent / 100.0) as usize].as_secs_f64()
}

fn same(got: u64, wanted: u64) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(format!("{got} bytes arrived, not {wanted}").into()) }
}

// --- the clients -------------------------------------------------------------------------------

/// How a client gets to the upstream; what it says first is a real ClientHello.
#[derive(Clone)]
struct Route {
    proxy: SocketAddr,
    heads: Arc<[(String, Vec<u8>)]>,
}

impl Route {
    fn new(proxy: SocketAddr) -> Result<Self, Failure> {
        let config = Arc::new(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        );
        let mut heads = Vec::new();
        for i in 1..=ADDRESSES {
            let host = host(i);
            let mut hello = Vec::new();
            rustls::ClientConnection::new(config.clone(), host.clone().try_into()?)?.write_tls(&mut hello)?;
            heads.push((format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"), hello));
        }
        Ok(Self { proxy, heads: heads.into() })
    }

    /// Tunnel number `number`, through which the upstream has been told what to do.
    async fn open(&self, number: usize, command: &[u8; 1]) -> Result<TcpStream, Failure> {
        let (head, hello) = &self.heads[number % self.heads.len()];
        let socket = TcpSocket::new_v4()?;
        let from = Ipv4Addr::new(127, 0, 1, 1 + (number / self.heads.len() % usize::from(ADDRESSES)) as u8);
        socket.bind(SocketAddr::from((from, 0)))?;
        let mut stream = socket.connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the proxy closed before it answered".into());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        stream.write_all(&[hello, &command[..]].concat()).await?;
        Ok(stream)
    }
}

fn host(i: u8) -> String {
    format!("rtc{i}.connect-telecom.us-west-2.amazonaws.com")
}

async fn echo(tunnel: &mut TcpStream, message: &[u8]) -> Result<(), Failure> {
    tunnel.write_all(message).await?;
    let mut back = vec![0; message.len()];
    tunnel.read_exact(&mut back).await?;
    if back == message { Ok(()) } else { Err("the echo differs".into()) }
}

async fn close(mut tunnel: TcpStream) -> Result<(), Failure> {
    tunnel.shutdown().await?;
    same(swallow(&mut tunnel).await?, 0)
}

async fn swallow(tunnel: &mut TcpStream) -> io::Result<u64> {
    let (mut sum, mut buffer) = (0, vec![0; 256 << 10]);
    loop {
        match tunnel.read(&mut buffer).await? {
            0 => return Ok(sum),
            n => sum += n as u64,
        }
    }
}

/// Sends all there is and learns how much of it arrived.
async fn pour(tunnel: &mut TcpStream) -> io::Result<u64> {
    send_bulk(tunnel).await?;
    tunnel.shutdown().await?;
    tunnel.read_u64().await
}

async fn send_bulk(to: &mut TcpStream) -> io::Result<()> {
    let buffer = vec![7; 256 << 10];
    for _ in 0..BULK_BYTES / buffer.len() as u64 {
        to.write_all(&buffer).await?;
    }
    Ok(())
}

// --- the upstream ------------------------------------------------------------------------------

/// Listens on eight loopback addresses and one port; says which.
async fn upstream() -> io::Result<u16> {
    let mut port = 0;
    for i in 1..=ADDRESSES {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, i), port)).await?;
        port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A tunnel that is torn down at the end of a measurement is no news.
                    let _ = obey(stream).await;
                });
            }
        });
    }
    Ok(port)
}

/// Skips the ClientHello and does what the byte behind it says.
async fn obey(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut record = [0; 5];
    stream.read_exact(&mut record).await?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
    stream.read_exact(&mut hello).await?;
    drop(hello);
    match stream.read_u8().await? {
        b'S' => {
            send_bulk(&mut stream).await?;
            stream.shutdown().await
        }
        b'R' => {
            let sum = swallow(&mut stream).await?;
            stream.write_u64(sum).await
        }
        _ => {
            let mut buffer = [0; MESSAGE];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return stream.shutdown().await,
                    n => stream.write_all(&buffer[..n]).await?,
                }
            }
        }
    }
}

// --- the proxies -------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bare,
    Ccpgate,
}

/// A running proxy, killed when dropped.
struct Proxy {
    child: Child,
    route: Route,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    async fn start(kind: Kind, upstream: u16, folder: &Path) -> Result<Self, Failure> {
        let output = folder.join("output");
        let mut command = match kind {
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe()?);
                command.env("BARE_RELAY_UPSTREAM_PORT", upstream.to_string());
                command
            }
            Kind::Ccpgate => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ccpgate"));
                command.arg("serve").arg("-c").arg(configuration(upstream, folder)?);
                command
            }
        };
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&output)?).spawn()?;
        let mut proxy = Self { child, route: Route::new((Ipv4Addr::LOCALHOST, 0).into())? };
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.route.proxy.port() == 0 {
            let text = std::fs::read_to_string(&output)?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut listening = lines.filter(|l| l["event"] == "listening" && l["listener"] == "http");
            if let Some(address) = listening.find_map(|l| l["address"].as_str().map(str::to_owned)) {
                proxy.route.proxy = address.parse()?;
            } else if Instant::now() > deadline {
                return Err(format!("no proxy listens:\n{text}").into());
            } else {
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(proxy)
    }

    fn of_proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    /// CPU time of all threads. Unlike `stat`, which counts in 10 ms, this is in nanoseconds.
    fn cpu(&self) -> Result<Duration, Failure> {
        let mut sum = 0;
        for thread in std::fs::read_dir(self.of_proc("task"))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Proportional set size in bytes.
    fn pss(&self) -> Result<u64, Failure> {
        let text = std::fs::read_to_string(self.of_proc("smaps_rollup"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn descriptors(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(self.of_proc("fd"))?.count())
    }

    /// Waits until the tunnels that were closed are gone: no more descriptors than this, or, with
    /// 0, no fewer than a moment ago.
    async fn settle(&self, descriptors: usize) -> Result<(), Failure> {
        let (deadline, mut last) = (Instant::now() + Duration::from_secs(10), usize::MAX);
        loop {
            let now = self.descriptors()?;
            if now <= descriptors || descriptors == 0 && now == last {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{now} descriptors are left, {descriptors} were there before").into());
            }
            last = now;
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Everything on that costs something: ClientHello check, metrics, access log.
fn configuration(upstream: u16, folder: &Path) -> io::Result<PathBuf> {
    let mut text = String::from(
        "[proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connect]\nregions = [\"us-west-2\"]\n[log]\nformat = \"json\"\n\
         [limits]\nconnections = 30000\nconnections_per_client = 30000\n[egress.connect_to]\n",
    );
    for i in 1..=ADDRESSES {
        text.push_str(&format!("\"{}:443\" = \"127.0.0.{i}:{upstream}\"\n", host(i)));
    }
    let file = folder.join("ccpgate.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// One event loop for each core, as ccpgate has it, and nothing but copying.
fn bare_relay(upstream: u16) -> Result<(), Failure> {
    raise_descriptor_limit()?;
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    eprintln!(
        "{}",
        serde_json::json!({
            "event": "listening", "listener": "http", "address": listener.local_addr()?.to_string()
        })
    );
    let loops: Vec<_> = (0..std::thread::available_parallelism()?.get())
        .map(|_| {
            let listener = listener.try_clone()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(std::thread::spawn(move || {
                runtime.block_on(async move {
                    let listener = TcpListener::from_std(listener)?;
                    loop {
                        let (stream, _) = listener.accept().await?;
                        tokio::spawn(bare_tunnel(stream, upstream));
                    }
                })
            }))
        })
        .collect::<io::Result<_>>()?;
    for thread in loops {
        let ended: io::Result<()> = thread.join().map_err(|_| "an event loop panicked")?;
        ended?;
    }
    Ok(())
}

async fn bare_tunnel(mut client: TcpStream, port: u16) -> io::Result<()> {
    let mut head = [0; 1024];
    let n = client.read(&mut head).await?;
    // "CONNECT rtcN…": the digit says which of the upstream's addresses.
    let number = head[..n].get(11).map_or(1, |digit| digit - b'0');
    let address = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, number), port);
    let mut upstream = TcpStream::connect(SocketAddr::from(address)).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional_with_sizes(&mut client, &mut upstream, 16 << 10, 16 << 10).await?;
    Ok(())
}

// --- the table ---------------------------------------------------------------------------------

/// What each repetition found, by figure: the bare relay's and ccpgate's.
#[derive(Default)]
struct Table(Vec<(&'static str, [Vec<f64>; 2])>);

impl Table {
    fn add(&mut self, kind: Kind, figures: Figures) {
        for (name, value) in figures {
            let at = self.0.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
                self.0.push((name, Default::default()));
                self.0.len() - 1
            });
            self.0[at].1[kind as usize].push(value);
        }
    }

    fn print(mut self) {
        println!("| medians of {REPETITIONS} | bare relay | ccpgate | ratio |\n| --- | --- | --- | --- |");
        for (name, values) in &mut self.0 {
            let [bare, ours] = values.each_mut().map(|of_kind| {
                of_kind.sort_by(f64::total_cmp);
                of_kind[of_kind.len() / 2]
            });
            println!("| {name} | {bare:.2} | {ours:.2} | {:.2} |", ours / bare);
        }
    }
}
