//! The proxy listeners: from an accepted connection to its tunnel or refusal.

pub mod admission;
pub mod answer;
pub mod drain;
mod h1;
pub mod h2;
mod handshake;
pub mod head;
pub mod https;
pub mod listener;
mod recognise;
pub mod record;
pub mod refusal;
pub mod routes;
pub mod session;
pub mod shared;
pub mod shown;
pub mod snapshot;
pub mod timer;
