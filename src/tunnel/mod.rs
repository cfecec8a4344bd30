//! The tunnel: guarded by its ClientHello, then relayed untouched.

pub mod hello;
pub mod pipe;
pub mod relay;
pub mod wire;
