//! The shift window and the clock it is measured with. Nothing here knows about TLS.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use thiserror::Error;

/// Wall clock time in whole seconds since 1970. Sessions move between replicas and outlive the
/// process, so a monotonic clock won't do.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Seconds since the Unix epoch.
    fn now(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        // A clock before 1970 reads as 1970. Every ticket then lies in the future and is refused.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}

/// A clock that tests move, for the window's edges.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now` seconds since the epoch.
    pub fn new(now: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now)))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lets rustls read our clock, so that certificates and sessions are judged at the same instant.
#[derive(Debug)]
pub struct ClockTime(pub Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

/// How long after its first full handshake a session may be resumed, in whole seconds from 1 to
/// `Window::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(u64);

impl Window {
    /// Seven days, which RFC 8446 §4.6.1 (RFC 9846 §4.7.1) lets no ticket lifetime exceed.
    pub(crate) const MAX: u64 = 604_800;

    /// A window of that many seconds.
    pub const fn from_seconds(seconds: u64) -> Result<Self, WindowError> {
        match seconds {
            0 => Err(WindowError::TooShort),
            1..=Self::MAX => Ok(Self(seconds)),
            _ => Err(WindowError::TooLong { seconds }),
        }
    }

    /// `length + breaks + lunch` of the section `[shift]`; fractions of a second are dropped.
    pub(crate) fn of_shift(length: Duration, breaks: Duration, lunch: Duration) -> Result<Self, WindowError> {
        let sum = length.saturating_add(breaks).saturating_add(lunch);
        Self::from_seconds(sum.as_secs())
    }

    /// The window in seconds.
    pub(crate) const fn seconds(self) -> u64 {
        self.0
    }
}

/// Why `[shift]` makes no usable window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// Less than a second.
    #[error("shift.length + shift.breaks + shift.lunch must be at least 1s")]
    TooShort,
    /// More than TLS allows.
    #[error(
        "shift.length + shift.breaks + shift.lunch is {}, at most 7d is valid: RFC 8446 section 4.6.1 allows no longer session",
        humantime::format_duration(Duration::from_secs(*.seconds))
    )]
    TooLong {
        /// The sum that was configured.
        seconds: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_sum_of_the_shift() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Window::of_shift(8 * hour, hour, hour), Window::from_seconds(36_000));
    }

    #[test]
    fn seven_days_is_the_last_valid_window() {
        assert!(Window::from_seconds(604_800).is_ok());
        let error = Window::from_seconds(604_801).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shift.length + shift.breaks + shift.lunch is 7days 1s, at most 7d is valid: RFC 8446 section 4.6.1 allows no longer session"
        );
        assert!(Window::of_shift(Duration::MAX, Duration::MAX, Duration::MAX).is_err());
        assert_eq!(
            Window::of_shift(Duration::from_millis(999), Duration::ZERO, Duration::ZERO),
            Err(WindowError::TooShort)
        );
    }
}
