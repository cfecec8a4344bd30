//! What both ends of a tunnel need: options of their sockets, and room to read into. Files that are followed while they are in use are watched here.

pub(crate) mod accept;
pub(crate) mod entrance;
pub(crate) mod scratch;
pub(crate) mod sockopt;
pub mod watch;
