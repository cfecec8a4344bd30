//! The whole proxy under load, and beside it, in the same run, a bare relay that checks, counts and
//! logs nothing. Machines drift, so it is the ratio between the two that says something.
//!
//! `cargo bench --bench load` measures everything in about five minutes;
//! `cargo bench --bench load -- setup messages` only what is named; `secured` is the HTTPS listener, over
//! HTTP/1.1 and HTTP/2. All traffic is on loopback:
//! this process is the clients and the upstream, the proxies are processes of their own.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod clients;
mod proxy;
mod relay;
mod secured;
mod table;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::interval_at;

use clients::{BULK_BYTES, MESSAGE, close, echo, pour, same, swallow, upstream};
use proxy::Proxy;
use table::{Figures, Kind, Table};

const REPETITIONS: usize = 3;
const SETUPS: usize = 20_000;
const CONCURRENT: usize = 64;
const BULK_TUNNELS: usize = 4;
const IDLE_TUNNELS: usize = 4_000;
const TALKING_TUNNELS: usize = 500;
const MESSAGES_EACH: usize = 50;
const MESSAGE_EVERY: Duration = Duration::from_millis(100);
const CHURNED: usize = 100_000;
const OPEN_AT_ONCE: usize = 6_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    if let Ok(upstreams) = std::env::var("BARE_RELAY_UPSTREAM_PORT") {
        return relay::run(upstreams.parse()?);
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
        let mut table = Table::new(["bare relay", "ccpgate"]);
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
                    table.add(kind as usize, figures);
                }
            }
        }
        table.print(REPETITIONS);
        if named("secured") {
            secured::measure(upstream, folder.path(), REPETITIONS).await?;
        }
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
