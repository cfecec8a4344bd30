//! ccpgate: a forward HTTPS/CONNECT proxy for the egress of contact centres that run Amazon Connect.
//!
//! The pure core ([`target`], [`policy`], [`catalogue`], [`cause`], [`outcome`], [`pac`], [`address`], [`explain`],
//! [`findings`], [`ranges`], [`export`], [`desk`]) does no I/O. [`proxy`] is the data path, accept → admit → decide → reach → guard → [`tunnel`] → record, on the
//! rooms that do its I/O: [`egress`], `net`, [`tunnel`]. [`journal`] is told what happens; [`config`] turns text into
//! what is in force; `diagnose` tests the network as an agent's browser, `agent`, meets it; `serve` is the life of the process; [`cli`] is what an administrator types.

pub mod address;
pub(crate) mod admin;
pub mod agent;
pub(crate) mod as_text;
pub mod bundle;
pub mod catalogue;
pub mod cause;
pub mod cli;
pub mod config;
pub mod desk;
pub(crate) mod diagnose;
pub(crate) mod digest;
pub mod egress;
pub mod explain;
pub mod export;
pub mod findings;
pub mod journal;
pub(crate) mod lock;
pub(crate) mod net;
pub mod outcome;
pub mod pac;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod ranges;
pub(crate) mod rehearse;
pub(crate) mod serve;
pub(crate) mod simulate;
pub mod target;
pub mod tls;
pub mod tunnel;

/// This version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("CCPGATE_COMMIT");
