//! For a denied target: the rule that comes nearest, and why it does not apply.
//!
//! Runs for people, on `explain`, refusal pages and logs; it looks at every rule and allocates.

use serde::Serialize;

use super::{Policy, Reason};
use crate::target::Target;

/// The rule nearest to a denied target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// The pattern of the rule, or the deny pattern.
    pub rule: String,
    /// Why it does not apply, in one sentence without a full stop.
    pub why: String,
}

pub(super) fn find(
    _policy: &Policy,
    _target: &Target,
    _reason: Reason,
    _rule: Option<&str>,
) -> Option<Nearest> {
    None
}
