//! `ccpgate allowlist`.

use super::{Failure, load, out};
use crate::catalogue::{self, Format};
use crate::config::Sources;

/// Print the allow list as resolved from the configuration.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (_, plan) = load::plan(sources)?;
        load::warn_of(&plan);
        let format = if self.json { Format::Json } else { self.format };
        out::say(&catalogue::render(plan.policy.rules(), format))
    }
}
