//! `ccpgate pac`.

use super::{Failure, load, out};
use crate::config::Sources;
use crate::pac::proxies::Advertise;

/// Print the PAC file for browsers, as the admin listener serves it.
#[derive(clap::Args)]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        load::warn_in_short(&loaded.config, &plan);
        load::remark(&loaded.config, &plan);
        let advertise = Advertise::from(&loaded.config);
        out::say(&advertise.standing(&plan.policy).map_err(Failure::Usage)?)
    }
}
