//! The configuration and the plan for all commands, and what standard error says of them: which file the
//! answer is based on, where that could surprise, and warnings.

use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::Failure;
use super::out::{tell, warn};
use crate::agent::tls::Trust;
use crate::config::{self, Config, Loaded, Sources};
use crate::egress::parent::Parent;
use crate::pac::proxies::{self, Remark};
use crate::plan::{self, Plan};

/// Loads and resolves the configuration.
pub(super) fn plan(sources: &Sources) -> Result<(Loaded, Plan), Failure> {
    let loaded = config::load(sources).map_err(|error| Failure::Usage(error.to_string()))?;
    note_sources(sources);
    let plan = Plan::new(&loaded);
    Ok((loaded, plan))
}

/// The authorities that count, with those of a file: of `--ca`, else as in the running proxy's own rounds.
pub(super) fn trust(
    ca: Option<&Path>,
    config: &Config,
) -> Result<(Trust, Vec<CertificateDer<'static>>), Failure> {
    let (key, file) = match ca {
        Some(file) => ("--ca", Some(file)),
        None => ("watch.ca", config.watch.ca.as_deref()),
    };
    Trust::with(key, file).map_err(Failure::Usage)
}

/// The parent proxy of a configuration, with the files that it names.
pub(super) fn parent(config: &Config) -> Result<Option<Parent>, Failure> {
    plan::parent(config).map_err(|problems| Failure::Usage(problems.join("\n")))
}

/// Says which file the answer is based on, where that could surprise.
pub(super) fn note_sources(sources: &Sources) {
    if let Some(surprise) = sources.surprise() {
        tell(surprise);
    }
}

/// Prints all warnings about the allow list, for `allowlist` and `config check`.
pub(super) fn warn_of(plan: &Plan) {
    plan.warnings.iter().for_each(warn);
}

/// Prints one line about the warnings, for commands that answer something else. A list that allows any
/// instance is always named.
pub(super) fn warn_in_short(sources: &Sources, config: &Config, plan: &Plan) {
    let (any, count) = (config.connect.instances.iter().any(|alias| alias == "*"), plan.warnings.len());
    match (any, count) {
        (_, 0) => {}
        (true, 1) => warn(r#"connect.instances = ["*"] is open to any AWS customer"#),
        (true, _) => warn(format_args!(
            "connect.instances = [\"*\"] is open to any AWS customer; this and {} more: {}",
            count - 1,
            sources.command("config check")
        )),
        (false, 1) => warn(&plan.warnings[0]),
        (false, _) => {
            tell(format_args!("{count} warnings about the allow list: {}", sources.command("config check")));
        }
    }
}

/// Prints warnings and notes about the PAC file.
pub(super) fn remark(config: &Config, plan: &Plan) {
    for remark in proxies::remarks(&config.into(), &plan.policy) {
        match remark {
            Remark::Warning(text) => warn(text),
            Remark::Note(text) => tell(format_args!("note: {text}")),
        }
    }
}
