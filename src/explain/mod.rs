//! `ccpgate explain`: what is said of a target, of an agent's error, of an agent's log.
//!
//! Pure: it reads the policy and what is known of errors, and writes words. Names are not resolved and nothing is
//! dialled.
//!
//! - `explanation`: one target, by the policy; `in_ranges`: by AWS's address ranges.
//! - [`symptom`]: what an error means, however it is spelled ([`fuzzy`]).
//! - [`agent_log`]: every failure in a log of the panel.

pub mod agent_log;
mod explanation;
pub mod fuzzy;
pub(crate) mod in_ranges;
pub mod symptom;

pub(crate) use explanation::{Explanation, Verdict};
