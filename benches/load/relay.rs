//! The bare relay beside which the proxy is measured: it checks, counts and logs nothing. It is this
//! very program, started once more with the upstream's port in `BARE_RELAY_UPSTREAM_PORT`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, raise_descriptor_limit};

/// One event loop for each core, as ccpgate has it, and nothing but copying.
pub(crate) fn run(upstream: u16) -> Result<(), Failure> {
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
                        tokio::spawn(tunnel(stream, upstream));
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

async fn tunnel(mut client: TcpStream, port: u16) -> io::Result<()> {
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
