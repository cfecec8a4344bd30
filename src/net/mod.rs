//! Names to addresses, addresses to connections, and what both ends of a tunnel need: options of
//! their sockets, and room to read into. Files that are followed while they are in use are watched here.

pub mod accept;
pub mod dialer;
pub mod dns;
pub mod resolver;
pub mod scratch;
pub mod sockopt;
pub mod watch;
