//! A parent proxy, `egress.proxy`: what it is asked, what becomes of each answer, and that it is
//! asked for nothing else. Parents are scripts, a second ccpgate, and Squid.

mod answers;
mod asked;
mod circle;
mod credentials;
mod real;
mod secure;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{Answer, Proxy, Upstream, expect_refusal};

const TARGET: &str = "good.example:443";
const OK: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

fn config(parent: &str, more: &str) -> String {
    format!(
        "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"*.good.example\"\n[egress]\nproxy = \"{parent}\"\n{more}"
    )
}

/// Reads a request's head and says it; what follows stays in the stream.
fn request(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn echo(stream: &mut (impl Read + Write)) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// A parent that reads a request, answers with these bytes and closes; what it was asked is kept.
fn parent_that_says(answer: impl Into<Vec<u8>>) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let (answer, asked) = (answer.into(), Arc::new(Mutex::new(Vec::new())));
    let kept = asked.clone();
    let parent = Upstream::serve(move |mut stream| {
        kept.lock().unwrap().push(request(&mut stream));
        // A proxy that has heard enough may close within a long answer.
        let _ = stream.write_all(&answer);
    });
    (parent, asked)
}

/// A parent that opens a tunnel to an echo.
fn echoing_parent() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let parent = Upstream::serve(move |mut stream| {
        kept.lock().unwrap().push(request(&mut stream));
        if stream.write_all(OK).is_ok() {
            echo(&mut stream);
        }
    });
    (parent, asked)
}

fn url(parent: &Upstream) -> String {
    format!("http://{}", parent.address())
}

/// A tunnel that fails at the parent: its answer and its line.
#[track_caller]
fn expect_failure(proxy: &Proxy, status: u16, error: &str) -> (Answer, Value) {
    let mut client = proxy.connect();
    let answer = client.connect_target(TARGET);
    let line = expect_refusal(proxy, &mut client, &answer, (status, error, "connect"));
    assert_eq!((&line["event"], &line["outcome"]), (&"tunnel".into(), &"connect".into()), "{line}");
    assert_eq!(line["stage"], "connect", "{line}");
    (answer, line)
}
