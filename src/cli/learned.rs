//! `ccpgate learned`.

use serde_json::Value;

use super::Failure;
use super::out::{say, say_json};
use super::running::AdminArg;
use super::seen::{self, Learned};
use crate::config::Sources;

/// From the running proxy: the hosts that agents used under rules that are open to any AWS customer, as
/// [[allow]] entries that could stand in such a rule's place.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArg,
    /// An array, as /api/learned gives it.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let running = self.admin.running(sources)?;
        if self.json {
            return say_json(&running.ask::<Vec<Value>>("/api/learned")?);
        }
        say(&seen::learned(&running.ask::<Vec<Learned>>("/api/learned")?))
    }
}
