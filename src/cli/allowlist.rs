//! `ccpgate allowlist`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use strum::{EnumMessage, VariantArray};

use super::{Failure, load, out};
use crate::catalogue::{self, Format};
use crate::config::Sources;
use crate::export::list::{self, Product};

/// Print the allow list as resolved from the configuration.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print it. For other products each entry is marked exact, widened (with a host that gets in by
    /// mistake) or impossible (left out), in a comment or on standard error.
    #[arg(long, value_parser = formats(), default_value = <&str>::from(Format::Table))]
    format: Form,
    /// The same as --format json.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (_, plan) = load::plan(sources)?;
        load::warn_of(&plan);
        match if self.json { Form::List(Format::Json) } else { self.format } {
            Form::List(format) => out::say(&catalogue::render(plan.policy.rules(), format)),
            Form::Product(product) => {
                let export = list::export(&plan.policy, product);
                export.notes.iter().for_each(out::tell);
                out::say(&export.text)
            }
        }
    }
}

/// Our own forms, and those of other products.
#[derive(Clone, Copy, Debug)]
enum Form {
    List(Format),
    Product(Product),
}

/// The words of `--format`, with what is said of each.
fn formats() -> impl TypedValueParser<Value = Form> {
    fn word<W: EnumMessage + Copy + Into<&'static str>>(word: &W) -> PossibleValue {
        let help = word.get_documentation().unwrap_or_default();
        PossibleValue::new((*word).into()).help(help.trim_end_matches('.'))
    }
    let words = Format::VARIANTS.iter().map(word).chain(Product::VARIANTS.iter().map(word));
    PossibleValuesParser::new(words.collect::<Vec<_>>()).try_map(|word| {
        let ours = word.parse::<Format>().map(Form::List);
        ours.or_else(|_| word.parse::<Product>().map(Form::Product)).map_err(|error| error.to_string())
    })
}
