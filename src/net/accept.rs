//! How many connections may wait to be accepted; after a failed accept, whether a listener goes on at once or after
//! a pause, and what it logs.

use std::io;
use std::time::{Duration, Instant};

/// 500 agents log in at 9:00 sharp. The kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;
/// A listener that is out of descriptors and retries at once only burns the CPU that live tunnels need.
const PAUSE: Duration = Duration::from_millis(50);
/// A failure that lasts is logged this often.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How many times in a row a listener goes on without a pause after a client that left before it was
/// accepted. The next client waits in the queue; but a kernel that reports this for ever must not make the
/// loop spin.
const AT_ONCE: u32 = 1000;

/// The failed accepts of one listener.
#[derive(Default)]
pub(crate) struct Setbacks {
    in_a_row: u32,
    logged: Option<Instant>,
}

impl Setbacks {
    /// Notes that a connection was accepted.
    pub(crate) fn over(&mut self) {
        self.in_a_row = 0;
    }

    /// Pauses after an error that the next accept would most likely meet again, and logs such errors at
    /// intervals. Returns whether it paused.
    pub(crate) async fn pause(&mut self, error: &io::Error, listener: &'static str) -> bool {
        self.in_a_row += 1;
        if is_one_clients(error) && self.in_a_row < AT_ONCE {
            return false;
        }
        if self.logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
            self.logged = Some(Instant::now());
            let remedy = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => "; raise LimitNOFILE or limits.connections is too high",
                _ => "",
            };
            tracing::error!(event = "accept_failed", listener, %error, "can't accept connections{remedy}");
        }
        tokio::time::sleep(PAUSE).await;
        true
    }
}

/// Whether the error belongs to the connection that would have been accepted, and is gone with it:
/// accept(2) reports pending network errors of that connection.
pub(crate) fn is_one_clients(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPROTO
                | libc::ETIMEDOUT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_client_that_left_costs_no_pause() {
        let mut setbacks = Setbacks::default();
        let pauses = async |setbacks: &mut Setbacks, code| {
            setbacks.pause(&io::Error::from_raw_os_error(code), "http").await
        };
        for code in [libc::ECONNABORTED, libc::EPROTO, libc::EHOSTUNREACH] {
            assert!(!pauses(&mut setbacks, code).await, "{code}");
        }
        for code in [libc::EMFILE, libc::ENOBUFS, libc::EINVAL, libc::EBADF, libc::EPERM] {
            assert!(pauses(&mut setbacks, code).await, "{code}");
        }
        assert!(pauses(&mut setbacks, 4095).await, "an error that no manual has");
    }

    #[tokio::test]
    async fn an_error_that_never_ends_is_no_spin() {
        let mut setbacks = Setbacks::default();
        let left = io::Error::from_raw_os_error(libc::ECONNABORTED);
        for at in 1..AT_ONCE {
            assert!(!setbacks.pause(&left, "http").await, "{at}");
        }
        assert!(setbacks.pause(&left, "http").await && setbacks.pause(&left, "http").await);
        setbacks.over();
        assert!(!setbacks.pause(&left, "http").await);
    }
}
