//! Many tunnels on one connection: each carries its own bytes, is counted by itself, and neither the
//! limits nor a stalled neighbour mix them up.

use std::time::Duration;

use h2::Reason;
use h2::client::Builder;
use http::Request;

use super::{OPEN, TARGET, active, connect_block};
use crate::support::h2::{DATA, END_HEADERS, HEADERS, RST_STREAM, connect_request, soon};
use crate::support::{
    Frames, H2, H2Tunnel, Secured, Upstream, assert_same_bytes, eventually, handshakes, payload, stall,
};

/// So many tunnels over one connection.
async fn open(client: &mut H2, count: usize) -> Vec<H2Tunnel> {
    let mut tunnels = Vec::with_capacity(count);
    for _ in 0..count {
        tunnels.push(client.tunnel(TARGET).await);
    }
    tunnels
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_share_one_connection_and_are_counted_each() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    // More than Chrome opens to an HTTP/1.1 proxy.
    let mut tunnels = open(&mut client, 60).await;
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
    let mut held = open(&mut client, 3).await;
    let (answer, _) = client.ask(connect_request(TARGET), false).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.headers["proxy-status"].to_str().unwrap().contains("connection_limit_reached"));
    for tunnel in &mut held {
        tunnel.expect_echo(b"live").await;
    }
    assert_eq!(proxy.metric("ccpgate_client_connections{listener=\"https\"}"), 1.0, "one connection");
}

/// Else one client could heap up answers without bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_nobody_takes_has_its_place() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nconnections_per_client = 3\n");
    let mut no_byte = Builder::new();
    no_byte.initial_window_size(0);
    let mut client = H2::connect_with(proxy.https(), &secured.agent(), &no_byte).await;
    let page = || Request::get(format!("https://{}/check", proxy.https())).body(()).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let (answer, body) = client.ask(page(), true).await.unwrap();
        assert_eq!(answer.status, 200);
        held.push(body);
    }
    let (over, _) = client.ask(page(), true).await.unwrap();
    assert_eq!(over.status, 503);
    // Whoever drops one gives its place back.
    held.clear();
    let again = async { while client.ask(page(), true).await.unwrap().0.status != 200 {} };
    soon("a place", again).await;
}

/// A browser closes the tab that it opened first, and goes on with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whichever_tunnel_ends_gives_one_place_back() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nconnections_per_client = 3\n");
    let mut client = H2::connect(&proxy, &secured.agent()).await;
    let mut held = open(&mut client, 3).await;
    // The oldest, the newest, one in the middle, and all of them.
    for (ended, ends) in [&[0][..], &[2], &[1], &[0, 0], &[1, 1], &[0, 0, 0], &[0]].into_iter().enumerate() {
        for at in ends {
            let mut tunnel = held.remove(*at);
            tunnel.finish();
            tunnel.read_to_end().await.unwrap();
        }
        let left = held.len() as f64;
        eventually("the ends", || (active(&proxy) == left).then_some(()));
        while held.len() < 3 {
            let (answer, tunnel) = client.connect_target(TARGET).await.unwrap();
            assert_eq!(answer.status, 200, "round {ended}, {} tunnels", held.len());
            held.push(tunnel);
        }
        let (answer, _) = client.connect_target(TARGET).await.unwrap();
        assert_eq!(answer.status, 503, "round {ended}");
    }
    // Another connection's count begins at this one's, and nothing is left of it in the end.
    let mut other = H2::connect(&proxy, &secured.agent()).await;
    assert_eq!(other.connect_target(TARGET).await.unwrap().0.status, 503);
    drop((held, other));
    client.leave();
    proxy.metric_eventually("ccpgate_client_connections{listener=\"https\"}", 0.0);
    let mut held: Vec<H2> = Vec::new();
    for _ in 0..3 {
        let mut anew = H2::connect(&proxy, &secured.agent()).await;
        anew.tunnel(TARGET).await.expect_echo(b"anew").await;
        held.push(anew);
    }
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
