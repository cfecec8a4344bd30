//! The guard on a tunnel's first bytes, in streams: it takes a hello in any frames, and what it refuses ends
//! that stream alone.

use h2::Reason;

use super::{TARGET, connect_block};
use crate::support::h2::{DATA, END_HEADERS, HEADERS, RST_STREAM};
use crate::support::{
    Frames, H2, Proxy, Secured, Upstream, assert_same_bytes, client_hello, client_hello_without_name,
    eventually, records,
};

const GUARDED: &str = "[policy]\ntls = \"sni\"\n[limits]\nheader_timeout = \"1s\"";

fn begin(client: &mut Frames, stream: u32) {
    client.send(HEADERS, END_HEADERS, stream, &connect_block());
    client.expect(HEADERS, stream);
}

#[track_caller]
fn expect_received(upstream: &Upstream, expected: &[u8]) {
    eventually("the bytes", || (upstream.received().len() >= expected.len()).then_some(()));
    assert_same_bytes(&upstream.received(), expected);
}

fn outcome(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(&format!(
        "ccpgate_tunnels_total{{domain=\"good.example\",category=\"extra\",outcome=\"{outcome}\"}}"
    ))
}

#[test]
fn a_hello_in_any_frames_passes() {
    let (upstream, secured) = (Upstream::recorder(), Secured::new());
    let proxy = secured.start(&upstream, "", GUARDED);
    let mut client = Frames::connect(&proxy, &secured.agent());
    let hello = client_hello("good.example");
    let small = records(&hello, 1);
    let (mut stream, mut expected) = (1, Vec::new());
    for (bytes, size) in [(&hello, hello.len()), (&hello, 100), (&hello, 1), (&small, 333)] {
        begin(&mut client, stream);
        for piece in bytes.chunks(size) {
            client.send(DATA, 0, stream, piece);
        }
        expected.extend_from_slice(bytes);
        expect_received(&upstream, &expected);
        stream += 2;
    }
}

#[test]
fn what_is_no_hello_for_the_target_ends_its_stream_alone() {
    let (upstream, secured) = (Upstream::recorder(), Secured::new());
    let proxy = secured.start(&upstream, "", GUARDED);
    let mut client = Frames::connect(&proxy, &secured.agent());
    let hello = client_hello("good.example");
    begin(&mut client, 1);
    client.send(DATA, 0, 1, &hello);
    let mut expected = hello.clone();
    let mut stream = 3;
    for (bytes, word) in [
        (client_hello("evil.example"), "sni_mismatch"),
        (client_hello_without_name(), "sni_mismatch"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
        (b"\x17\x03\x03\x00\x05hello".to_vec(), "not_tls"),
        // Half of one, and silence.
        (hello[..100].to_vec(), "not_tls"),
        (Vec::new(), "not_tls"),
    ] {
        let before = outcome(&proxy, word);
        begin(&mut client, stream);
        if !bytes.is_empty() {
            client.send(DATA, 0, stream, &bytes);
        }
        assert_eq!(client.expect(RST_STREAM, stream).code(), Reason::CONNECT_ERROR, "{word}");
        eventually(word, || (outcome(&proxy, word) == before + 1.0).then_some(()));
        client.send(DATA, 0, 1, b"go on");
        expected.extend_from_slice(b"go on");
        expect_received(&upstream, &expected);
        stream += 2;
    }
}

/// A browser opens a tunnel in advance, doesn't need it, and drops it by itself or with all that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_that_is_dropped_before_its_first_byte_ended_ok() {
    for tls in ["sni", "tls", "off"] {
        let (upstream, secured) = (Upstream::recorder(), Secured::new());
        let proxy = secured.start(&upstream, "", &format!("[policy]\ntls = \"{tls}\""));
        for reason in [Some(Reason::CANCEL), Some(Reason::NO_ERROR), None] {
            let before = outcome(&proxy, "ok");
            let mut browser = H2::connect(&proxy, &secured.agent()).await;
            let tunnel = browser.tunnel(TARGET).await;
            match reason {
                Some(reason) => tunnel.reset(reason),
                None => {
                    drop(tunnel);
                    browser.leave();
                }
            }
            eventually("its end", || (outcome(&proxy, "ok") == before + 1.0).then_some(()));
        }
        // Any other reset is one, and so is a hang-up behind the first byte.
        let mut browser = H2::connect(&proxy, &secured.agent()).await;
        browser.tunnel(TARGET).await.reset(Reason::INTERNAL_ERROR);
        eventually("the reset", || (outcome(&proxy, "client_reset") == 1.0).then_some(()));
        let mut tunnel = browser.tunnel(TARGET).await;
        let hello = client_hello("good.example");
        tunnel.send(&hello).await.unwrap();
        expect_received(&upstream, &hello);
        tunnel.reset(Reason::CANCEL);
        eventually("the hang-up", || (outcome(&proxy, "client_reset") == 2.0).then_some(()));
        let line = proxy.access_line("tunnel", TARGET);
        assert_eq!((&line["outcome"], &line["ended_by"]), (&"ok".into(), &"client".into()), "{line}");
    }
}
