//! Sixty tunnels on one HTTP/2 connection of which one stalls, and what that costs the others.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::{H2, H2Tunnel, Secured, Upstream, eventually};

const TARGET: &str = "good.example:443";

/// Round trips on tunnels of one connection, in microseconds, sorted.
async fn echo_times(tunnels: &mut [H2Tunnel], rounds: usize) -> Vec<u128> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        for tunnel in tunnels.iter_mut() {
            let begun = Instant::now();
            tunnel.expect_echo(&[7; 200]).await;
            times.push(begun.elapsed().as_micros());
        }
    }
    times.sort_unstable();
    times
}

/// One of 60 tunnels stalls and the others lose nothing. Returns p50 and p99 of a round trip on the
/// other 59, unstalled and stalled, in microseconds.
pub(crate) async fn stall(kind: &str, rounds: usize) -> [(u128, u128); 2] {
    let (end, ended) = channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    // The upstream obeys the first byte: to echo, to say more than anybody takes, or to read nothing.
    let upstream = Upstream::serve(move |mut stream| {
        let mut order = [0];
        if stream.read_exact(&mut order).is_err() {
            return;
        }
        match order[0] {
            b'e' => {
                let mut buffer = [0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            }
            b'w' => while stream.write_all(&[0; 64 * 1024]).is_ok() {},
            // Reads nothing until the test ends.
            _ => _ = ended.lock().unwrap().recv(),
        }
    });
    let secured = Secured::new();
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnels = Vec::new();
    for _ in 0..59 {
        let mut tunnel = client.tunnel(TARGET).await;
        tunnel.send(b"e").await.unwrap();
        tunnels.push(tunnel);
    }
    let mut stalled = client.tunnel(TARGET).await;
    echo_times(&mut tunnels, rounds / 4).await;
    let before = echo_times(&mut tunnels, rounds).await;
    match kind {
        "the client does not read" => stalled.send(b"w").await.unwrap(),
        _ => {
            stalled.send(b"s").await.unwrap();
            let stuck =
                tokio::time::timeout(Duration::from_millis(500), stalled.send(&vec![0; 64 << 20])).await;
            assert!(stuck.is_err(), "64 MiB vanished into buffers");
        }
    }
    // Until nothing of the stalled one moves any more.
    let moved = || proxy.metrics().sum("ccpgate_tunnel_bytes_total");
    let mut last = 0.0;
    eventually("the stall", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = moved();
        std::mem::replace(&mut last, now).eq(&now).then_some(())
    });
    let after = echo_times(&mut tunnels, rounds).await;
    assert_eq!(proxy.metrics().sum("ccpgate_tunnels_active"), 60.0, "all 60 still live");
    drop((stalled, end));
    [before, after].map(|times| (times[times.len() / 2], times[times.len() * 99 / 100]))
}
