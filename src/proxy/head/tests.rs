//! Heads as browsers, old softphones and attackers send them: whole, cut anywhere, too long, and
//! with something behind them.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

const LIMIT: usize = 16 * 1024;
const ORDINARY: &str = "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n";

fn whole(bytes: impl AsRef<[u8]>) -> Option<Head> {
    parse(bytes.as_ref(), LIMIT)
}

#[track_caller]
fn request(bytes: impl AsRef<[u8]>) -> (Request, Vec<u8>) {
    match whole(bytes) {
        Some(Head::Request(request, rest)) => (request, rest),
        other => panic!("no request: {other:?}"),
    }
}

fn malformed(bytes: impl AsRef<[u8]>) -> bool {
    matches!(whole(bytes), Some(Head::Bad(HeadError::Malformed(_))))
}

fn with(fields: &str) -> String {
    format!("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")
}

/// Reads a head that comes in these segments; the stream stays open behind them.
fn in_segments(segments: &[&[u8]], limit: usize) -> Option<Head> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut reader = Reader::default();
        for segment in segments.iter().filter(|s| !s.is_empty()) {
            far.write_all(segment).await.unwrap();
            // Takes what is there and no more: as a socket that is read before the next segment.
            tokio::select! {
                biased;
                head = reader.read(&mut near, limit) => return Some(head.unwrap()),
                () = std::future::ready(()) => {}
            }
        }
        None
    })
}

/// Without the words, which may depend on where an error was seen first.
fn outline(head: Option<&Head>) -> String {
    match head {
        Some(Head::Bad(HeadError::Malformed(_))) => "malformed".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn what_a_request_asks_for() {
    let (asked, rest) = request(ORDINARY);
    assert_eq!((&*asked.method, &*asked.target), ("CONNECT", "good.example:443"));
    assert!(asked.host.is_none() && !asked.body && !asked.close && rest.is_empty());

    let (old, _) = request("CONNECT good.example:443 HTTP/1.0\r\n\r\n");
    assert!(old.close && old.host.is_none());
    let (own, _) = request("GET /proxy.pac HTTP/1.1\r\nHost: proxy.corp:3128\r\n\r\n");
    assert_eq!(own.host.as_deref(), Some("proxy.corp:3128"));
    // Of two Hosts neither decides anything.
    let (twice, _) = request(with("Host: evil.example"));
    assert_eq!(&*twice.target, "good.example:443");
    for (field, close) in [
        ("Connection: close", true),
        ("connection: keep-alive , CLOSE", true),
        ("Connection: keep-alive\r\nConnection: close", true),
        ("Connection: closed", false),
        ("Proxy-Connection: close", false),
        ("Connection: keep-alive", false),
    ] {
        assert_eq!(request(with(field)).0.close, close, "{field}");
    }
    for (field, body) in [
        ("Content-Length: 0", false),
        ("Content-Length: 000", false),
        ("Content-Length:  0 ", false),
        ("Content-Length: 5", true),
        ("CONTENT-LENGTH: 18446744073709551616", true),
        ("Transfer-Encoding: chunked", true),
        ("transfer-encoding: identity", true),
        ("Transfer-Encoding:", true),
        ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", true),
        ("X-Content-Length: 5", false),
    ] {
        assert_eq!(request(with(field)).0.body, body, "{field}");
    }
}

#[test]
fn what_cannot_be_parsed_is_malformed() {
    for line in [
        "CONNECT  good.example:443 HTTP/1.1",
        "CONNECT good.example:443  HTTP/1.1",
        "CONNECT\tgood.example:443 HTTP/1.1",
        "CONNECT good.example:443\tHTTP/1.1",
        "CONNECT good.example:443 HTTP/1.1 ",
        "CONNECT good.example:443 HTTP/1.1\rX: y",
        " CONNECT good.example:443 HTTP/1.1",
        "CONNECT good.example:443",
        "CONNECT good.example:443 ",
        "CONNECT good.example:443 HTTP/1.2",
        "CONNECT good.example:443 HTTP/2.0",
        "CONNECT good.example:443 HTTP/11.1",
        "CONNECT good.example:443 HTTP/0.9",
        "CONNECT good.example:443 http/1.1",
        "CONNECT good.example:443 HTTP/1",
        "CONNECT good.exa\0mple:443 HTTP/1.1",
        "CONNECT good.exa\x7fmple:443 HTTP/1.1",
        "CON\u{e9}NECT good.example:443 HTTP/1.1",
        "CON(NECT good.example:443 HTTP/1.1",
        "CONNECT",
        "CONNECT ",
        "nonsense",
    ] {
        assert!(malformed(format!("{line}\r\nHost: x\r\n\r\n")), "{line:?}");
    }
    for field in [
        "A: b\r\n c",
        "A: b\r\n\tc",
        "Name : v",
        ": v",
        "A: b\0c",
        "A: b\rc",
        "A: b\x7fc",
        "no colon here",
        "A\u{e9}: b",
        "A(b): c",
        "A b: c",
        "\tA: b",
        " A: b",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: five",
        "Content-Length: \u{665}",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0\r\ncontent-length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        assert!(malformed(with(field)), "{field:?}");
    }
}

#[test]
fn one_line_that_ends_in_lf_alone_is_malformed_wherever_it_is() {
    let head = "\r\nCONNECT good.example:443 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
    assert!(matches!(whole(head), Some(Head::Request(..))));
    assert!(malformed(head.replace("\r\n", "\n")));
    for (at, _) in head.match_indices("\r\n") {
        let mut bytes = head.as_bytes().to_vec();
        bytes.remove(at);
        assert!(malformed(&bytes), "without the CR at {at}");
    }
}

#[test]
fn what_comes_behind_the_head_is_handed_on() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\n\r\n\r\n".as_slice();
    for rest in [hello, ORDINARY.as_bytes(), b"\n", b"\r\n\r\n", b"\0\xff garbage", &[b'x'; 60_000]] {
        let bytes = [ORDINARY.as_bytes(), rest].concat();
        let (asked, behind) = request(&bytes);
        assert_eq!(asked, request(ORDINARY).0);
        assert_eq!(behind, rest);
    }
}

#[test]
fn strangers_are_told_what_they_probably_meant() {
    for (bytes, word) in [
        (b"\x16\x03\x01\x02\x00\x01\x00".as_slice(), "HTTPS"),
        (b"\x05\x01\x00", "SOCKS"),
        (b"\x04\x01\x01\xbb", "SOCKS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "SSH"),
    ] {
        match whole(bytes) {
            Some(Head::Bad(HeadError::Malformed(what))) => assert!(what.contains(word), "{what}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    for header in [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n".as_slice(),
        b"PROXY UNKNOWN\r\nGET /readyz HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        match whole(header) {
            Some(Head::Bad(HeadError::Introduced(what))) => {
                assert!(what.contains("PROXY protocol"), "{what}")
            }
            other => panic!("{header:?}: {other:?}"),
        }
    }
}

#[test]
fn a_head_may_be_exactly_as_long_as_the_limit() {
    let padded = |length: usize| {
        let empty = with("X: ").len();
        with(&format!("X: {}", "x".repeat(length - empty)))
    };
    for limit in [100, 1000, LIMIT, 60_000] {
        for rest in ["", "behind it"] {
            let fits = padded(limit) + rest;
            assert!(matches!(parse(fits.as_bytes(), limit), Some(Head::Request(..))), "{limit}");
            let longer = padded(limit + 1) + rest;
            assert!(
                matches!(parse(longer.as_bytes(), limit), Some(Head::Bad(HeadError::TooLarge))),
                "{limit}"
            );
        }
        // Without an end it is waited for up to the limit and no further.
        let endless = "x".repeat(limit + 1);
        assert!(parse(&endless.as_bytes()[..limit], limit).is_none());
        assert!(matches!(parse(endless.as_bytes(), limit), Some(Head::Bad(HeadError::TooLarge))));
        let segments: Vec<&[u8]> = endless.as_bytes().chunks(limit / 3).collect();
        assert!(matches!(in_segments(&segments, limit), Some(Head::Bad(HeadError::TooLarge))));
    }
    let fields = |n: usize| format!("CONNECT x:1 HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
    assert!(matches!(whole(fields(MAX_FIELDS)), Some(Head::Request(..))));
    assert!(matches!(whole(fields(MAX_FIELDS + 1)), Some(Head::Bad(HeadError::TooManyFields))));
    // Empty lines before the request count as well.
    assert!(matches!(whole("\r\n".repeat(LIMIT / 2 + 1)), Some(Head::Bad(HeadError::TooLarge))));
    assert!(matches!(whole(format!("\r\n\r\n{ORDINARY}")), Some(Head::Request(..))));
}

#[test]
fn a_head_cut_anywhere_gives_the_same_answer() {
    for head in [
        ORDINARY.to_owned(),
        format!("\r\n\r\n{ORDINARY}"),
        format!("{ORDINARY}CONNECT evil.example:443 HTTP/1.1\r\n\r\n"),
        "GET /proxy.pac HTTP/1.1\r\nHost: p\r\n\r\nGET".into(),
        "CONNECT good.example:443 HTTP/1.0\r\n\r\n".into(),
        with("Content-Length: 5") + "hello",
        with("Content-Length: 5, 6"),
        with("A: b\r\n c"),
        with("Name : v"),
        "CONNECT good.example:443\r\n\r\n".into(),
        ORDINARY.replace("\r\n", "\n"),
        with("A: b\r\n").repeat(2),
    ] {
        let bytes = head.as_bytes();
        let expected = whole(bytes);
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let got = in_segments(&[a, b], LIMIT);
            // What came behind a head that was whole before it is still in the socket.
            if let (Some(Head::Request(got, rest)), Some(Head::Request(expected, behind))) = (&got, &expected)
            {
                assert_eq!(got, expected, "{head:?} cut at {cut}");
                assert!(behind.starts_with(rest), "{head:?} cut at {cut}");
            } else {
                assert_eq!(outline(got.as_ref()), outline(expected.as_ref()), "{head:?} cut at {cut}");
            }
        }
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        let got = in_segments(&bytewise, LIMIT);
        if let (Some(Head::Request(got, _)), Some(Head::Request(expected, _))) = (&got, &expected) {
            assert_eq!(got, expected, "{head:?} in single bytes");
        } else {
            assert_eq!(outline(got.as_ref()), outline(expected.as_ref()), "{head:?} in single bytes");
        }
    }
}

#[tokio::test]
async fn an_end_within_a_head_is_told_from_one_before_it() {
    for (sent, began) in [("", false), ("C", true), ("\r\n", true), (&ORDINARY[..ORDINARY.len() - 1], true)] {
        let mut from = sent.as_bytes();
        let head = Reader::default().read(&mut from, LIMIT).await.unwrap();
        assert!(matches!(head, Head::Ended { began: b } if b == began), "{sent:?}: {head:?}");
    }
}

#[tokio::test]
async fn requests_behind_each_other_are_read_one_by_one() {
    let text = format!("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n{ORDINARY}tunnel");
    let mut from = text.as_bytes();
    let mut reader = Reader::default();
    let mut targets = Vec::new();
    loop {
        assert!(reader.begin(&mut from).await.unwrap());
        match reader.read(&mut from, LIMIT).await.unwrap() {
            Head::Request(request, rest) => {
                targets.push(request.target);
                if &*request.method == "CONNECT" {
                    assert_eq!(rest, b"tunnel");
                    break;
                }
                reader = Reader::with(rest);
            }
            other => panic!("{other:?}"),
        }
    }
    let targets: Vec<&str> = targets.iter().map(AsRef::as_ref).collect();
    assert_eq!(targets, ["/a", "/b", "good.example:443"]);
}

#[tokio::test]
async fn what_was_read_before_a_deadline_stays() {
    let (mut near, mut far) = tokio::io::duplex(4096);
    let mut reader = Reader::default();
    for part in ORDINARY.as_bytes().chunks(7) {
        let late = tokio::time::timeout(std::time::Duration::ZERO, reader.read(&mut near, LIMIT)).await;
        assert!(late.is_err());
        far.write_all(part).await.unwrap();
    }
    assert!(matches!(reader.read(&mut near, LIMIT).await.unwrap(), Head::Request(..)));
}

/// A head by the grammar of RFC 9112, and what it asks for.
fn any_head() -> impl Strategy<Value = (Vec<u8>, Request)> {
    let name = "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}".prop_filter("fields with a meaning", |name| {
        let meant = ["content-length", "transfer-encoding", "host", "connection"];
        !meant.contains(&name.to_ascii_lowercase().as_str())
    });
    let value = "[\\x21-\\x7e]([\\x20-\\x7e\\t]{0,20}[\\x21-\\x7e])?";
    let fields = proptest::collection::vec((name, value), 0..12);
    let method = prop_oneof![Just("CONNECT"), Just("GET"), Just("X")];
    (method, "[\\x21-\\x7e]{1,40}", 0..2_u8, proptest::option::of("[a-z0-9.:]{1,12}"), fields, 0..3_usize)
        .prop_map(|(method, target, minor, host, fields, empty)| {
            let mut text = format!("{}{method} {target} HTTP/1.{minor}\r\n", "\r\n".repeat(empty));
            if let Some(host) = &host {
                text.push_str(&format!("hOsT: {host}\r\n"));
            }
            for (name, value) in &fields {
                text.push_str(&format!("{name}:{value} \r\n"));
            }
            text.push_str("\r\n");
            let asked = Request {
                conditions: None,
                method: method.into(),
                target: target.into(),
                host: host.filter(|_| method != "CONNECT").map(Into::into),
                via: None,
                browser: None,
                body: false,
                close: minor == 0,
            };
            (text.into_bytes(), asked)
        })
}

/// What holds for any bytes: a request has a head of bounded length without a bare LF, and nothing
/// behind it is lost or looked at.
fn holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(Head::Request(asked, rest)) = whole(bytes) {
        let head = &bytes[..bytes.len() - rest.len()];
        prop_assert!(head.len() <= LIMIT && head.ends_with(b"\r\n\r\n"));
        prop_assert_eq!(&bytes[head.len()..], rest.as_slice());
        prop_assert!(head.iter().enumerate().all(|(i, b)| *b != b'\n' || head[i - 1] == b'\r'));
        prop_assert!(!head.contains(&0));
        prop_assert_eq!(&request(head).0, &asked);
        prop_assert!(!asked.method.is_empty() && !asked.target.contains([' ', '\r', '\n', '\t']));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_proper_head_is_understood((bytes, asked) in any_head(), rest in proptest::collection::vec(any::<u8>(), 0..50)) {
        let all = [bytes.as_slice(), &rest].concat();
        holds(&all)?;
        let got = request(&all);
        prop_assert_eq!(got.0, asked);
        prop_assert_eq!(got.1, rest);
    }

    #[test]
    fn any_segments_give_the_same_answer(
        (mut bytes, _) in any_head(),
        change in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        if let Some((at, byte)) = change {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        holds(&bytes)?;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let segments: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let (got, expected) = (in_segments(&segments, LIMIT), whole(&bytes));
        match (&got, &expected) {
            (Some(Head::Request(got, _)), Some(Head::Request(expected, _))) => prop_assert_eq!(got, expected),
            // Parsed at the ends of lines only, an error in the last line may still be unseen.
            (None, Some(Head::Bad(_))) => prop_assert!(!bytes.ends_with(b"\n")),
            _ => prop_assert_eq!(outline(got.as_ref()), outline(expected.as_ref())),
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        holds(&bytes)?;
        holds(&[b"CONNECT ".as_slice(), &bytes, b" HTTP/1.1\r\n\r\n"].concat())?;
        holds(&[b"CONNECT x:1 HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat())?;
    }
}
