//! Sessions against rustls' own client, in memory, with a clock that the tests move: how long they
//! resume, on which replica, and what ends them. The real binary is tested in `tests/it`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod clients;
mod fleet;
mod memory;
mod openssl;
mod support;
mod window;
