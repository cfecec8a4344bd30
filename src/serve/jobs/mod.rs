//! What runs beside the loop, on the control runtime, and leaves a result that somebody must see.
//!
//! - [`consumers`]: writes down which firewall fetched which list.
//! - [`findings`]: looks once a second at what fails, so that findings are logged and metrics move
//!   although nobody asks.
//! - [`ranges`]: keeps AWS's address ranges current.
//! - [`generations`]: asks older processes how they do, so that their counters outlive them.
//! - [`watch`]: a round of `check` now and then.

pub(super) mod consumers;
pub(super) mod findings;
pub(super) mod generations;
pub(super) mod ranges;
pub(super) mod watch;
