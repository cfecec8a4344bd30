//! The policy: from a parsed target to a decision with its reason and rule. Pure, no I/O.

mod pattern;
mod rule;

pub use pattern::{Pattern, PatternError};
pub use rule::{Breadth, Category, Generation, Protocol, Rule};
