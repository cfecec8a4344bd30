//! ccpgate: a forward HTTPS/CONNECT proxy for the egress of contact centres that run Amazon Connect.
//!
//! The library holds everything; the binary only calls [`cli::run`]. The pure core (`target`,
//! `policy`, `catalogue`, `pac`, `address`) does no I/O; `proxy` and `tunnel` are the data path.

pub mod address;
pub mod explain;
pub mod pac;
pub mod policy;
pub mod target;
