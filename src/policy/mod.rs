//! The policy: from a parsed target to a decision with its reason and rule. Pure, no I/O.

mod rule;

pub use rule::{Breadth, Category, Generation, Protocol, Rule};
