//! What a tunnel leaves behind: exact numbers, no descriptor, no memory, whichever way it ended.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Proxy, Raw, Secured, Upstream, assert_same_bytes, eventually, have, payload};

const TARGET: &str = "good.example:443";
const OPEN: &str = "ccpgate_client_connections{listener=\"http\"}";

fn proxy_to(upstream: &Upstream, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n{more}\n{}",
        upstream.for_targets(&[TARGET])
    ))
}

/// Asks for so many bytes with so many of its own; both are prefixes of one sequence.
fn trade(client: &mut Raw, bytes: &[u8], up: usize, down: usize) {
    client.send([(up as u64).to_be_bytes(), (down as u64).to_be_bytes()].concat());
    let (mut writer, own) = (client.stream().try_clone().unwrap(), bytes[..up].to_vec());
    let sending = thread::spawn(move || {
        writer.write_all(&own).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_same_bytes(&client.read_to_end().unwrap(), &bytes[..down]);
    sending.join().unwrap();
}

/// The other side of [`trade`].
fn trader() -> Upstream {
    let bytes = Arc::new(payload());
    Upstream::serve(move |mut stream| {
        let (mut up, mut down) = ([0; 8], [0; 8]);
        stream.read_exact(&mut up).unwrap();
        stream.read_exact(&mut down).unwrap();
        let (up, down) = (u64::from_be_bytes(up) as usize, u64::from_be_bytes(down) as usize);
        let (mut writer, own) = (stream.try_clone().unwrap(), bytes.clone());
        let sending = thread::spawn(move || {
            writer.write_all(&own[..down]).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_same_bytes(&got, &bytes[..up]);
        sending.join().unwrap();
    })
}

#[test]
fn log_and_metrics_know_the_exact_bytes_of_any_transfer() {
    let (upstream, bytes) = (trader(), payload());
    let proxy = proxy_to(&upstream, "");
    let sizes =
        [(0, 0), (1, 0), (0, 1), (32_767, 32_768), (65_536, 65_537), (1_234_567, 2_097_152), (2_000_003, 99)];
    let mut totals = (0, 0);
    for (up, down) in sizes {
        let mut client = proxy.tunnel(TARGET);
        let address = client.local().to_string();
        trade(&mut client, &bytes, up, down);
        let line =
            proxy.log_line("the tunnel", |line| line["event"] == "tunnel" && line["client"] == address);
        assert_eq!((&line["sent"], &line["received"]), (&(up + 16).into(), &down.into()), "{line}");
        assert_eq!(line["outcome"], "ok", "{line}");
        totals = (totals.0 + up + 16, totals.1 + down);
    }
    for (direction, total) in [("sent", totals.0), ("received", totals.1)] {
        let labels = format!("domain=\"good.example\",category=\"extra\",direction=\"{direction}\"");
        assert_eq!(proxy.metric(&format!("ccpgate_tunnel_bytes_total{{{labels}}}")), total as f64);
    }
}

#[test]
fn a_reset_of_the_upstream_in_the_middle_of_an_upload_is_a_reset_for_the_client() {
    // The kernel tells of a reset once, and the write may be the one that is told.
    let upstream = Upstream::serve(|mut stream| {
        let mut sink = vec![0; 300_000];
        stream.read_exact(&mut sink).unwrap();
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let proxy = proxy_to(&upstream, "");
    for _ in 0..20 {
        let client = proxy.tunnel(TARGET);
        let mut stream = client.stream();
        let chunk = vec![0; 50_000];
        let error = loop {
            if let Err(error) = stream.write_all(&chunk) {
                break error;
            }
        };
        // The kernel of this side, too, may have had several writes to tell.
        let kinds = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
    let series =
        "ccpgate_tunnels_total{domain=\"good.example\",category=\"extra\",outcome=\"upstream_reset\"}";
    proxy.metric_eventually(series, 20.0);
}

#[test]
fn resets_in_the_middle_of_bulk_leave_no_descriptor_behind() {
    // The first byte says who resets: the upstream after 2 MiB, or else the client.
    let upstream = Upstream::serve(|mut stream| {
        let mut who = [0];
        stream.read_exact(&mut who).unwrap();
        let chunk = vec![1; 1 << 20];
        for turn in 0.. {
            if turn == 2 && who == *b"u" {
                return set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
            if stream.write_all(&chunk).is_err() {
                return;
            }
        }
    });
    let proxy = proxy_to(&upstream, "");
    let round = |who: &[u8]| {
        let mut clients: Vec<Raw> = (0..30).map(|_| proxy.tunnel(TARGET)).collect();
        for client in &mut clients {
            client.send(who);
        }
        for mut client in clients {
            if who == b"c" {
                client.read_exactly(500_000);
                client.reset();
            } else {
                client.expect_reset();
            }
        }
    };
    round(b"c");
    proxy.metric_eventually(OPEN, 0.0);
    let settled = |sockets: usize| {
        eventually("sockets to be closed", || (proxy.descriptors().0 <= sockets).then_some(()))
    };
    // The admin listener's own connections come and go.
    thread::sleep(Duration::from_millis(200));
    let (sockets, _) = proxy.descriptors();
    for _ in 0..4 {
        round(b"c");
        round(b"u");
    }
    proxy.metric_eventually(OPEN, 0.0);
    settled(sockets);
    // A thread keeps 16 pipes at most, each with two ends.
    let (pipes, most) = (proxy.descriptors().1, 32 * proxy.threads());
    assert!(pipes <= most, "{pipes} ends of pipes, {most} may be pooled");
}

#[test]
fn tunnels_that_are_stuck_hold_bounded_memory_and_lose_nothing() {
    // Both ways at once, and what waited arrives in the end.
    let open = Arc::new(AtomicBool::new(false));
    let of_upstream = open.clone();
    let upstream = Upstream::serve(move |mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let pushing = thread::spawn(move || {
            writer.write_all(&payload().repeat(8)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        while !of_upstream.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_same_bytes(&got, &payload().repeat(8));
        pushing.join().unwrap();
    });
    let proxy = proxy_to(&upstream, "");
    let before = proxy.resident();
    let clients: Vec<Raw> = (0..12).map(|_| proxy.tunnel(TARGET)).collect();
    let sending: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut writer = client.stream().try_clone().unwrap();
            thread::spawn(move || {
                writer.write_all(&payload().repeat(8)).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            })
        })
        .collect();
    // Until nothing moves any more.
    let moved = || proxy.metrics().sum("ccpgate_tunnel_bytes_total");
    let mut last = -1.0;
    while moved() != last {
        last = moved();
        thread::sleep(Duration::from_millis(300));
    }
    let grown = proxy.resident().saturating_sub(before);
    // 12 tunnels with a read buffer of 64 KiB each way are 1.5 MiB.
    assert!(grown < 8 * 1024, "{grown} KiB for 12 tunnels that are stuck both ways");
    open.store(true, Ordering::SeqCst);
    for mut client in clients {
        assert_same_bytes(&client.read_to_end().unwrap(), &payload().repeat(8));
    }
    for sender in sending {
        sender.join().unwrap();
    }
}

#[test]
fn a_client_that_resets_behind_a_stuck_upload_frees_its_upstream() {
    reset_behind_a_stuck_upload(|proxy, _| proxy.connect());
}

#[test]
fn a_client_over_tls_that_resets_behind_a_stuck_upload_frees_its_upstream() {
    reset_behind_a_stuck_upload(|proxy, secured| secured.agent().connect(proxy));
}

fn reset_behind_a_stuck_upload(connect: impl FnOnce(&Proxy, &Secured) -> Raw) {
    let (say, hear) = std::sync::mpsc::channel();
    let told = Arc::new(AtomicBool::new(false));
    let of_upstream = told.clone();
    let upstream = Upstream::serve(move |mut stream| {
        while !of_upstream.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        let mut sink = vec![0; 1 << 20];
        let end = loop {
            match stream.read(&mut sink) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        say.send(end).unwrap();
    });
    let secured = Secured::new();
    let proxy = secured.start(&upstream, "", "");
    let mut client = connect(&proxy, &secured);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.stuff(&proxy);
    client.reset();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"client_reset".into(), &"client".into()), "{line}");
    told.store(true, Ordering::SeqCst);
    let end = hear.recv_timeout(crate::support::PATIENCE).unwrap();
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn without_a_descriptor_for_a_pipe_bytes_are_copied() {
    // What is left over is for a few pipes only, and every tunnel wants one.
    if !have("prlimit") {
        return;
    }
    const LIMIT: usize = 100;
    let bytes = Arc::new(payload().repeat(6));
    let of_upstream = bytes.clone();
    // Once asked, as far as it gets, and the rest when the client reads.
    let upstream = Upstream::serve(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(&of_upstream).unwrap();
    });
    let policy = format!("[[allow]]\npattern = \"good.example\"\n{}", upstream.for_targets(&[TARGET]));
    let proxy = Proxy::start_with_files(&policy, LIMIT as u32);
    let all = || std::fs::read_dir(format!("/proc/{}/fd", proxy.id().as_raw_nonzero())).unwrap().count();
    let tunnels = (LIMIT - all() - 6) / 2;
    let mut clients: Vec<Raw> = (0..tunnels).map(|_| proxy.tunnel(TARGET)).collect();
    clients.iter_mut().for_each(|client| client.send("?"));
    eventually("all descriptors to be in use", || (all() >= LIMIT - 1).then_some(()));
    for mut client in clients {
        assert_same_bytes(&client.read_to_end().unwrap(), &bytes);
    }
}

/// Opens a tunnel, exchanges a byte, and hands over the connection.
async fn exchange(proxy: SocketAddr, byte: u8) -> tokio::net::TcpStream {
    let mut client = tokio::net::TcpStream::connect(proxy).await.unwrap();
    client.write_all(b"CONNECT good.example:443 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = [0; 39];
    client.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\n"));
    client.write_all(&[byte]).await.unwrap();
    let mut echoed = [0];
    client.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, [byte]);
    client
}

/// An echo for more connections than there can be threads.
async fn echo_for_many() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte).await {
                    if stream.write_all(&byte).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
#[ignore = "needs 13,000 descriptors and a minute"]
fn thousands_at_once_and_a_hundred_thousand_in_turn_leave_nothing_behind() {
    const AT_ONCE: usize = 6_000;
    const IN_TURN: usize = 100_000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let upstream = runtime.block_on(echo_for_many());
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[log]\naccess = false\n[limits]\nconnections = 8000\n\
         connections_per_client = 8000\n[egress.connect_to]\n\"{TARGET}\" = \"{upstream}\""
    ));
    let address = proxy.http();
    let ended = |what: &str| {
        eventually(what, || (proxy.metric(OPEN) == 0.0).then_some(()));
        thread::sleep(Duration::from_millis(500));
        (proxy.descriptors(), proxy.resident())
    };
    let at_once = || {
        let clients: Vec<_> = (0..AT_ONCE).map(|i| runtime.block_on(exchange(address, i as u8))).collect();
        let peak = proxy.resident();
        assert_eq!(proxy.metric(OPEN), AT_ONCE as f64);
        drop(clients);
        peak
    };
    drop(runtime.block_on(exchange(address, 1)));
    let (fds, idle) = ended("the first tunnel to end");
    let first_peak = at_once();
    let (after_fds, after) = ended("thousands of tunnels to end");
    eprintln!("{idle} KiB idle, {first_peak} KiB with {AT_ONCE} tunnels, {after} KiB after them");
    assert_eq!(after_fds, fds);

    runtime.block_on(async {
        let workers = (0..64).map(|worker| {
            tokio::spawn(async move {
                for turn in 0..IN_TURN / 64 {
                    let client = exchange(address, turn as u8).await;
                    // Every other one by a reset.
                    if (turn + worker) % 2 == 0 {
                        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
    });
    let (after_fds, in_turn) = ended("the last of many tunnels to end");
    eprintln!("{in_turn} KiB after {IN_TURN} tunnels in turn");
    assert_eq!(after_fds, fds);
    assert!(in_turn < after + 4096, "{in_turn} KiB after {IN_TURN} tunnels, {after} KiB before them");

    let second_peak = at_once();
    let (after_fds, last) = ended("thousands of tunnels to end once more");
    eprintln!("{second_peak} KiB with {AT_ONCE} tunnels once more, {last} KiB after them");
    assert_eq!(after_fds, fds);
    assert!(second_peak < first_peak + first_peak / 10, "{second_peak} KiB, {first_peak} KiB the first time");
}
