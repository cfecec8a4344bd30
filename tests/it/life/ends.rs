//! An end that is announced by a lame duck.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{TARGET, at, rules};
use crate::support::{Proxy, Upstream, eventually};

#[test]
fn a_lame_duck_says_no_and_serves_on() {
    let upstream = Upstream::echo();
    let mut proxy =
        Proxy::start(&format!("[limits]\nlame_duck = \"2s\"\ndrain = \"1s\"\n{}", rules(&upstream)));
    let mut kept = proxy.connect();
    kept.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 200);
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.log_line("the lame duck", |line| line["event"] == "lame_duck");
    for address in [proxy.http(), proxy.admin()] {
        assert_eq!(at(address, "GET", "/readyz?x").status, 503);
    }
    kept.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(kept.read_answer().status, 503, "a connection kept alive is told, too");
    assert_eq!(proxy.metric("ccpgate_draining"), 1.0);
    let mut late = proxy.tunnel(TARGET);
    late.expect_echo(b"served meanwhile");
    let address = proxy.http();
    eventually("the listener's end", || TcpStream::connect(address).is_err().then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    // The drain counts from the signal, and is over with the lame duck.
    late.expect_gone();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_lame_duck() {
    let upstream = Upstream::echo();
    let mut proxy = Proxy::start(&format!("[limits]\nlame_duck = \"1h\"\n{}", rules(&upstream)));
    let mut client = proxy.tunnel(TARGET);
    proxy.signal(Signal::TERM);
    proxy.log_line("the lame duck", |line| line["event"] == "lame_duck");
    client.expect_echo(b"served");
    proxy.signal(Signal::TERM);
    client.expect_gone();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}
