//! Odd and oversized requests: what is wrong with one ends its own stream alone.

use h2::Reason;
use http::HeaderValue;

use super::{OPEN, TARGET, connect_block};
use crate::support::h2::{DATA, END_HEADERS, Frame, GOAWAY, HEADERS, RST_STREAM, connect_request};
use crate::support::{Frames, H2, Secured, Upstream};

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
        // Nor is one of no length: each of its bytes would be one too many (RFC 9113 §8.1.1).
        (vec![connect, good, ("content-length", "0")], true),
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
        let first = ask(&mut client, stream, &fields);
        match first.kind {
            HEADERS => assert!(answered && first.payload[0] == BAD_REQUEST, "{fields:?}: {first:?}"),
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
    proxy.metric_eventually("ccpgate_denied_total{reason=\"malformed\"}", 6.0);
}

/// Refused by an answer, or by a reset where it isn't even what the protocol's library can read.
#[test]
fn odd_targets_end_their_own_stream_alone() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let mut client = Frames::connect(&proxy, &secured.agent());
    client.request(1, 0, &[(":method", "CONNECT"), (":authority", TARGET)]);
    client.expect(HEADERS, 1);
    let mut stream = 3;
    for target in [
        "good.example",
        "good.example:",
        "good.example:0",
        "good.example:65536",
        "good.example:4294967739",
        "good.example:+443",
        "good.example:0443",
        "good.example:443:443",
        "good.example:443/",
        ":443",
        "user:pw@good.example:443",
        "good.example:443@evil.example:443",
        "[good.example]:443",
        "[fe80::1%25eth0]:443",
        "::1:443",
        "[::1]",
        "good..example:443",
        "good.example..:443",
        "%67ood.example:443",
        "g\u{f6}\u{f6}d.example:443",
        "good.example\0:443",
        "good'.example:443",
        "*.example:443",
        "https://good.example:443",
    ] {
        let first = ask(&mut client, stream, &[(":method", "CONNECT"), (":authority", target)]);
        match first.kind {
            HEADERS => assert_eq!(first.payload[0], BAD_REQUEST, "{target}: {first:?}"),
            kind => assert_eq!((kind, first.code()), (RST_STREAM, Reason::PROTOCOL_ERROR), "{target}"),
        }
        client.send(DATA, 0, 1, b"go on");
        assert_eq!(client.expect(DATA, 1).payload, b"go on", "{target} harmed the tunnel beside it");
        stream += 2;
    }
    assert_eq!(upstream.accepted(), 1, "nothing of all that was dialled");
}

/// A status of 400 in the static table of HPACK (RFC 7541, appendix A).
const BAD_REQUEST: u8 = 0x80 | 12;

/// Asks, and waits for the first frame on that stream; the connection must live.
fn ask(client: &mut Frames, stream: u32, fields: &[(&str, &str)]) -> Frame {
    client.request(stream, 0, fields);
    loop {
        let frame = client.next().unwrap_or_else(|| panic!("{fields:?} ended the connection"));
        assert_ne!(frame.kind, GOAWAY, "{fields:?} ended the connection: {:?}", frame.code());
        if frame.stream == stream {
            return frame;
        }
    }
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

/// At nine o'clock a limit may be exceeded for a moment, and a browser keeps its connection all day.
#[test]
fn a_connection_that_came_over_a_limit_is_answered_and_takes_no_more() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[limits]\nconnections_per_client = 1");
    let mut first = secured.agent().connect(&proxy);
    assert_eq!(first.connect_target(TARGET).status, 200);
    let mut over = Frames::connect(&proxy, &secured.agent());
    over.send(HEADERS, END_HEADERS, 1, &connect_block());
    let (mut answered, mut told) = (false, false);
    while !(answered && told) {
        let frame = over.next().expect("an answer, and a farewell");
        answered |= (frame.kind, frame.stream) == (HEADERS, 1);
        if frame.kind == GOAWAY {
            assert_eq!(frame.code(), Reason::NO_ERROR);
            told = true;
        }
    }
    first.finish();
    first.expect_closed();
    drop(over);
    proxy.metric_eventually(OPEN, 0.0);
    let mut anew = secured.agent().connect(&proxy);
    assert_eq!(anew.connect_target(TARGET).status, 200);
}
