//! `ccpgate allowlist`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use strum::{EnumMessage, VariantArray};

use super::{Failure, load, out};
use crate::catalogue::{self, Format};
use crate::config::Sources;

/// Print the allow list as resolved from the configuration.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print it.
    #[arg(long, value_parser = formats(), default_value = <&str>::from(Format::Table))]
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

/// The words of `--format`, with what the catalogue says of each.
fn formats() -> impl TypedValueParser<Value = Format> {
    let word = |format: &Format| {
        let help = format.get_documentation().unwrap_or_default();
        PossibleValue::new(<&str>::from(*format)).help(help.trim_end_matches('.'))
    };
    PossibleValuesParser::new(Format::VARIANTS.iter().map(word))
        .try_map(|word| word.parse::<Format>().map_err(|error| error.to_string()))
}
