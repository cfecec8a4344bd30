//! A network of a fault's own: public addresses on its loopback interface, ways that lead nowhere.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::support::have;

/// Moves this thread, and whatever it starts, into a network of its own.
///
/// # Errors
/// Why that isn't possible here.
pub(super) fn enter() -> Result<(), String> {
    if !have("ip") {
        return Err("ip is missing".to_owned());
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("no network namespace without root: {e}"))?;
    ip("link set lo up");
    Ok(())
}

/// Says what didn't run; not through `eprintln!`, which the test runner keeps to itself when a test
/// passes.
pub(super) fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED, {what} did not run: {why}");
}

/// An address of this machine.
pub(super) fn own(address: IpAddr) {
    // Without nodad the kernel looks for doubles of an IPv6 address first, on a busy machine some time later, and until
    // then nobody can bind it.
    let at_once = if address.is_ipv6() { " nodad" } else { "" };
    ip(&format!("addr add {address} dev lo{at_once}"));
}

/// An address that swallows every packet: behind a device that nobody has plugged in.
pub(super) fn swallowing(address: Ipv4Addr) {
    // Fails where it is there already.
    let _ = Command::new("ip").args("tuntap add dev nowhere mode tun".split(' ')).output();
    ip("link set nowhere up");
    ip(&format!("route add {address}/32 dev nowhere"));
}

/// An address that no way leads to.
pub(super) fn unreachable(address: Ipv4Addr) {
    ip(&format!("route add unreachable {address}/32"));
}

pub(super) fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(ran.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}
