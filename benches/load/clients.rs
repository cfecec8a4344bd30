//! Both ends of the tunnels: clients that get to the upstream through a proxy, and the upstream, which
//! does what they say.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::Failure;

/// What each bulk tunnel carries, and what one message holds.
pub(crate) const BULK_BYTES: u64 = 1 << 30;
pub(crate) const MESSAGE: usize = 200;
/// Both ends spread over several loopback addresses, or 100,000 closed connections in TIME_WAIT
/// would use up the local ports.
pub(crate) const ADDRESSES: u8 = 8;

/// How a client gets to the upstream; what it says first is a real ClientHello.
#[derive(Clone)]
pub(crate) struct Route {
    pub proxy: SocketAddr,
    heads: Arc<[(String, Vec<u8>)]>,
}

impl Route {
    pub(crate) fn new(proxy: SocketAddr) -> Result<Self, Failure> {
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

    /// What tunnel number `number` says first: to the proxy, and through the tunnel.
    pub(crate) fn head(&self, number: usize) -> (&str, &[u8]) {
        let (head, hello) = &self.heads[number % self.heads.len()];
        (head, hello)
    }

    /// Tunnel number `number`, through which the upstream has been told what to do.
    pub(crate) async fn open(&self, number: usize, command: &[u8; 1]) -> Result<TcpStream, Failure> {
        let (head, hello) = self.head(number);
        let socket = TcpSocket::new_v4()?;
        let from = Ipv4Addr::new(127, 0, 1, 1 + (number / self.heads.len() % usize::from(ADDRESSES)) as u8);
        socket.bind(SocketAddr::from((from, 0)))?;
        let mut stream = socket.connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        enter(&mut stream, head, &[hello, &command[..]].concat()).await?;
        Ok(stream)
    }
}

/// Asks for a tunnel on a connection of its own, and says the first words in it.
pub(crate) async fn enter(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &str,
    first: &[u8],
) -> Result<(), Failure> {
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the proxy closed before it answered".into());
        }
    }
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    stream.write_all(first).await?;
    stream.flush().await?;
    Ok(())
}

pub(crate) fn host(i: u8) -> String {
    format!("rtc{i}.connect-telecom.us-west-2.amazonaws.com")
}

pub(crate) async fn echo(tunnel: &mut TcpStream, message: &[u8]) -> Result<(), Failure> {
    tunnel.write_all(message).await?;
    let mut back = vec![0; message.len()];
    tunnel.read_exact(&mut back).await?;
    if back == message { Ok(()) } else { Err("the echo differs".into()) }
}

pub(crate) async fn close(mut tunnel: TcpStream) -> Result<(), Failure> {
    tunnel.shutdown().await?;
    same(swallow(&mut tunnel).await?, 0)
}

pub(crate) async fn swallow(tunnel: &mut TcpStream) -> io::Result<u64> {
    let (mut sum, mut buffer) = (0, vec![0; 256 << 10]);
    loop {
        match tunnel.read(&mut buffer).await? {
            0 => return Ok(sum),
            n => sum += n as u64,
        }
    }
}

/// Sends all there is and learns how much of it arrived.
pub(crate) async fn pour(tunnel: &mut TcpStream) -> io::Result<u64> {
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

pub(crate) fn same(got: u64, wanted: u64) -> Result<(), Failure> {
    if got == wanted { Ok(()) } else { Err(format!("{got} bytes arrived, not {wanted}").into()) }
}

/// Listens on eight loopback addresses and one port; says which.
pub(crate) async fn upstream() -> io::Result<u16> {
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
