//! How a stream ends: closed tabs, resets, half-closed directions, drains and time limits.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

use h2::Reason;
use http::{Method, Request};
use rustix::process::Signal;

use super::{OPEN, TARGET, active, connect_block};
use crate::support::h2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use crate::support::{
    Frames, H2, PATIENCE, Proxy, Secured, Upstream, assert_same_bytes, eventually, payload,
};

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
