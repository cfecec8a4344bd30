//! Servers that mean harm: whatever they send, `check` ends, in a bounded time, and no control
//! character of theirs reaches a terminal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::file::{Expect, Fault, Media, Site, Tls, Udp, Via};
use super::media::{COOKIE, attribute};
use super::network::Network;
use super::run::{Running, harmless};
use super::site::{Request, wait_for_the_end};
use crate::support::accept;

/// A whole round against such servers. One endpoint may take 18 s; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(40);
/// How long a server goes on that never ends by itself.
const ENDLESS: Duration = Duration::from_secs(60);
/// Turns a terminal red, renames its window, rings, and begins a line that says all is well.
const ESCAPES: &str = "\u{1b}[31mred\u{1b}]0;renamed\u{7}\u{9b}2J\rok: all is well\u{8}\u{202e}";
const WS_URL: &str = "wss://agents.transport.connect.us-west-2.amazonaws.com/ws";

/// What a server does to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Banner,
    EndlessBanner,
    /// One byte a second, as of a TLS record.
    SlowRecord,
    /// A certificate that says control characters of itself and of its issuer.
    Certificate,
    /// One that nobody doubts, but for another name, and in its subject again.
    Subject,
    MegabyteHeader,
    EndlessHeaders,
    SlowHeader,
    EndlessInterim,
    EndlessBody,
    EscapesInPortal,
    EscapesInRedirect,
    EscapesInStatusLine,
    NotHttp,
    /// 101 with the wrong key and control characters.
    WrongUpgrade,
    EndlessFrames,
    /// A frame that announces 2^63 - 1 bytes.
    GiantFrame,
    EscapesInClose,
}

const ALL: [Harm; 18] = [
    Harm::Banner,
    Harm::EndlessBanner,
    Harm::SlowRecord,
    Harm::Certificate,
    Harm::Subject,
    Harm::MegabyteHeader,
    Harm::EndlessHeaders,
    Harm::SlowHeader,
    Harm::EndlessInterim,
    Harm::EndlessBody,
    Harm::EscapesInPortal,
    Harm::EscapesInRedirect,
    Harm::EscapesInStatusLine,
    Harm::NotHttp,
    Harm::WrongUpgrade,
    Harm::EndlessFrames,
    Harm::GiantFrame,
    Harm::EscapesInClose,
];

/// What its certificate says of itself.
pub(super) fn subject(_: Harm) -> String {
    ESCAPES.to_owned()
}

/// Serves one connection.
pub(super) fn serve(harm: Harm, tls: &Arc<ServerConfig>, mut stream: TcpStream) {
    let Some(harm) = before_tls(harm, &mut stream) else { return };
    let Some(mut tls) = accept(tls, stream) else { return };
    let Some(request) = Request::read(&mut tls) else { return };
    // Whoever has had enough hangs up, which ends every write.
    let _ = over_tls(harm, &request, &mut tls);
    let _ = tls.flush();
}

/// What needs no handshake; else the harm again.
fn before_tls(harm: Harm, stream: &mut TcpStream) -> Option<Harm> {
    match harm {
        Harm::Banner => {
            let _ = stream.write_all(format!("220 {ESCAPES} ESMTP ready\r\n").as_bytes());
            wait_for_the_end(stream);
        }
        Harm::EndlessBanner => {
            let _ = endlessly(stream, &[b'x'; 4096], Duration::ZERO);
        }
        Harm::SlowRecord => {
            let _ = endlessly(stream, &[22], Duration::from_secs(1));
        }
        other => return Some(other),
    }
    None
}

fn over_tls(harm: Harm, request: &Request, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let key = request.upgrade.as_deref();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
    match (harm, key) {
        (Harm::MegabyteHeader, _) => {
            write!(stream, "{head}X-Long: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(1 << 20))
        }
        (Harm::EndlessHeaders, _) => {
            stream.write_all(head.as_bytes())?;
            endlessly(stream, &b"X-More: and more\r\n".repeat(200), Duration::ZERO)
        }
        (Harm::SlowHeader, _) => endlessly(stream, b"H", Duration::from_secs(1)),
        (Harm::EndlessInterim, _) => {
            endlessly(stream, &b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100), Duration::ZERO)
        }
        (Harm::EndlessBody, _) => {
            write!(stream, "HTTP/1.1 511 Sign In\r\nContent-Type: text/html\r\n\r\n<h1>")?;
            endlessly(stream, ESCAPES.repeat(100).as_bytes(), Duration::ZERO)
        }
        (Harm::EscapesInPortal, _) => {
            write!(
                stream,
                "HTTP/1.1 511 {ESCAPES}\r\nServer: {ESCAPES}\r\nConnection: close\r\n\r\n{ESCAPES}"
            )
        }
        (Harm::EscapesInRedirect, _) => {
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: http://portal.example/{ESCAPES}\r\nContent-Length: 0\r\n\r\n"
            )
        }
        (Harm::EscapesInStatusLine, _) => write!(stream, "HTTP/1.1 {ESCAPES} {ESCAPES}\r\n\r\n"),
        (Harm::NotHttp, _) => write!(stream, "\0\0\0{ESCAPES}\n\n"),
        (Harm::WrongUpgrade, Some(_)) => write!(
            stream,
            "HTTP/1.1 101 {ESCAPES}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ESCAPES}\r\n\r\n"
        ),
        (Harm::EndlessFrames | Harm::GiantFrame | Harm::EscapesInClose, Some(key)) => {
            let accept = derive_accept_key(key.as_bytes());
            write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )?;
            match harm {
                // RFC 6455 section 5.2: a ping without content; a text frame; a close with its reason.
                Harm::EndlessFrames => endlessly(stream, &[0x89, 0].repeat(500), Duration::ZERO),
                Harm::GiantFrame => {
                    stream.write_all(&[0x81, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255])?;
                    endlessly(stream, &[b'x'; 4096], Duration::ZERO)
                }
                _ => {
                    let length = u8::try_from(ESCAPES.len() + 2).unwrap();
                    stream.write_all(&[&[0x88, length, 3, 0xe8], ESCAPES.as_bytes()].concat())?;
                    stream.flush()?;
                    wait_for_the_end(stream);
                    Ok(())
                }
            }
        }
        // What does harm elsewhere answers here as AWS does.
        _ => write!(stream, "HTTP/1.1 403 Forbidden\r\nServer: {ESCAPES}\r\nContent-Length: 0\r\n\r\n"),
    }
}

/// Sends the same again and again, until nobody wants it any more.
fn endlessly(stream: &mut impl Write, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < ENDLESS {
        stream.write_all(bytes)?;
        stream.flush()?;
        thread::sleep(pause);
    }
    Ok(())
}

/// Answers of a media server that aren't quite STUN's.
pub(super) fn datagram(count: u32, packet: &[u8]) -> Option<Vec<u8>> {
    let transaction = packet.get(8..20)?;
    let response = |kind: [u8; 2], length: u16, rest: &[u8]| {
        [&kind, &length.to_be_bytes()[..], &COOKIE, transaction, rest].concat()
    };
    Some(match count % 6 {
        0 => Vec::new(),
        1 => vec![0xff; 1400],
        // Another's transaction, a length that lies, an attribute that does.
        2 => [&[1, 1, 0, 0], &COOKIE[..], &[9; 12]].concat(),
        3 => response([1, 1], 0xfffc, &[]),
        4 => response([1, 0x13], 4, &[0, 9, 0xff, 0xff]),
        _ => {
            let error = attribute(9, &[&[0, 0, 4, 3], ESCAPES.as_bytes()].concat());
            response([1, 0x13], u16::try_from(error.len()).unwrap(), &error)
        }
    })
}

/// A proxy that refuses in colour.
pub(super) fn proxy(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let answer = format!(
        "HTTP/1.1 403 {ESCAPES}\r\nProxy-Status: {ESCAPES}; error={ESCAPES}; details=\"{ESCAPES}\"\r\n\
         X-Squid-Error: {ESCAPES}\r\nConnection: close\r\n\r\n{ESCAPES}"
    );
    let _ = stream.write_all(answer.as_bytes());
}

fn network(harm: Option<Harm>) -> Fault {
    let tls = match harm {
        Some(Harm::Certificate) => Tls::Untrusted,
        Some(Harm::Subject) => Tls::WrongName,
        _ => Tls::Good,
    };
    let issuer = harm.map(|_| ESCAPES.to_owned());
    let site = Site { tls, issuer, harm, ..Site::default() };
    Fault {
        name: harm.map_or(String::new(), |harm| format!("{harm:?}")),
        about: String::new(),
        place: super::file::Place::Loopback,
        dns: Default::default(),
        site: vec![site],
        media: Vec::new(),
        via: None,
        pac: None,
        largest_packets: None,
        ipv6: false,
        no_ports: false,
        config: toml::Table::new(),
        arguments: vec!["--ws-url".to_owned(), WS_URL.to_owned()],
        expect: Expect::default(),
    }
}

/// What is wrong with a round on this network.
fn judge(fault: &Fault) -> Vec<String> {
    let network = Network::build(fault);
    let (json, text) = (Running::start(&network.asked, &["--json"]), Running::start(&network.asked, &[]));
    let mut wrong = Vec::new();
    for (form, ended) in [("json", json.end()), ("text", text.end())] {
        match ended {
            Err(why) => wrong.push(format!("{form}: {why}")),
            Ok(ran) => {
                if ran.took > BOUND {
                    wrong.push(format!("{form}: {:?}", ran.took));
                }
                if ![0, 1].contains(&ran.code) {
                    wrong.push(format!("{form}: exit {}: {}{}", ran.code, ran.stdout, ran.stderr));
                }
                wrong.extend(harmless(&ran));
                if form == "json" {
                    match serde_json::from_str::<Value>(&ran.stdout) {
                        Ok(report) => wrong.extend(control_characters(&report)),
                        Err(error) => wrong.push(format!("no JSON: {error}")),
                    }
                }
            }
        }
    }
    wrong
}

/// JSON escapes control characters, and whoever prints its strings has them again.
fn control_characters(report: &Value) -> Vec<String> {
    match report {
        Value::String(text) if text.chars().any(char::is_control) => vec![format!("in JSON: {text:?}")],
        Value::Array(all) => all.iter().flat_map(control_characters).collect(),
        Value::Object(all) => all.values().flat_map(control_characters).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn nothing_that_a_server_sends_hangs_a_round_or_reaches_a_terminal() {
    let mut networks: Vec<Fault> = ALL.iter().map(|harm| network(Some(*harm))).collect();
    let mut media = network(None);
    media.name = "media".to_owned();
    media.media = vec![Media { hosts: Vec::new(), udp: Udp::Hostile }];
    let mut via = network(None);
    (via.name, via.via) = ("via".to_owned(), Some(Via::Hostile));
    networks.extend([media, via]);
    let wrong = super::side_by_side(networks, judge);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
