//! Whether the sockets that came from elsewhere, from the service manager or from the process before this one, are
//! those that a configuration wants.

use std::net::SocketAddr;

use crate::config::collide;
use crate::net::entrance::Entrance;
use crate::net::passed::Passed;
use crate::serve::error::ServeError;
use crate::serve::takeover::Offered;

/// # Errors
/// With the sockets that were passed and that no address names: their clients would wait for ever.
pub(super) fn all_fit(passed: &[Passed], wanted: &[(Entrance, SocketAddr)]) -> Result<(), ServeError> {
    let stray = |passed: &&Passed| !wanted.iter().any(|(_, address)| *address == passed.address);
    let stray = passed.iter().filter(stray);
    let stray: Vec<String> = stray.map(|p| format!("{} ({})", p.address, p.name)).collect();
    if stray.is_empty() {
        return Ok(());
    }
    let known = wanted.iter().map(|(kind, address)| format!("{} {address}", kind.key()));
    Err(ServeError::Passed(format!(
        "the service manager passed sockets that the configuration doesn't listen on: {}; it has {}. \
         Write the same addresses in both",
        stray.join(", "),
        known.collect::<Vec<_>>().join(", ")
    )))
}

/// # Errors
/// When the process before this one listens elsewhere altogether: it is another proxy, or this is
/// another file, and its clients would be refused.
pub(super) fn shares(offered: &[Offered], wanted: &[(Entrance, SocketAddr)]) -> Result<(), ServeError> {
    let proxies = || wanted.iter().filter(|(kind, _)| *kind != Entrance::Admin);
    let shared = |offered: &Offered| {
        let (actual, configured) = (offered.passed.address, offered.configured);
        proxies().any(|(_, address)| *address == configured || collide(*address, actual))
    };
    let mut theirs = offered.iter().filter(|offered| offered.kind != Entrance::Admin).peekable();
    if theirs.peek().is_none() || theirs.any(shared) {
        return Ok(());
    }
    let all = offered.iter().map(|o| format!("{} {}", o.kind.key(), o.passed.address));
    Err(ServeError::Passed(format!(
        "the process that serves listens on {}, and this configuration on none of them: is it the right file? \
         -c names one",
        all.collect::<Vec<_>>().join(", ")
    )))
}
