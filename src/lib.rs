//! ccpgate: a forward HTTPS/CONNECT proxy for the egress of contact centres that run Amazon Connect.
//!
//! From what people type down to what everything rests on; a room imports from below alone:
//!
//! - [`cli`]: what an administrator types.
//! - `serve`: the life of the process. `admin`: what it shows over HTTP.
//! - [`proxy`]: the data path, accept → admit → decide → reach → guard → relay → record.
//! - `diagnose`, `rehearse`: the network as an agent's browser, [`agent`], meets it; `simulate`: a network to
//!   rehearse on.
//! - [`config`], [`plan`]: from text to what is in force.
//! - [`egress`], [`tunnel`], [`tls`], `net`: the rooms with I/O that the data path rests on. [`journal`]: it is
//!   told once of each beginning, end and denial, and tells metrics, log and page.
//! - The pure core, which does no I/O: [`target`], [`address`], [`policy`], [`catalogue`], [`explain`], [`pac`],
//!   [`outcome`], [`cause`], [`findings`], [`ranges`], [`export`], [`bundle`], [`desk`].

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
pub(crate) mod wording;

/// This version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("CCPGATE_COMMIT");
