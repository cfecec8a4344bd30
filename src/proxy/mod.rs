//! The proxy listeners: from an accepted connection to its tunnel or refusal.

pub mod admission;
pub(crate) mod answer;
mod balanced;
pub mod conditions;
mod desk;
pub(crate) mod drain;
mod h1;
pub(crate) mod h2;
mod handshake;
pub mod head;
mod https;
mod in_turn;
pub(crate) mod listener;
pub mod proxy_protocol;
mod recognise;
pub(crate) mod record;
pub mod refusal;
pub(crate) mod routes;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod shown;
pub(crate) mod snapshot;
pub(crate) mod timer;
