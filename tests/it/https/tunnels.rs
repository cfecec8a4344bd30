//! Tunnels over TLS: their bytes, their ends, and the hello inside them.

use std::io::{Read, Write};

use rustix::process::Signal;
use serde_json::Value;

use super::{OPEN, TARGET};
use crate::support::{PATIENCE, Secured, Upstream, assert_same_bytes, client_hello, eventually, payload};

#[test]
fn a_tunnel_over_tls_is_counted_and_logged_as_any_other() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.expect_echo(&[7; 1000]);
    client.expect_echo(&[8; 234]);
    let series = |name: &str, label: &str| {
        format!("ccpgate_{name}{{domain=\"good.example\",category=\"extra\"{label}}}")
    };
    proxy.metric_eventually(&series("tunnels_active", ""), 1.0);
    proxy.metric_eventually(&series("tunnel_bytes_total", ",direction=\"sent\""), 1234.0);
    proxy.metric_eventually(&series("tunnel_bytes_total", ",direction=\"received\""), 1234.0);
    assert_eq!(proxy.metric(OPEN), 1.0);
    assert_eq!(proxy.metric("ccpgate_client_connections{listener=\"http\"}"), 0.0);
    client.finish();
    client.expect_closed();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    assert_eq!((&line["sent"], &line["received"]), (&1234.into(), &1234.into()), "{line}");
    assert_eq!(line["client"], client.local().to_string(), "{line}");
    assert_eq!(line["client_cert"], Value::Null, "{line}");
    proxy.metric_eventually(OPEN, 0.0);
    proxy.metric_eventually(&series("tunnels_total", ",outcome=\"ok\""), 1.0);
}

#[test]
fn bulk_goes_through_tls_both_ways_at_once() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    // Pieces that fit the sockets' buffers, since this client does one thing at a time.
    for chunk in payload().chunks(100_000) {
        client.expect_echo(chunk);
    }
    client.finish();
    client.expect_closed();
}

#[test]
fn each_side_may_close_its_direction_first() {
    let secured = Secured::new();
    let listener = Upstream::answers_last(payload());
    let proxy = secured.start(&listener, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.send("question");
    client.finish();
    assert_same_bytes(&client.read_to_end().unwrap(), &payload());
    assert_eq!(listener.received(), b"question");

    let speaker = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = secured.start(&speaker, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    assert_eq!(client.read_to_end().unwrap(), b"farewell");
    client.send(payload());
    client.finish();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"upstream".into()), "{line}");
    eventually("all bytes", || (speaker.received().len() == payload().len()).then_some(()));
    assert_same_bytes(&speaker.received(), &payload());
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() {
    let secured = Secured::new();
    let upstream = Upstream::resetter();
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.send("x");
    client.expect_reset();
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "upstream_reset");

    let (say, hear) = std::sync::mpsc::channel();
    let upstream = Upstream::serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        say.send(stream.read(&mut [0; 1]).map_err(|error| error.kind())).unwrap();
    });
    let proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    client.read_exactly(5);
    client.reset();
    let ended = hear.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "a FIN would look like a clean end");
    assert_eq!(proxy.access_line("tunnel", TARGET)["outcome"], "client_reset");
}

#[test]
fn the_hello_inside_the_tunnel_is_judged_as_ever() {
    let (upstream, secured) = (Upstream::recorder(), Secured::new());
    let proxy = secured.start(&upstream, "", "[policy]\ntls = \"sni\"");
    let hello = client_hello("good.example");
    let mut honest = secured.agent().connect(&proxy);
    assert_eq!(honest.connect_target(TARGET).status, 200);
    honest.send(&hello);
    eventually("the hello", || (upstream.received() == hello).then_some(()));
    let mut fronting = secured.agent().connect(&proxy);
    assert_eq!(fronting.connect_target(TARGET).status, 200);
    fronting.send(client_hello("other.example"));
    fronting.expect_gone();
    let line = proxy.log_line("the mismatch", |line| line["outcome"] == "sni_mismatch");
    assert_eq!(line["target"], TARGET, "{line}");
    assert_eq!(upstream.received(), hello, "nothing of the other hello arrived");
}

#[test]
fn live_tunnels_over_tls_run_on_at_a_drain() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let mut proxy = secured.start(&upstream, "", "");
    let mut client = secured.agent().connect(&proxy);
    assert_eq!(client.connect_target(TARGET).status, 200);
    let mut kept = secured.agent().connect(&proxy);
    kept.send("GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200);
    proxy.signal(Signal::TERM);
    kept.expect_closed();
    client.expect_echo(b"still talking");
    client.finish();
    client.expect_closed();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}
