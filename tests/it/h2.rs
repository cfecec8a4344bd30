//! HTTP/2 on the TLS listener: every stream is a tunnel that begins, ends and stalls alone, and no
//! flood of frames takes more than its own connection with it.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use h2::Reason;
use http::{HeaderValue, Method, Request};
use rustix::process::Signal;

use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, connect_request, header_block, soon,
};
use crate::support::{
    Frames, H2, H2Tunnel, PATIENCE, Proxy, Secured, Upstream, assert_same_bytes, eventually, handshakes,
    payload, stall,
};

const TARGET: &str = "good.example:443";
const OPEN: &str = "ccpgate_client_connections{listener=\"https\"}";

fn active(proxy: &Proxy) -> f64 {
    proxy.metric("ccpgate_tunnels_active{domain=\"good.example\",category=\"extra\"}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_share_one_connection_and_are_counted_each() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    // More than Chrome opens to an HTTP/1.1 proxy.
    let mut tunnels = Vec::new();
    for _ in 0..60 {
        tunnels.push(client.tunnel(TARGET).await);
    }
    assert_eq!(proxy.metric(OPEN), 1.0);
    assert_eq!(active(&proxy), 60.0);
    for (i, tunnel) in tunnels.iter_mut().enumerate() {
        tunnel.expect_echo(format!("this is {i}").as_bytes()).await;
    }
    let local = client.local.to_string();
    for mut tunnel in tunnels {
        tunnel.finish();
        assert_eq!(tunnel.read_to_end().await.unwrap(), b"");
    }
    eventually("all tunnels to end", || (active(&proxy) == 0.0).then_some(()));
    let ended = "ccpgate_tunnels_total{domain=\"good.example\",category=\"extra\",outcome=\"ok\"}";
    proxy.metric_eventually(ended, 60.0);
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["client"], local, "{line}");
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    assert_eq!(line["sent"], line["received"], "{line}");
    assert_eq!(handshakes(&proxy.metrics()), (1.0, 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bulk_goes_through_both_ways_at_once() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnel = client.tunnel(TARGET).await;
    for chunk in payload().chunks(300_000) {
        tunnel.expect_echo(chunk).await;
    }
    let series = "ccpgate_tunnel_bytes_total{domain=\"good.example\",category=\"extra\",direction=\"sent\"}";
    proxy.metric_eventually(series, payload().len() as f64);
}

/// What is wrong with a request ends its stream, by an answer or a reset, and nothing else.
#[test]
fn odd_requests_end_their_own_stream_alone() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    let connect = (":method", "CONNECT");
    let good = (":authority", TARGET);
    client.request(1, 0, &[connect, good]);
    client.expect(HEADERS, 1);
    client.send(DATA, 0, 1, b"before");
    assert_eq!(client.expect(DATA, 1).payload, b"before");
    let path = "/".repeat(20);
    let mut stream = 3;
    for (fields, answered) in [
        // RFC 9113 §8.5: a CONNECT has neither.
        (vec![connect, (":scheme", "https"), good], false),
        (vec![connect, (":path", "/"), good], false),
        (vec![connect, (":scheme", "https"), (":path", "/"), good], false),
        // Its target is nowhere else.
        (vec![connect], true),
        (vec![connect, ("host", TARGET)], true),
        (vec![connect, (":authority", "user@good.example:443")], true),
        (vec![connect, (":authority", "")], false),
        // RFC 8441, which this server has not offered.
        (vec![connect, (":protocol", "websocket"), (":scheme", "https"), (":path", "/chat"), good], false),
        // A body in a tunnel is none.
        (vec![connect, good, ("content-length", "1")], true),
        (vec![connect, good, ("content-length", "5")], true),
        (vec![connect, good, ("content-length", "x")], false),
        // RFC 9113 §8.2: connection-specific fields, repeated and late pseudo-fields. (Names in upper
        // case and unknown pseudo-fields end the connection, which §5.4.1 lets the h2 crate choose.)
        (vec![connect, good, ("transfer-encoding", "chunked")], false),
        (vec![connect, good, ("connection", "keep-alive")], false),
        (vec![connect, good, good], false),
        (vec![connect, ("x", "1"), good], false),
        (vec![(":status", "200"), connect, good], false),
        (vec![(":method", "GET"), (":path", path.as_str())], false),
    ] {
        client.request(stream, 0, &fields);
        let first = loop {
            let frame = client.next().unwrap_or_else(|| panic!("{fields:?} ended the connection"));
            assert_ne!(frame.kind, GOAWAY, "{fields:?} ended the connection: {:?}", frame.code());
            if frame.stream == stream {
                break frame;
            }
        };
        match first.kind {
            // A status of 400 is in the static table of HPACK (RFC 7541, appendix A: 12).
            HEADERS => assert!(answered && first.payload[0] == 0x80 | 12, "{fields:?}: {first:?}"),
            RST_STREAM => {
                assert!(!answered, "{fields:?}: {:?}", first.code());
                assert_eq!(first.code(), Reason::PROTOCOL_ERROR, "{fields:?}");
            }
            _ => panic!("{fields:?}: {first:?}"),
        }
        client.send(DATA, 0, 1, b"go on");
        assert_eq!(client.expect(DATA, 1).payload, b"go on", "{fields:?} harmed the tunnel beside it");
        stream += 2;
    }
    assert_eq!(upstream.accepted(), 1, "nothing of all that was dialled");
    proxy.metric_eventually("ccpgate_denied_total{reason=\"malformed\"}", 5.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connect_that_announces_a_body_fails_alone_and_is_told_why() {
    // Hyper ends the whole connection, and with it every call of the agent.
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut live = client.tunnel(TARGET).await;
    let mut request = connect_request(TARGET);
    request.headers_mut().insert("content-length", HeaderValue::from_static("1"));
    let (parts, _body) = client.ask(request, false).await.unwrap();
    assert_eq!(parts.status, 400);
    assert_eq!(parts.headers["proxy-status"], "ccpgate; error=http_request_error; details=\"malformed\"");
    live.expect_echo(b"the other tunnel lives").await;
    client.tunnel(TARGET).await.expect_echo(b"and new ones begin").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_header_that_is_too_large_is_told_so() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nrequest_header = \"8KiB\"");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut live = client.tunnel(TARGET).await;
    let padded = |size: usize| {
        let mut request = connect_request(TARGET);
        request.headers_mut().insert("x", HeaderValue::from_str(&"x".repeat(size)).unwrap());
        request
    };
    let (parts, mut tunnel) = client.ask(padded(7 * 1024), false).await.unwrap();
    assert_eq!(parts.status, 200);
    tunnel.expect_echo(b"just small enough").await;
    let (parts, _) = client.ask(padded(9 * 1024), false).await.unwrap();
    assert_eq!(parts.status, 431);
    assert_eq!(parts.headers["proxy-status"], "ccpgate; error=http_request_error; details=\"header_size\"");
    proxy.metric_eventually("ccpgate_denied_total{reason=\"header_size\"}", 1.0);
    // Far too large: refused by the protocol's own means, and still alone.
    match client.ask(padded(20 * 1024), false).await {
        Ok((parts, _)) => assert_eq!(parts.status, 431),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    live.expect_echo(b"the other tunnel lives").await;
}

#[test]
fn a_header_that_inflates_in_memory_is_refused() {
    // HPACK bomb: one field of 4,000 bytes goes into the table and is then named by one byte each.
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    let mut block = header_block(&[(":method", "CONNECT"), (":authority", TARGET)]);
    let field = header_block(&[("x-bomb", &"b".repeat(3900))]);
    block.push(0x40); // with indexing
    block.extend_from_slice(&field[1..]);
    block.extend([0x80 | 62; 10_000]);
    let before = proxy.metric("process_resident_memory_bytes");
    client.send(HEADERS, END_HEADERS, 1, &block);
    // Refused, or the connection with it.
    while let Some(frame) = client.next() {
        match (frame.kind, frame.stream) {
            (RST_STREAM, 1) | (GOAWAY, _) => break,
            // 431, spelled out.
            (HEADERS, 1) => {
                assert!(frame.payload.windows(3).any(|w| w == b"431"), "{frame:?}");
                break;
            }
            _ => {}
        }
    }
    let grown = proxy.metric("process_resident_memory_bytes") - before;
    assert!(grown < 16.0 * 1024.0 * 1024.0, "{grown} bytes");
    assert_eq!(upstream.accepted(), 0);
    H2Probe::new(&proxy, &secured).passes();
}

/// A client beside a flood, that must not notice it.
struct H2Probe<'a> {
    proxy: &'a Proxy,
    secured: &'a Secured,
}

impl<'a> H2Probe<'a> {
    fn new(proxy: &'a Proxy, secured: &'a Secured) -> Self {
        Self { proxy, secured }
    }

    fn passes(&self) {
        let begun = Instant::now();
        let mut client = self.secured.agent().connect(self.proxy);
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"unharmed");
        assert!(begun.elapsed() < Duration::from_secs(3), "served after {:?}", begun.elapsed());
    }
}

/// How a flood ended.
#[derive(Debug, PartialEq, Eq)]
enum Flooded {
    /// All frames were taken, and the connection lives.
    Survived,
    /// The proxy ended the connection; its GOAWAY may be lost to the reset that unread frames cause.
    Ended,
}

/// Floods one connection with `frames` made from numbers, until the proxy ends it or `count` is
/// reached; others are served meanwhile and afterwards, and memory is where it was.
fn flood(count: u32, frames: impl Fn(u32) -> Vec<u8>) -> Flooded {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    H2Probe::new(&proxy, &secured).passes();
    let before = proxy.metric("process_resident_memory_bytes");
    let mut client = Frames::connect(&proxy, &secured.agent());
    for batch in 0..count / 100 {
        let bytes: Vec<u8> = (0..100).flat_map(|i| frames(batch * 100 + i)).collect();
        client.send_bytes(&bytes);
        if batch % 50 == 0 {
            H2Probe::new(&proxy, &secured).passes();
        }
    }
    client.send(PING, 0, 0, b"are you?");
    let mut end = Flooded::Ended;
    while let Some(frame) = client.next() {
        if frame.kind == PING && frame.payload == b"are you?" {
            end = Flooded::Survived;
            break;
        }
    }
    H2Probe::new(&proxy, &secured).passes();
    drop(client);
    eventually("the tunnels to end", || (active(&proxy) == 0.0).then_some(()));
    proxy.metric_eventually(OPEN, 0.0);
    let grown = proxy.metric("process_resident_memory_bytes") - before;
    assert!(grown < 48.0 * 1024.0 * 1024.0, "{grown} bytes");
    end
}

fn connect_block() -> Vec<u8> {
    header_block(&[(":method", "CONNECT"), (":authority", TARGET)])
}

#[test]
fn rapid_resets_end_only_their_own_connection() {
    // CVE-2023-44487.
    let block = connect_block();
    flood(3000, |i| {
        let stream = 2 * i + 1;
        let mut bytes = Frame::encode(HEADERS, END_HEADERS, stream, &block);
        bytes.extend(Frame::encode(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        bytes
    });
}

#[test]
fn resets_that_the_server_is_made_to_send_are_limited() {
    // MadeYouReset, CVE-2025-8671: a WINDOW_UPDATE of 0 is an error of the stream.
    let block = connect_block();
    let end = flood(3000, |i| {
        let stream = 2 * i + 1;
        let mut bytes = Frame::encode(HEADERS, END_HEADERS, stream, &block);
        bytes.extend(Frame::encode(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
        bytes
    });
    assert_eq!(end, Flooded::Ended, "3000 errors were all forgiven");
}

#[test]
fn a_header_without_an_end_is_cut() {
    // CONTINUATION flood, RUSTSEC-2024-0332.
    let field = header_block(&[("x-flood", &"f".repeat(1000))]);
    let block = connect_block();
    let end = flood(5000, |i| match i {
        0 => Frame::encode(HEADERS, 0, 1, &block),
        _ => Frame::encode(CONTINUATION, 0, 1, &field),
    });
    assert_eq!(end, Flooded::Ended, "5 MB of one header were taken");
}

#[test]
fn floods_of_control_frames_are_survived() {
    flood(10_000, |i| Frame::encode(PING, 0, 0, &u64::from(i).to_be_bytes()));
    flood(10_000, |_| Frame::encode(SETTINGS, 0, 0, &[]));
    flood(10_000, |_| Frame::encode(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
}

#[test]
fn floods_of_empty_data_end_only_their_own_connection() {
    // RUSTSEC-2026-0258, of the h2 crate before 0.4.16.
    let block = connect_block();
    let end = flood(5000, |i| match i {
        0 => Frame::encode(HEADERS, END_HEADERS, 1, &block),
        _ => Frame::encode(DATA, 0, 1, &[]),
    });
    assert_eq!(end, Flooded::Ended, "5,000 empty frames were taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_small_messages_are_no_flood() {
    // h2#939: a guard against tiny frames that killed honest connections. A shift of heartbeats.
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnel = client.tunnel(TARGET).await;
    for _ in 0..150 {
        for _ in 0..100 {
            tunnel.send(b"tick").await.unwrap();
        }
        let got = soon("400 bytes", tunnel.read_exactly(400)).await;
        assert_same_bytes(&got, &b"tick".repeat(100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_over_the_limit_are_refused_and_the_others_live() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnels: Vec<H2Tunnel> = Vec::new();
    let first = client.tunnel(TARGET).await;
    tunnels.push(first);
    let allowed = client.allowed_streams();
    assert_eq!(allowed, 250, "as SETTINGS say");
    while tunnels.len() < allowed {
        tunnels.push(client.tunnel(TARGET).await);
    }
    // A client that keeps to the limit waits for room.
    let over = tokio::time::timeout(Duration::from_millis(300), client.connect_target(TARGET)).await;
    assert!(over.is_err(), "the 251st began");
    for tunnel in &mut tunnels {
        tunnel.expect_echo(b"live").await;
    }
    let mut last = tunnels.pop().unwrap();
    last.finish();
    last.read_to_end().await.unwrap();
    client.tunnel(TARGET).await.expect_echo(b"room again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_on_one_connection_count_against_the_limits() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nconnections_per_client = 3\n");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.tunnel(TARGET).await);
    }
    let (answer, _) = client.ask(connect_request(TARGET), false).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.headers["proxy-status"].to_str().unwrap().contains("connection_limit_reached"));
    for tunnel in &mut held {
        tunnel.expect_echo(b"live").await;
    }
    assert_eq!(proxy.metric("ccpgate_client_connections{listener=\"https\"}"), 1.0, "one connection");
}

#[test]
fn a_client_that_ignores_the_limit_is_refused_the_stream() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    let block = connect_block();
    for i in 0..250 {
        client.send(HEADERS, END_HEADERS, 2 * i + 1, &block);
    }
    client.send(HEADERS, END_HEADERS, 501, &block);
    assert_eq!(client.expect(RST_STREAM, 501).code(), Reason::REFUSED_STREAM);
    client.expect_alive();
    client.send(DATA, 0, 1, b"the first lives");
    assert_eq!(client.expect(DATA, 1).payload, b"the first lives");
}

/// An upstream that says how its connection ended.
fn witness() -> (Upstream, std::sync::mpsc::Receiver<Result<usize, std::io::ErrorKind>>) {
    let (say, hear) = channel();
    let upstream = Upstream::serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        let _ = say.send(stream.read(&mut [0; 1]).map_err(|error| error.kind()));
    });
    (upstream, hear)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_closed_tab_closes_its_upstream_at_once() {
    // RST_STREAM(CANCEL), which hyper reads as an orderly end of one direction.
    let (upstream, hear) = witness();
    let secured = Secured::new();
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tab = client.tunnel(TARGET).await;
    let mut other = client.tunnel(TARGET).await;
    assert_eq!(tab.read_exactly(5).await, b"hello");
    assert_eq!(other.read_exactly(5).await, b"hello");
    tab.reset(Reason::CANCEL);
    let ended = hear.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "a FIN would look like a clean end");
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"client_reset".into(), &"client".into()), "{line}");
    other.expect_silence(Duration::from_millis(50)).await;
    assert_eq!(active(&proxy), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_closed_tab_closes_even_an_upstream_that_takes_nothing() {
    let (say, hear) = channel();
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::serve(move |mut stream| {
        // Reads nothing until it is told that the tab has gone.
        let _ = wait.lock().unwrap().recv();
        let mut bytes = Vec::new();
        let _ = say.send(stream.read_to_end(&mut bytes).map_err(|error| error.kind()));
    });
    let secured = Secured::new();
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tab = client.tunnel(TARGET).await;
    let stuck = tokio::time::timeout(Duration::from_millis(500), tab.send(&vec![0; 64 << 20])).await;
    assert!(stuck.is_err(), "64 MiB vanished into buffers");
    tab.reset(Reason::CANCEL);
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["outcome"], "client_reset", "{line}");
    go.send(()).unwrap();
    assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tab_that_is_closed_while_its_target_is_dialled_is_noticed() {
    let blackhole = crate::support::Blackhole::new();
    let secured = Secured::new();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[egress]\nconnect_timeout = \"60s\"\n\
         [egress.connect_to]\n\"{TARGET}\" = \"{}\"\n{}",
        blackhole.address(),
        secured.section("")
    ));
    let mut client = Frames::connect(&proxy, &secured.agent());
    client.send(HEADERS, END_HEADERS, 1, &connect_block());
    client.expect_alive();
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["stage"]), (&"client_reset".into(), &"connect".into()), "{line}");
    client.expect_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upstreams_reset_is_a_connect_error() {
    // RFC 9113 §8.5; an END_STREAM would look like a clean end.
    let (upstream, secured) = (Upstream::resetter(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let (mut first, second) = (client.tunnel(TARGET).await, client.tunnel(TARGET).await);
    first.send(b"x").await.unwrap();
    assert_eq!(first.expect_reset().await, Some(Reason::CONNECT_ERROR));
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(
        (&line["outcome"], &line["ended_by"]),
        (&"upstream_reset".into(), &"upstream".into()),
        "{line}"
    );
    assert_eq!(active(&proxy), 1.0);
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_side_may_end_its_stream_first() {
    let secured = Secured::new();
    let listener = Upstream::answers_last(payload());
    let proxy = secured.start(&listener, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnel = client.tunnel(TARGET).await;
    tunnel.send(b"question").await.unwrap();
    tunnel.finish();
    assert_same_bytes(&tunnel.read_to_end().await.unwrap(), &payload());
    assert_eq!(listener.received(), b"question");

    let speaker = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = secured.start(&speaker, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnel = client.tunnel(TARGET).await;
    assert_eq!(tunnel.read_to_end().await.unwrap(), b"farewell", "END_STREAM came through");
    tunnel.send(&payload()).await.unwrap();
    tunnel.finish();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"upstream".into()), "{line}");
    assert_eq!(line["sent"], payload().len(), "{line}");
    eventually("all bytes", || (speaker.received().len() == payload().len()).then_some(()));
    assert_same_bytes(&speaker.received(), &payload());
}

#[test]
fn a_stream_that_ends_with_its_header_is_half_closed() {
    let (upstream, secured) = (Upstream::answers_last(b"answer".to_vec()), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &connect_block());
    client.expect(HEADERS, 1);
    assert_eq!(client.expect(DATA, 1).payload, b"answer");
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_browser_that_goes_takes_its_tunnels_along() {
    let (upstream, hear) = witness();
    let secured = Secured::new();
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    for stream in [1, 3, 5] {
        client.send(HEADERS, END_HEADERS, stream, &connect_block());
        client.expect(DATA, stream);
    }
    drop(client);
    for _ in 0..3 {
        hear.recv_timeout(PATIENCE).unwrap().unwrap_err();
    }
    eventually("the tunnels to end", || (active(&proxy) == 0.0).then_some(()));
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"client_reset".into(), &"client".into()), "{line}");
    proxy.metric_eventually(OPEN, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_a_drain_streams_go_on_and_no_new_ones_begin() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mut proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let (mut first, mut second) = (client.tunnel(TARGET).await, client.tunnel(TARGET).await);
    let idle = H2::connect(&proxy, &secured.agent()).await;
    let mut watcher = Frames::connect(&proxy, &secured.agent());
    watcher.send(HEADERS, END_HEADERS, 1, &connect_block());
    watcher.expect(HEADERS, 1);
    proxy.signal(Signal::TERM);
    let goaway = loop {
        match watcher.next() {
            Some(frame) if frame.kind == GOAWAY => break frame,
            Some(_) => {}
            None => panic!("no GOAWAY"),
        }
    };
    assert_eq!(goaway.code(), Reason::NO_ERROR);
    if let Err(error) = idle.ended().await {
        assert!(error.is_io(), "its own farewell may come too late, but no worse: {error}");
    }
    eventually("new streams to be refused", || {
        // The client has seen GOAWAY once it asks for no more.
        let asked = futures_util::FutureExt::now_or_never(client.connect_target(TARGET));
        matches!(asked, Some(Err(_))).then_some(())
    });
    first.expect_echo(b"still talking").await;
    first.finish();
    first.read_to_end().await.unwrap();
    second.expect_echo(b"and this one").await;
    second.finish();
    second.read_to_end().await.unwrap();
    drop(watcher);
    // Its own farewell may meet a process that has ended by then.
    let _ = client.ended().await;
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_the_end_of_the_drain_streams_are_cut() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mut proxy = secured.start(&upstream, "", "[limits]\ndrain = \"1s\"");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let tunnel = client.tunnel(TARGET).await;
    proxy.signal(Signal::TERM);
    tunnel.expect_reset().await;
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "drained");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_unused_connection_is_closed_in_time_and_a_used_one_is_not() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nheader_timeout = \"500ms\"");
    let mut used = H2::connect(&proxy, &secured.agent()).await;
    let mut tunnel = used.tunnel(TARGET).await;
    let unused = H2::connect(&proxy, &secured.agent()).await;
    // Told by GOAWAY, so that no request is lost that crosses it.
    if let Err(error) = unused.ended().await {
        assert!(error.is_io(), "its own farewell may come too late, but no worse: {error}");
    }
    tunnel.expect_echo(b"silent for longer than that").await;
    used.tunnel(TARGET).await.expect_echo(b"and able to begin").await;
    let request = Request::builder().method(Method::GET).uri("https://x/proxy.pac").body(()).unwrap();
    assert_eq!(used.ask(request, true).await.unwrap().0.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stalled_tunnel_does_not_hold_up_the_other_59() {
    // With hyper's windows no other tunnel of the connection could send a byte.
    for kind in ["the client does not read", "the upstream does not read"] {
        let [before, after] = stall(kind, 10).await;
        // A bound that a busy machine keeps; the figure itself is measured in `figures`.
        let bound = 5 * before.1 + 100_000;
        assert!(after.1 < bound, "{kind}: p99 {} µs, {} µs before the stall", after.1, before.1);
    }
}

/// Browsers hang up with CANCEL: behind the end of its upstream that is an orderly end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tab_that_hangs_up_behind_the_end_of_its_upstream_ends_ok() {
    for reason in [Some(Reason::CANCEL), Some(Reason::NO_ERROR), None] {
        let secured = Secured::new();
        let upstream = Upstream::finishes_first(b"farewell".to_vec());
        let proxy = secured.start(&upstream, "", "");
        let mut browser = H2::connect(&proxy, &secured.agent()).await;
        let mut tab = browser.tunnel(TARGET).await;
        assert_eq!(tab.read_to_end().await.unwrap(), b"farewell");
        match reason {
            Some(reason) => tab.reset(reason),
            // The whole browser goes.
            None => {
                drop(tab);
                browser.leave();
            }
        }
        let line = proxy.access_line("tunnel", TARGET);
        assert_eq!(
            (&line["outcome"], &line["ended_by"]),
            (&"ok".into(), &"upstream".into()),
            "{reason:?} {line}"
        );
    }
    // Any other reset is one.
    let secured = Secured::new();
    let upstream = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = secured.start(&upstream, "", "");
    let mut tab = H2::connect(&proxy, &secured.agent()).await.tunnel(TARGET).await;
    assert_eq!(tab.read_to_end().await.unwrap(), b"farewell");
    tab.reset(Reason::INTERNAL_ERROR);
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "client_reset");
}
