//! What happens inside a tunnel: every byte arrives, in order, in both directions; each way of
//! ending it looks the same on the far side; metrics and log know the exact numbers.

use std::io::{Read, Write};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::support::{
    Authority, Dns, Proxy, Raw, Refusing, Reply, Upstream, assert_same_bytes, eventually, payload,
};

const TARGET: &str = "good.example:443";
const CONNECT: &str = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n";

fn proxy_to(upstream: &Upstream, more: &str) -> Proxy {
    Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n{more}\n{}",
        upstream.for_targets(&[TARGET])
    ))
}

fn series(name: &str, label: &str) -> String {
    format!("{name}{{domain=\"good.example\",category=\"extra\"{label}}}")
}

#[track_caller]
fn expect_outcome(proxy: &Proxy, outcome: &str) -> serde_json::Value {
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["outcome"], outcome, "{line}");
    proxy.metric_eventually(&series("ccpgate_tunnels_total", &format!(",outcome=\"{outcome}\"")), 1.0);
    line
}

#[test]
fn bytes_go_through_and_are_counted_exactly() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "");
    for direction in ["sent", "received"] {
        let label = format!(",direction=\"{direction}\"");
        assert_eq!(proxy.metric(&series("ccpgate_tunnel_bytes_total", &label)), 0.0, "there from the start");
    }
    let mut client = proxy.tunnel(TARGET);
    client.expect_echo(&[7; 1000]);
    client.expect_echo(&[8; 234]);

    // Gauges and bytes move while the tunnel lives.
    proxy.metric_eventually(&series("ccpgate_tunnels_active", ""), 1.0);
    proxy.metric_eventually(&series("ccpgate_tunnel_bytes_total", ",direction=\"sent\""), 1234.0);
    proxy.metric_eventually(&series("ccpgate_tunnel_bytes_total", ",direction=\"received\""), 1234.0);
    assert_eq!(proxy.metric("ccpgate_client_connections{listener=\"http\"}"), 1.0);
    let address = client.local();
    client.finish();
    client.expect_closed();

    let line = expect_outcome(&proxy, "ok");
    assert_eq!(line["client"], address.to_string(), "{line}");
    assert_eq!(line["domain"], "good.example", "{line}");
    assert_eq!(line["category"], "extra", "{line}");
    assert_eq!(line["upstream"], upstream.address().to_string(), "{line}");
    assert_eq!((&line["sent"], &line["received"]), (&1234.into(), &1234.into()), "{line}");
    assert_eq!(line["ended_by"], "client", "{line}");
    for key in ["id", "time", "dns_ms", "connect_ms", "duration_ms", "stage", "would_deny", "client_cert"] {
        assert!(line.get(key).is_some(), "no {key} in {line}");
    }
    assert!(line.get("reason").is_none() || line["reason"].is_null(), "{line}");
    proxy.metric_eventually(&series("ccpgate_tunnels_active", ""), 0.0);
    proxy.metric_eventually("ccpgate_client_connections{listener=\"http\"}", 0.0);
    for name in ["ccpgate_tunnel_duration_seconds_count", "ccpgate_first_byte_seconds_count"] {
        assert_eq!(proxy.metric(&format!("{name}{{category=\"extra\"}}")), 1.0, "{name}");
    }
    assert_eq!(proxy.metric(&series("ccpgate_connect_duration_seconds_count", "")), 1.0);
}

#[test]
fn early_data_comes_first_and_in_order() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}first "));
    assert_eq!(client.read_answer_to_connect().status, 200);
    client.send("second");
    assert_eq!(client.read_exactly(12), b"first second");
}

#[test]
fn a_pipelined_connect_is_tunnel_data() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "");
    let second = "CONNECT evil.example:443 HTTP/1.1\r\n\r\n";
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}{second}"));
    assert_eq!(client.read_answer_to_connect().status, 200);
    assert_eq!(client.read_exactly(second.len()), second.as_bytes());
    assert_eq!(proxy.metrics().sum("ccpgate_denied_total"), 0.0);
}

#[test]
fn ten_mebibytes_of_early_data_arrive() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "");
    let early = payload().repeat(5);
    let mut client = proxy.connect();
    let mut writer = client.stream().try_clone().unwrap();
    let sent = early.clone();
    let sender = std::thread::spawn(move || {
        writer.write_all(CONNECT.as_bytes()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    assert_eq!(client.read_answer_to_connect().status, 200);
    assert_same_bytes(&client.read_exactly(early.len()), &early);
    sender.join().unwrap();
}

#[test]
fn early_data_before_the_answer_is_held_back_at_the_client() {
    // While the target is dialled, a buffer fills and then the client waits.
    let blackhole = crate::support::Blackhole::new();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[egress.connect_to]\n\"{TARGET}\" = \"{}\"",
        blackhole.address()
    ));
    let mut client = proxy.connect();
    client.send(CONNECT);
    client.stuff(&proxy);
}

#[test]
fn early_data_of_a_dial_that_fails_goes_nowhere() {
    let refusing = Refusing::new();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[egress.connect_to]\n\"{TARGET}\" = \"{}\"",
        refusing.address()
    ));
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n"));
    let answer = client.read_answer_to_connect();
    assert_eq!(answer.status, 502, "{}", answer.head);
    client.expect_closed();
}

#[test]
fn after_the_clients_fin_two_mebibytes_still_come_back() {
    let upstream = Upstream::answers_last(payload());
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    client.send("question");
    client.finish();
    assert_same_bytes(&client.read_to_end().unwrap(), &payload());
    assert_eq!(upstream.received(), b"question");
    let line = expect_outcome(&proxy, "ok");
    assert_eq!(line["received"], payload().len(), "{line}");
}

#[test]
fn after_the_upstreams_fin_two_mebibytes_still_go_up() {
    let upstream = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_to_end().unwrap(), b"farewell", "the upstream's FIN came through");
    client.send(payload());
    client.finish();
    let line = expect_outcome(&proxy, "ok");
    assert_eq!(line["sent"], payload().len(), "{line}");
    assert_eq!(line["ended_by"], "upstream", "{line}");
    eventually("all bytes", || (upstream.received().len() == payload().len()).then_some(()));
    assert_same_bytes(&upstream.received(), &payload());
}

#[test]
fn an_answer_in_the_middle_of_an_upload_is_delivered() {
    // The upstream answers and closes without reading what the client is still sending.
    let upstream = Upstream::serve(|mut stream| {
        stream.read_exact(&mut [0; 1024]).unwrap();
        stream.write_all(b"enough").unwrap();
    });
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    client.send(vec![0; 1024]);
    assert_eq!(client.read_exactly(6), b"enough");
    // What the client sends now may fail; the answer is already here.
    client.send(vec![0; 64 * 1024]);
    client.finish();
    let _ = client.read_to_end();
    proxy.access_line("tunnel", TARGET);
}

#[test]
fn nothing_is_lost_when_either_side_closes_right_behind_its_last_bytes() {
    let bytes = payload()[..30_000].to_vec();
    let of_server = bytes.clone();
    let upstream = Upstream::serve(move |mut stream| stream.write_all(&of_server).unwrap());
    let proxy = proxy_to(&upstream, "");
    for _ in 0..20 {
        let mut client = proxy.tunnel(TARGET);
        assert_same_bytes(&client.read_to_end().unwrap(), &bytes);
    }
    let recorder = Upstream::recorder();
    let proxy = proxy_to(&recorder, "");
    for _ in 0..20 {
        let mut client = proxy.tunnel(TARGET);
        client.send(&bytes);
    }
    eventually("all bytes", || (recorder.received().len() == 20 * bytes.len()).then_some(()));
}

#[test]
fn a_reset_of_the_upstream_is_a_reset_for_the_client() {
    let upstream = Upstream::resetter();
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    client.send("x");
    client.expect_reset();
    let line = expect_outcome(&proxy, "upstream_reset");
    assert_eq!((&line["ended_by"], &line["stage"]), (&"upstream".into(), &"relay".into()), "{line}");
}

#[test]
fn a_reset_of_the_client_is_a_reset_for_the_upstream() {
    let (say, hear) = std::sync::mpsc::channel();
    let upstream = Upstream::serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        say.send(stream.read(&mut [0; 1]).map_err(|error| error.kind())).unwrap();
    });
    let proxy = proxy_to(&upstream, "");
    let mut client = proxy.tunnel(TARGET);
    client.read_exactly(5);
    client.reset();
    let ended = hear.recv_timeout(crate::support::PATIENCE).unwrap();
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset), "a FIN would look like a clean end");
    let line = expect_outcome(&proxy, "client_reset");
    assert_eq!(line["ended_by"], "client", "{line}");
}

#[test]
fn a_half_closed_tunnel_that_stays_silent_ends() {
    let upstream = Upstream::finishes_first(b"farewell".to_vec());
    let proxy = proxy_to(&upstream, "[limits]\nhalf_closed = \"500ms\"");
    let mut client = proxy.tunnel(TARGET);
    assert_eq!(client.read_to_end().unwrap(), b"farewell");
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!(line["ended_by"], "proxy", "{line}");
    proxy.metric_eventually(&series("ccpgate_tunnels_active", ""), 0.0);
}

#[test]
fn idle_timeout_ends_silent_tunnels_only_when_it_is_set() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "[limits]\nidle_timeout = \"1500ms\"");
    let mut client = proxy.tunnel(TARGET);
    // Longer than the limit altogether, each pause far shorter, so that a busy machine keeps it.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(300));
        client.expect_echo(b"busy");
    }
    client.expect_gone();
    let line = expect_outcome(&proxy, "idle_timeout");
    assert_eq!(line["ended_by"], "proxy", "{line}");

    let proxy = proxy_to(&upstream, "[limits]\nheader_timeout = \"300ms\"");
    let mut client = proxy.tunnel(TARGET);
    client.expect_silence(Duration::from_millis(1500));
    client.expect_echo(b"the CCP's WebSockets may be silent");
}

#[test]
fn a_side_that_does_not_read_holds_up_nobody_else() {
    let upstream = Upstream::echo();
    let proxy = proxy_to(&upstream, "");
    let mut stuck = proxy.tunnel(TARGET);
    // As far as the upstream, which echoes into a client that never reads, and back.
    stuck.stuff(&proxy);
    let mut other = proxy.tunnel(TARGET);
    other.expect_echo(b"not held up");
}

#[test]
fn a_client_that_leaves_while_its_target_is_dialled_is_noticed() {
    let blackhole = crate::support::Blackhole::new();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[egress]\nconnect_timeout = \"60s\"\n[egress.connect_to]\n\"{TARGET}\" = \"{}\"",
        blackhole.address()
    ));
    let mut client = proxy.connect();
    client.send(CONNECT);
    eventually("the dial", || blackhole.is_dialled().then_some(()));
    client.reset();
    let line = expect_outcome(&proxy, "client_reset");
    assert_eq!(line["stage"], "connect", "{line}");
    proxy.metric_eventually("ccpgate_client_connections{listener=\"http\"}", 0.0);
}

#[test]
fn a_client_that_leaves_while_its_target_is_looked_up_is_noticed() {
    let dns = Dns::start();
    dns.set_otherwise(Reply::Mute);
    let servers = format!("[dns]\nservers = [\"{}\"]\ntimeout = \"60s\"", dns.address());
    let proxy = Proxy::start(&format!("[[allow]]\npattern = \"good.example\"\n{servers}"));
    let mut client = proxy.connect();
    client.send(CONNECT);
    eventually("the question", || (!dns.asked().is_empty()).then_some(()));
    client.reset();
    let line = expect_outcome(&proxy, "client_reset");
    assert_eq!((&line["stage"], &line["ended_by"]), (&"dns".into(), &"client".into()), "{line}");
    proxy.metric_eventually("ccpgate_client_connections{listener=\"http\"}", 0.0);
}

#[test]
fn tls_goes_through_end_to_end() {
    let authority = Authority::new();
    let upstream = authority.echo(&["good.example"]);
    let proxy = proxy_to(&upstream, "");
    let mut tls = tls_over(proxy.tunnel(TARGET), &authority);
    tls.write_all(&payload()[..100_000]).unwrap();
    let mut got = vec![0; 100_000];
    tls.read_exact(&mut got).unwrap();
    assert_same_bytes(&got, &payload()[..100_000]);
}

#[test]
fn websocket_messages_go_through() {
    let authority = Authority::new();
    let upstream = authority.websocket_echo(&["good.example"]);
    let proxy = proxy_to(&upstream, "");
    let tls = tls_over(proxy.tunnel(TARGET), &authority);
    let (mut socket, _) = tungstenite::client("wss://good.example/", tls).unwrap();
    for message in [Message::text("hello"), Message::binary(payload()), Message::text("")] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "a message came back changed");
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    expect_outcome(&proxy, "ok");
}

fn tls_over(tunnel: Raw, authority: &Authority) -> StreamOwned<ClientConnection, Raw> {
    let name = ServerName::try_from("good.example").unwrap();
    StreamOwned::new(ClientConnection::new(authority.client(), name).unwrap(), tunnel)
}
