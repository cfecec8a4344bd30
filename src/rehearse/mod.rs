//! Plays agents' calls, and judges the share that fails.

pub(crate) mod statistics;
