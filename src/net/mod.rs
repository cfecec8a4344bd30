//! What listeners and tunnels share below the protocols: the kinds of listener, failed accepts, socket
//! options, what a process has only so much of, flow control of HTTP/2, and a read buffer for each thread. Files that are followed while they are in use are watched
//! here, too.

pub(crate) mod accept;
pub(crate) mod control;
pub(crate) mod entrance;
pub(crate) mod h2;
pub(crate) mod icmp;
pub(crate) mod passed;
pub(crate) mod resources;
pub(crate) mod scratch;
pub(crate) mod sockopt;
pub(crate) mod watch;
