//! The vocabulary of the black-box tests: a proxy, a raw client, upstreams, a name server. All are
//! plain threads on loopback ports that the kernel chose; events are awaited, with one bound.

mod balancer;
mod browser;
mod browser_process;
pub(crate) mod chain;
mod command;
mod devtools;
mod dns;
mod fleet;
pub(crate) mod h2;
mod line;
mod log;
mod machine;
mod metrics;
mod network;
mod over;
mod port;
mod printed;
mod process;
mod proxy;
mod ranges;
mod raw;
mod refusal;
mod region;
mod routed;
mod secured;
mod squid;
mod stall;
mod table;
mod tls;
pub(crate) mod turn;
mod upstream;

use std::time::{Duration, Instant};

pub(crate) use balancer::behind_a_balancer;
pub(crate) use browser::{Browser, OFF_LIST, PAGE, decode, read_head, site};
pub(crate) use command::{Ran, ccpgate, ccpgate_by, ccpgate_with, clean, on_one_processor};
pub(crate) use devtools::{Chromium, Tab};
pub(crate) use dns::{Dns, Reply};
pub(crate) use fleet::fleet;
pub(crate) use h2::{Frames, H2, H2Tunnel};
pub(crate) use line::Line;
pub(crate) use machine::Machine;
pub(crate) use metrics::{Metrics, handshakes};
pub(crate) use network::in_a_network_of_its_own;
pub(crate) use over::Over;
pub(crate) use port::{Blackhole, Port, Refusing};
pub(crate) use printed::printed;
pub(crate) use proxy::Proxy;
pub(crate) use ranges::ip_ranges;
pub(crate) use raw::{Answer, Raw};
pub(crate) use refusal::expect_refusal;
pub(crate) use region::{Region, Served, now, read_request};
pub(crate) use routed::{Network, Routed};
pub(crate) use secured::{Agent, NAME, Secured, ticket_keys};
pub(crate) use squid::Squid;
pub(crate) use stall::stall;
pub(crate) use table::{LITERAL, MALFORMED, Right, Table};
pub(crate) use tls::{
    Authority, accept, client_hello, client_hello_without_name, made_hello, records, server_names,
};
pub(crate) use upstream::Upstream;

/// How long anything awaited may take before the test fails: generous, since it is only used up
/// when something is broken and the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Asks until there is an answer, and returns it.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a program that a test needs is there. A machine without it skips the test with a
/// notice; in CI, where scripts/install-test-tools.sh ran before, its absence is a failure.
pub(crate) fn have(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{tool} is missing: run scripts/install-test-tools.sh");
        eprintln!("skipped: {tool} is missing, scripts/install-test-tools.sh installs it");
    }
    found
}

/// 2 MiB of bytes that repeat nowhere within 64 KiB, so that loss and disorder show. The seed is
/// fixed: a failure repeats.
pub(crate) fn payload() -> Vec<u8> {
    let mut bytes = vec![0; 2 << 20];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

/// Compares bulk data without printing megabytes when it differs.
#[track_caller]
pub(crate) fn assert_same_bytes(got: &[u8], expected: &[u8]) {
    if got != expected {
        let at = got.iter().zip(expected).position(|(g, e)| g != e);
        let at = at.unwrap_or_else(|| got.len().min(expected.len()));
        panic!("got {} bytes, expected {}; they differ from byte {at} on", got.len(), expected.len());
    }
}
