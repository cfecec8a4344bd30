//! `ccpgate denied`.

use serde_json::Value;

use super::Failure;
use super::out::{say, say_json};
use super::running::AdminArg;
use super::seen::{self, Denied};
use crate::config::Sources;

/// From the running proxy: the targets that were denied lately, how often and to how many clients, and
/// what would let each of them through.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArg,
    /// An array, as /api/denied gives it.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let running = self.admin.running(sources)?;
        if self.json {
            return say_json(&running.ask::<Vec<Value>>("/api/denied")?);
        }
        say(&seen::denied(&running.ask::<Vec<Denied>>("/api/denied")?))
    }
}
