//! A network of the test's own, where every address and port is free and nothing leaves.

use std::panic;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::have;

/// Does this work where loopback is up and nothing else is; skipped without these tools, or where there
/// can be no network namespace.
pub(crate) fn in_a_network_of_its_own(tools: &[&str], work: impl FnOnce() + Send + 'static) {
    if !have("ip") || !tools.iter().all(|tool| have(tool)) {
        return;
    }
    // Threads keep the namespace they are made in, and so do the processes they start.
    let ended = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace: {error}");
            return;
        }
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        work();
    });
    if let Err(failure) = ended.join() {
        panic::resume_unwind(failure);
    }
}
