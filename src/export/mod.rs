//! Lists for other people's boxes: what Amazon Connect needs, in the form that each takes. Data in,
//! text out.

pub mod audit;
pub mod edl;
mod entry;
pub mod firewall;
pub mod foreign;
mod forms;
pub mod iptables;
pub mod list;
pub mod nft;
mod overlap;
mod shape;
mod squid;
