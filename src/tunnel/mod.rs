//! The tunnel: guarded by its ClientHello, then relayed untouched.

pub mod hello;
pub(crate) mod pipe;
pub(crate) mod relay;
pub(crate) mod wire;
