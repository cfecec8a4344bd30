//! What both ends of a tunnel need: options of their sockets, and room to read into. Files that are followed while they are in use are watched here.

pub mod accept;
pub mod entrance;
pub mod scratch;
pub mod sockopt;
pub mod watch;
