//! `ccpgate pac`.

use super::{Failure, load, out};
use crate::config::Sources;
use crate::pac;
use crate::pac::proxies::Advertise;
use crate::pac::rendezvous::{Key, Spread};

/// Print the PAC file for browsers, as the admin listener serves it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The file that a client gets with `pac.spread`, by its address, or by the key in the URL that it has.
    #[arg(long, value_name = "ADDRESS|KEY", value_parser = key)]
    key: Option<Key>,
}

fn key(text: &str) -> Result<Key, String> {
    Key::of_text(text).ok_or_else(|| "expected an address such as 10.4.1.7, or the text of a key".into())
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        load::warn_in_short(sources, &loaded.config, &plan);
        load::remark(&loaded.config, &plan);
        let advertise = Advertise::from(&loaded.config);
        if self.key.is_some() && advertise.spread == Spread::Off {
            out::warn("--key has no effect: pac.spread is \"off\"");
        }
        out::say(&pac::render(&plan.policy, &advertise.standing(self.key).map_err(Failure::Usage)?))
    }
}
