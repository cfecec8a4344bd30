//! Floods of frames, as attacks on HTTP/2 send them: no more than the flooding connection ends, and
//! memory stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{OPEN, TARGET, active, connect_block};
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, header_block,
};
use crate::support::{Frames, Over, PATIENCE, Proxy, Secured, Upstream, eventually, have, on_one_processor};

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
    let end = flood(5000, |i| match i {
        0 => Frame::encode(HEADERS, 0, 1, &block),
        _ => Frame::encode(CONTINUATION, 0, 1, &[]),
    });
    assert_eq!(end, Flooded::Ended, "5,000 pieces of nothing were taken");
}

#[test]
fn floods_of_control_frames_are_survived() {
    flood(10_000, |i| Frame::encode(PING, 0, 0, &u64::from(i).to_be_bytes()));
    flood(10_000, |_| Frame::encode(SETTINGS, 0, 0, &[]));
    flood(10_000, |_| Frame::encode(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
    // A table of headers that grows and shrinks; priorities of streams that never were; no frame at all.
    flood(10_000, |i| Frame::encode(SETTINGS, 0, 0, &[0, 1, 0, 0, (i % 8) as u8, 0]));
    flood(10_000, |i| Frame::encode(PRIORITY, 0, 2 * i + 1, &[0, 0, 0, 0, 1]));
    flood(10_000, |_| Frame::encode(0x42, 0, 0, b"what?"));
    let block = connect_block();
    flood(10_000, |i| match i {
        0 => Frame::encode(HEADERS, END_HEADERS, 1, &block),
        _ => Frame::encode(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
    });
}

/// Frames of no known type cost a client nothing, and want no answer that it would have to read.
#[test]
fn a_flood_that_never_pauses_leaves_others_their_turn() {
    if !have("taskset") {
        return;
    }
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    // One worker, so that the flood and the others share it.
    let one = on_one_processor(env!("CARGO_BIN_EXE_ccpgate"));
    let proxy = Proxy::start_by(&secured.policy(&upstream, "", ""), one);
    let mut live = secured.agent().connect(&proxy);
    assert_eq!(live.connect_target(TARGET).status, 200);
    let mut flooding = Frames::connect(&proxy, &secured.agent());
    let over = AtomicBool::new(false);
    let frames = Frame::encode(0x42, 0, 0, b"what?").repeat(5000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flooding.send_bytes(&frames);
            }
        });
        let _over = Over(&over);
        let begun = Instant::now();
        for _ in 0..40 {
            live.expect_echo(b"unharmed");
        }
        let mut new = secured.agent().connect(&proxy);
        assert_eq!(new.connect_target(TARGET).status, 200);
        new.expect_echo(b"unharmed");
        assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    });
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
