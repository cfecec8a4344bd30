//! The texts of the commands' results; each function answers one command.

use serde::Serialize;
use serde_json::json;

use super::{Failure, say};
use crate::catalogue::{Elsewhere, find_elsewhere_given};
use crate::config::{Config, Sources};
use crate::explain::{Explanation, Verdict};
use crate::plan::Plan;
use crate::policy::Protocol;
use crate::target::{Host, Target};

/// Explains each target; a denied one makes the answer negative.
pub fn explain(
    sources: &Sources,
    config: &Config,
    plan: &Plan,
    targets: &[String],
    json: bool,
) -> Result<(), Failure> {
    let mut parsed = Vec::with_capacity(targets.len());
    for text in targets {
        let target = Target::parse_human(text).map_err(|error| {
            Failure::Usage(format!("{text:?} is no target: {error}; valid are host, host:port or a URL"))
        })?;
        parsed.push(target);
    }
    let explained: Vec<Explanation> = parsed
        .iter()
        .map(|target| Explanation::new(&plan.policy, target, elsewhere(config, target).as_ref()))
        .collect();
    if json {
        let configuration = Configuration {
            file: sources.file.as_ref().map(|file| file.display().to_string()),
            variables: sources.env.iter().map(|(name, _)| name.as_str()).collect(),
        };
        let answer = |explanation| Answer { explanation, configuration: &configuration };
        let value = match &explained[..] {
            [only] => serde_json::to_string_pretty(&answer(only)),
            all => serde_json::to_string_pretty(&all.iter().map(answer).collect::<Vec<_>>()),
        };
        say(&value.map_err(|e| Failure::Usage(e.to_string()))?)?;
    } else {
        let texts: Vec<String> = explained.iter().map(ToString::to_string).collect();
        say(&texts.join("\n"))?;
    }
    if explained.iter().any(|e| e.decision == Verdict::Denied) { Err(Failure::Negative) } else { Ok(()) }
}

/// An explanation, and by what configuration it holds.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    configuration: &'a Configuration<'a>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    /// The file that was read; null: the embedded default.
    file: Option<String>,
    /// The names of the variables that count.
    variables: Vec<&'a str>,
}

/// What the catalogue knows of a host that the configuration leaves out.
fn elsewhere(config: &Config, target: &Target) -> Option<Elsewhere> {
    let Host::Name(name) = &target.host else { return None };
    find_elsewhere_given(name, &config.connect)
}

/// What `config check` says of a sound configuration.
pub fn checked(config: &Config, plan: &Plan) -> String {
    let rules = plan.policy.rules();
    let tcp = rules.iter().filter(|r| r.protocol == Protocol::Tcp).count();
    let plain = config.proxy.listen.iter().map(ToString::to_string);
    let tls = config.tls.listen.iter().map(|address| format!("{address} over TLS"));
    let listen: Vec<String> = plain.chain(tls).collect();
    format!(
        "{}: valid\n\
         allows {tcp} patterns through the proxy and {} past it over UDP, for {} in {}\n\
         policy.mode = {}, policy.tls = {}, {} deny patterns\n\
         listens on {}, admin on {}\n",
        plan.source,
        rules.len() - tcp,
        config.connect.instances.join(", "),
        config.connect.regions.join(", "),
        config.policy.mode,
        config.policy.tls,
        plan.policy.deny().len(),
        listen.join(", "),
        config.admin.listen,
    )
}

/// Version, commit and TLS provider.
pub fn version(as_json: bool) -> String {
    let (version, commit, provider) = (crate::VERSION, crate::COMMIT, "rustls with aws-lc-rs");
    if as_json {
        return json!({ "version": version, "commit": commit, "tls_provider": provider }).to_string();
    }
    format!("ccpgate {version} (commit {commit}), TLS provider: {provider}\n")
}
