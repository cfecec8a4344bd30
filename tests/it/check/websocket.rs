//! `--ws-url` and `--hold`.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, accept};

use super::{endpoint, expect_cause};
use crate::support::{Region, Served, now, read_request};

/// The report on `wss://site.example/`, in front of this server.
#[track_caller]
fn report(serve: impl Fn(Served) + Send + Sync + 'static, arguments: &[&str]) -> Value {
    let region = Region::serving(serve);
    let fixed = ["--json", "--category", "extra", "--ws-url", "wss://site.example/x?signature=S3cret"];
    let ran = region.check(&[&fixed, arguments].concat());
    assert!(!ran.stdout.contains("S3cret") && !ran.stderr.contains("S3cret"), "{}", ran.stdout);
    ran.json()
}

fn answer(status: &'static str) -> impl Fn(Served) + Send + Sync + 'static {
    move |mut tls| {
        if read_request(&mut tls).is_some() {
            let _ = tls.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    }
}

#[test]
fn upgrades_that_come_to_nothing() {
    for (status, cause) in [
        ("403 Forbidden", "ws_refused"),
        ("502 Bad Gateway", "ws_refused"),
        ("200 OK", "ws_stripped"),
        ("426 Upgrade Required", "ws_stripped"),
        (
            "101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x",
            "ws_stripped",
        ),
    ] {
        expect_cause(&report(answer(status), &[]), "failed", cause, "security");
    }
    let hung = report(
        |mut tls| {
            let _ = read_request(&mut tls);
            let _ = tls.read(&mut [0; 1]);
        },
        &[],
    );
    expect_cause(&hung, "failed", "ws_hung", "security");
}

/// Echoes messages for this long, then ends the connection.
fn echo(mut socket: tokio_tungstenite::tungstenite::WebSocket<Served>, time: Duration) {
    let until = Instant::now() + time;
    socket.get_mut().sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while Instant::now() < until {
        match socket.read() {
            Ok(message) if message.is_text() => {
                if socket.send(message).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(tokio_tungstenite::tungstenite::Error::Io(error))
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn a_web_socket_that_lives_is_fine_and_one_that_is_cut_is_not() {
    let lives = report(|tls| echo(accept(tls).unwrap(), Duration::from_secs(60)), &[]);
    assert_eq!(lives["verdict"], "ok", "{lives:#}");
    assert!(endpoint(&lives, "site.example")["detail"].as_str().unwrap().contains("lived"), "{lives:#}");
    let cut = report(|tls| echo(accept(tls).unwrap(), Duration::from_secs(10)), &[]);
    expect_cause(&cut, "failed", "ws_cut", "security");
    let detail = endpoint(&cut, "site.example")["detail"].as_str().unwrap();
    assert!(detail.starts_with("open for 1"), "{detail}");
    let slow = report(
        |tls| {
            std::thread::sleep(Duration::from_millis(1500));
            echo(accept(tls).unwrap(), Duration::from_secs(60));
        },
        &[],
    );
    expect_cause(&slow, "degraded", "ws_slow", "security");
}

#[test]
fn messages_in_heaps_are_buffered() {
    let buffered = report(
        |tls| {
            let Ok(mut socket) = accept(tls) else { return };
            let mut held = Vec::new();
            // Passes messages on by fours.
            while let Ok(message) = socket.read() {
                if message.is_text() {
                    held.push(message);
                }
                if held.len() == 4 {
                    for message in held.drain(..) {
                        if socket.write(message).is_err() {
                            return;
                        }
                    }
                    let _ = socket.flush();
                }
            }
        },
        &[],
    );
    // Pongs go past the heap here, and are no excuse.
    expect_cause(&buffered, "failed", "ws_buffered", "security");
    let silent = report(
        |tls| {
            let Ok(mut socket) = accept(tls) else { return };
            // Reads beneath the protocol, so that no pong goes out either.
            let _ = socket.send(Message::Ping(Vec::new().into()));
            let mut bytes = [0; 1024];
            while let Ok(1..) = socket.get_mut().read(&mut bytes) {}
        },
        &[],
    );
    expect_cause(&silent, "failed", "ws_buffered", "security");
}

/// A signalling host is asked for a WebSocket, and may refuse it; what swallows the upgrade alone shows.
#[test]
fn signalling_hosts_are_asked_for_an_upgrade() {
    let host = "a.transport.connect.us-west-2.amazonaws.com";
    let swallows = Region::serving(|mut tls| {
        let Some(head) = read_request(&mut tls) else { return };
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            std::thread::sleep(Duration::from_secs(7));
        } else {
            let answer = format!("HTTP/1.1 403 No\r\nDate: {}\r\nContent-Length: 0\r\n\r\n", now());
            let _ = tls.write_all(answer.as_bytes());
        }
    });
    let report = swallows.check(&["--json", "--category", "signalling", "--host", host]).expect(1).json();
    let signalling = endpoint(&report, host);
    assert_eq!(signalling["cause"], "ws_hung", "{signalling:#}");
}

#[test]
fn silence_is_held_or_cut() {
    let answer = || format!("HTTP/1.1 403 No\r\nDate: {}\r\nContent-Length: 0\r\n\r\n", now());
    let patient = Region::healthy();
    let report = patient.check(&["--json", "--category", "extra", "--hold", "2s"]).expect(0).json();
    assert_eq!(report["verdict"], "ok", "{report:#}");
    let hasty = Region::serving(move |mut tls| {
        tls.sock.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        if read_request(&mut tls).is_some() {
            let _ = tls.write_all(answer().as_bytes());
        }
    });
    let report = hasty.check(&["--json", "--category", "extra", "--hold", "3s"]).expect(1).json();
    expect_cause(&report, "failed", "idle_cut", "firewall");
}
