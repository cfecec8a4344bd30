//! The upstream side: names to addresses, addresses to connections.

pub mod dialer;
pub mod resolver;
pub mod sockopt;
