//! The HTTPS listener: the same tunnels over HTTP/1.1, each with a TLS connection of its own, and over
//! HTTP/2, where a browser's are streams of one. Encryption costs the clients here what it costs the proxy:
//! what says something is the proxy's CPU.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::Request;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Failure;
use crate::clients::{BULK_BYTES, Route, enter, same};
use crate::proxy::{NAME, Proxy};
use crate::table::{Figures, Kind, Table};

const SETUPS: usize = 4_000;
const CONCURRENT: usize = 16;
/// Idle tunnels; a browser has forty on a connection.
const IDLE: usize = 1_000;
const EACH: usize = 40;
/// A browser's windows: a stream's, and a connection's.
const WINDOWS: [u32; 2] = [6 << 20, 15 << 20];

/// Measures both protocols and prints the table.
pub(crate) async fn measure(upstream: u16, folder: &Path, repetitions: usize) -> Result<(), Failure> {
    let mut table = Table::new(["HTTP/1.1", "HTTP/2"]);
    for _ in 0..repetitions {
        for (column, http2) in [false, true].into_iter().enumerate() {
            let proxy = Proxy::start(Kind::Secured, upstream, folder).await?;
            let agent = Arc::new(Agent::new(&proxy, folder, http2)?);
            table.add(column, setup(&proxy, &agent).await?);
            table.add(column, bulk(&proxy, &agent).await?);
            // What one load has freed, the next would be given: memory is measured in a fresh process.
            let proxy = Proxy::start(Kind::Secured, upstream, folder).await?;
            let agent = Arc::new(Agent::new(&proxy, folder, http2)?);
            table.add(column, idle(&proxy, &agent).await?);
        }
    }
    table.print(repetitions);
    Ok(())
}

/// A browser: its sessions, and how it speaks to the proxy.
struct Agent {
    connector: TlsConnector,
    route: Route,
    http2: bool,
}

/// A tunnel on either kind of connection.
enum Tunnel {
    Own(Box<TlsStream<TcpStream>>),
    Stream(SendStream<Bytes>, RecvStream),
}

/// Connections on which tunnels are opened; none where each has its own.
type Connection = Option<SendRequest<Bytes>>;

impl Agent {
    fn new(proxy: &Proxy, folder: &Path, http2: bool) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut &*std::fs::read(folder.join("proxy.pem"))?) {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { connector: Arc::new(config).into(), route: proxy.route.clone(), http2 })
    }

    async fn secure(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = TcpStream::connect(self.route.proxy).await?;
        stream.set_nodelay(true)?;
        Ok(self.connector.connect(ServerName::try_from(NAME)?, stream).await?)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        if !self.http2 {
            return Ok(None);
        }
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOWS[0]).initial_connection_window_size(WINDOWS[1]);
        let (sender, connection) = builder.handshake(self.secure().await?).await?;
        tokio::spawn(async move {
            // It ends with its last stream.
            let _ = connection.await;
        });
        Ok(Some(sender))
    }

    /// A tunnel through which the upstream has been told what to do.
    async fn open(&self, connection: &Connection, number: usize, command: u8) -> Result<Tunnel, Failure> {
        let (head, hello) = self.route.head(number);
        let first = [hello, &[command]].concat();
        let Some(sender) = connection else {
            let mut stream = self.secure().await?;
            enter(&mut stream, head, &first).await?;
            return Ok(Tunnel::Own(Box::new(stream)));
        };
        let authority = head.split(' ').nth(1).unwrap_or_default();
        let mut sender = sender.clone().ready().await?;
        let (answer, send) = sender.send_request(Request::connect(authority).body(())?, false)?;
        let answer = answer.await?;
        if answer.status() != 200 {
            return Err(format!("the proxy answered {}", answer.status()).into());
        }
        let mut tunnel = Tunnel::Stream(send, answer.into_body());
        tunnel.send(first.into()).await?;
        Ok(tunnel)
    }
}

impl Tunnel {
    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Failure> {
        match self {
            Self::Own(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Self::Stream(send, ..) => {
                while !bytes.is_empty() {
                    send.reserve_capacity(bytes.len());
                    if send.capacity() == 0 {
                        poll_fn(|cx| send.poll_capacity(cx)).await.ok_or("the stream ended")??;
                    }
                    let part = bytes.split_to(send.capacity().min(bytes.len()));
                    send.send_data(part, false)?;
                }
            }
        }
        Ok(())
    }

    /// Some bytes; none at the end.
    async fn receive(&mut self) -> Result<Bytes, Failure> {
        match self {
            Self::Own(stream) => {
                let mut buffer = Vec::with_capacity(256 << 10);
                stream.read_buf(&mut buffer).await?;
                Ok(buffer.into())
            }
            Self::Stream(_, receive) => match receive.data().await {
                None => Ok(Bytes::new()),
                Some(data) => {
                    let data = data?;
                    receive.flow_control().release_capacity(data.len())?;
                    Ok(data)
                }
            },
        }
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::Own(stream) => stream.shutdown().await?,
            Self::Stream(send, ..) => send.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }

    async fn echo(&mut self) -> Result<(), Failure> {
        self.send(Bytes::from_static(b"x")).await?;
        if self.receive().await? == "x" { Ok(()) } else { Err("the echo differs".into()) }
    }
}

/// Tunnels opened and closed, sixteen at once: those of HTTP/1.1 resume their agent's sessions.
async fn setup(proxy: &Proxy, agent: &Arc<Agent>) -> Result<Figures, Failure> {
    let connection = agent.connect().await?;
    let run = |count: usize| {
        let (agent, connection) = (agent.clone(), connection.clone());
        async move {
            let mut running = JoinSet::new();
            for worker in 0..CONCURRENT {
                let (agent, connection) = (agent.clone(), connection.clone());
                running.spawn(async move {
                    for number in 0..count / CONCURRENT {
                        let mut tunnel = agent.open(&connection, worker + number, b'E').await?;
                        tunnel.echo().await?;
                        tunnel.finish().await?;
                        same(tunnel.receive().await?.len() as u64, 0)?;
                    }
                    Ok::<_, Failure>(())
                });
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
            Ok::<_, Failure>(())
        }
    };
    run(SETUPS / 8).await?;
    let before = proxy.cpu()?;
    run(SETUPS).await?;
    Ok(vec![("CPU µs per tunnel", (proxy.cpu()? - before).as_secs_f64() * 1e6 / SETUPS as f64)])
}

/// A gibibyte through one tunnel, down and then up.
async fn bulk(proxy: &Proxy, agent: &Agent) -> Result<Figures, Failure> {
    let connection = agent.connect().await?;
    let mut figures = Vec::new();
    for (down, throughput, cost) in
        [(true, "down Gbit/s", "down CPU s/GB"), (false, "up Gbit/s", "up CPU s/GB")]
    {
        let mut tunnel = agent.open(&connection, 0, if down { b'S' } else { b'R' }).await?;
        let (before, started) = (proxy.cpu()?, Instant::now());
        let moved = if down {
            let mut sum = 0;
            loop {
                match tunnel.receive().await?.len() {
                    0 => break sum,
                    n => sum += n as u64,
                }
            }
        } else {
            let buffer = Bytes::from(vec![7; 256 << 10]);
            for _ in 0..BULK_BYTES / buffer.len() as u64 {
                tunnel.send(buffer.clone()).await?;
            }
            tunnel.finish().await?;
            u64::from_be_bytes(tunnel.receive().await?.as_ref().try_into()?)
        };
        let (cpu, took) = (proxy.cpu()? - before, started.elapsed());
        same(moved, BULK_BYTES)?;
        figures.push((throughput, BULK_BYTES as f64 * 8.0 / 1e9 / took.as_secs_f64()));
        figures.push((cost, cpu.as_secs_f64() / (BULK_BYTES as f64 / 1e9)));
    }
    Ok(figures)
}

/// What tunnels hold that have fallen silent after a message each way, with their share of a connection.
async fn idle(proxy: &Proxy, agent: &Agent) -> Result<Figures, Failure> {
    drop(open_all(agent, EACH).await?);
    proxy.settle(0).await?;
    let before = proxy.pss()?;
    let tunnels = open_all(agent, IDLE).await?;
    let held = proxy.pss()?.saturating_sub(before);
    drop(tunnels);
    Ok(vec![("KiB per idle tunnel", held as f64 / 1024.0 / IDLE as f64)])
}

async fn open_all(agent: &Agent, count: usize) -> Result<Vec<(Connection, Tunnel)>, Failure> {
    let mut tunnels: Vec<(Connection, Tunnel)> = Vec::with_capacity(count);
    for number in 0..count {
        let connection = match tunnels.last() {
            Some((connection, _)) if number % EACH > 0 => connection.clone(),
            _ => agent.connect().await?,
        };
        let mut tunnel = agent.open(&connection, number, b'E').await?;
        tunnel.echo().await?;
        tunnels.push((connection, tunnel));
    }
    Ok(tunnels)
}
