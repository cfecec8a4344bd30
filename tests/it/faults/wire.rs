//! A region at the far end of a line that delays and loses packets, TCP's own among them, or all that are
//! large. Not netem's
//! work, which many kernels lack: a program reads packets from one network and writes them to another.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::file::{Fault, Place};
use super::namespace::{self, ip};
use super::network::{Asked, Network};
use crate::support::have;

/// A line, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) round_trip: Duration,
    pub(super) loss_percent: u32,
    /// Which packets are lost: a failure repeats, as far as the packets do.
    pub(super) seed: u64,
    /// Longer packets are lost without a word, there and back.
    pub(super) largest: Option<[u16; 2]>,
}

/// Builds the network of a fault at the far end, and runs `near` at this one. For a thread of its own.
///
/// # Errors
/// Why no such line can be laid here.
pub(super) fn across(line: Line, fault: &Fault, near: impl FnOnce(&Asked)) -> Result<(), String> {
    if !have("python3") || !std::path::Path::new("/dev/net/tun").exists() {
        return Err("python3 or /dev/net/tun is missing".to_owned());
    }
    namespace::enter()?;
    let mut fault = fault.clone();
    fault.place = Place::Far;
    let (tell, told) = mpsc::channel();
    let (asked_to, asked) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            namespace::enter().unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            may_go.recv().unwrap();
            ip("addr add 198.18.0.2 peer 198.18.0.1 dev far");
            ip("addr add fd00:18::2/64 dev far nodad");
            ip("link set far up");
            let network = Network::build(&fault);
            asked_to.send(network.asked.clone()).unwrap();
            // Until the near end has gone.
            let _ = may_go.recv();
        });
        let far = told.recv().unwrap();
        let wire = lay(line);
        ip(&format!("link set far netns {far}"));
        ip("addr add 198.18.0.1 peer 198.18.0.2 dev near");
        ip("addr add fd00:18::1/64 dev near nodad");
        ip("link set near up");
        ip("route add 15.193.7.0/24 dev near");
        ip("route add 2600:1f14:7::/64 dev near");
        go.send(()).unwrap();
        near(&asked.recv().unwrap());
        drop(go);
        take_up(wire);
    });
    Ok(())
}

fn lay(line: Line) -> Child {
    let delay = (line.round_trip / 2).as_millis().to_string();
    let [there, back] = line.largest.unwrap_or([u16::MAX; 2]);
    let mut wire = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/wire.py"))
        .args([delay, line.loss_percent.to_string(), line.seed.to_string()])
        .args([there, back].map(|bytes| bytes.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(wire.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    wire
}

fn take_up(mut wire: Child) {
    drop(wire.stdin.take());
    assert!(wire.wait().unwrap().success(), "the line broke");
}
