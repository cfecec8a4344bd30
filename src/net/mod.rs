//! Names to addresses, addresses to connections, and what both ends of a tunnel need: options of
//! their sockets, and room to read into.

pub mod accept;
pub mod dialer;
pub mod resolver;
pub mod scratch;
pub mod sockopt;
