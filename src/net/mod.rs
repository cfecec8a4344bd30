//! What listeners and tunnels share below the protocols: the kinds of listener, failed accepts, socket options,
//! what a process has only so much of, memory that lies idle, flow control of HTTP/2, and a read buffer for
//! each thread. Here are also the sockets that the service manager passes, the Unix socket between processes,
//! what the network reports of datagrams, and the watch of files that are followed while they are in use.

pub(crate) mod accept;
pub(crate) mod control;
pub(crate) mod entrance;
pub(crate) mod h2;
pub(crate) mod icmp;
pub(crate) mod memory;
pub(crate) mod passed;
pub(crate) mod resources;
pub(crate) mod scratch;
pub(crate) mod sockopt;
pub(crate) mod watch;
