//! What the process says of itself: metrics, the log, and one line for each tunnel and denial.

pub mod access;
pub(crate) mod journald;
pub mod last;
pub mod log;
pub mod metrics;
pub mod sample;
