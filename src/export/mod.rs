//! Lists for other people's boxes: what Amazon Connect needs, in the form that each takes. Data in,
//! text out.

pub mod firewall;
pub mod iptables;
pub mod nft;
