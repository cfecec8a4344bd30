//! `ccpgate explain`: targets by the allow list; `--symptom` and `--log`, which need no
//! configuration, by what is known of agents' errors.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lately::Lately;
use super::out::{say, say_json, warn};
use super::running::AdminArg;
use super::seen::Tunnels;
use super::{Failure, file_or_input, load, ranges, tunnels};
use crate::catalogue::{Elsewhere, find_elsewhere_given};
use crate::config::{Config, Sources};
use crate::explain::agent_log::join::Desk;
use crate::explain::agent_log::{self, LARGEST};
use crate::explain::in_ranges::InRanges;
use crate::explain::symptom::{self, LONGEST};
use crate::explain::{Explanation, Verdict};
use crate::target::{Host, Target};
use crate::tunnel::hello::Check;

/// All that a ledger can hold of a desk.
const ALL: u32 = 100_000;

/// Say whether targets are allowed, by which rule or for which reason not; or what an agent's
/// error means.
///
/// Exit code 1 when a target is denied, when nothing known matches the symptom, or when the log
/// speaks of the network or the proxy.
#[derive(clap::Args)]
pub(super) struct Args {
    /// host, host:port, or a URL; the port is that of the URL's scheme, or 443, where none is given.
    #[arg(required_unless_present_any = ["symptom", "log"], value_name = "TARGET")]
    targets: Vec<String>,
    /// What the agent's panel or its log says, typing errors and all: whose fault it is, what
    /// decides between the readings, what to do.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["targets", "log"], allow_hyphen_values = true)]
    symptom: Option<String>,
    /// The file that "Download logs" in the panel's settings gives: every failure in it, with its
    /// time, whose fault it is, and why; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "targets", value_parser = file_or_input())]
    log: Option<PathBuf>,
    /// The desk whose log it is: what the running proxy saw of it at that second is joined in.
    #[arg(long, value_name = "ADDRESS", requires = "log", conflicts_with_all = ["targets", "symptom"], value_parser = tunnels::client)]
    client: Option<IpAddr>,
    /// With targets: adds what this running proxy saw of them lately.
    #[command(flatten)]
    admin: AdminArg,
    /// An object, or an array of them for several targets.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let negative = match (&self.symptom, &self.log) {
            (Some(_), _) if self.admin.is_given() => {
                return Err(Failure::Usage(
                    "--admin has no use with --symptom: the text alone is judged".to_owned(),
                ));
            }
            (Some(text), _) => explain_symptom(text, self.json)?,
            (None, Some(file)) => {
                if self.admin.is_given() && self.client.is_none() {
                    let why = "--admin needs --client ADDRESS here: the log doesn't say whose it is";
                    return Err(Failure::Usage(why.to_owned()));
                }
                let desk = self.client.map(|client| desk(client, &self.admin, sources)).transpose()?;
                explain_log(file, desk.as_ref(), self.json)?
            }
            (None, None) => explain_targets(&self.targets, &self.admin, self.json, sources)?,
        };
        if negative { Err(Failure::Negative) } else { Ok(()) }
    }
}

/// Returns whether one of the targets is denied.
fn explain_targets(
    targets: &[String],
    admin: &AdminArg,
    json: bool,
    sources: &Sources,
) -> Result<bool, Failure> {
    let (loaded, plan) = load::plan(sources)?;
    let config = &loaded.config;
    load::warn_in_short(sources, config, &plan);
    let parsed = targets.iter().map(|text| {
        Target::parse_human(text).map_err(|error| {
            Failure::Usage(format!("{text:?} is no target: {error}; valid are host, host:port or a URL"))
        })
    });
    let parsed: Vec<Target> = parsed.collect::<Result<_, _>>()?;
    let is_address = |target: &Target| matches!(target.host, Host::Ip(_));
    let current = if parsed.iter().any(is_address) { ranges::in_use(config) } else { None };
    let explained: Vec<Explanation> = parsed
        .iter()
        .map(|target| {
            let explanation = Explanation::new(&plan.policy, target, elsewhere(config, target).as_ref());
            let explanation = match (&current, &target.host) {
                (Some(current), Host::Ip(address)) => {
                    let (on, hello) = (config.policy.ip_targets, hello(config.policy.tls));
                    let allowed = &config.egress.allow_private;
                    explanation.in_ranges(InRanges::new(current, *address, target.port, allowed, on, hello))
                }
                _ => explanation,
            };
            let explanation = match plan.barred(config, target) {
                Some(why) => explanation.barred(&why),
                None => explanation,
            };
            let explanation = match plan.lets_through(config, target) {
                true => explanation.let_through(),
                false => explanation,
            };
            match plan.parent_for(config, target) {
                Some(parent) => explanation.through(parent.to_string()),
                None => explanation,
            }
        })
        .collect();
    let running = admin.is_given().then(|| admin.running(sources)).transpose()?;
    let seen = |target: &Target| running.as_ref().map(|running| Lately::of(target, running)).transpose();
    let lately: Vec<Option<Lately>> = parsed.iter().map(seen).collect::<Result<_, _>>()?;
    let explained_and_seen = || explained.iter().zip(&lately);
    if json {
        let configuration = Configuration {
            file: sources.file.as_ref().map(|file| file.display().to_string()),
            variables: sources.env.iter().map(|(name, _)| name.as_str()).collect(),
        };
        let answer = |(explanation, lately)| Answer {
            schema_version: 1,
            explanation,
            configuration: &configuration,
            lately,
        };
        match &explained_and_seen().map(answer).collect::<Vec<_>>()[..] {
            [only] => say_json(only)?,
            all => say_json(&all)?,
        }
    } else {
        let text = |(explanation, lately): (&Explanation, &Option<Lately>)| match lately {
            Some(lately) => format!("{explanation}\n{lately}"),
            None => explanation.to_string(),
        };
        let texts: Vec<String> = explained_and_seen().map(text).collect();
        say(&texts.join("\n"))?;
    }
    Ok(explained.iter().any(|explanation| explanation.decision == Verdict::Denied))
}

/// An explanation, and the configuration that it holds for.
#[derive(Serialize)]
struct Answer<'a> {
    schema_version: u32,
    #[serde(flatten)]
    explanation: &'a Explanation,
    configuration: &'a Configuration<'a>,
    /// What a running proxy saw, where one was asked.
    lately: &'a Option<Lately>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    /// The file that was read; null: the embedded default.
    file: Option<String>,
    /// The names of the variables that were read.
    variables: Vec<&'a str>,
}

/// What the first bytes must be, where an address is let through as a service's.
fn hello(check: Check) -> &'static str {
    match check {
        Check::Sni => {
            "the first bytes must be a ClientHello that names a host of the allow list, or none (policy.tls)"
        }
        Check::Tls => "the first bytes must be a ClientHello, whatever it names (policy.tls)",
        Check::Off => "any first bytes will do (policy.tls)",
    }
}

/// The catalogue's endpoint for a host that the configuration leaves out.
fn elsewhere(config: &Config, target: &Target) -> Option<Elsewhere> {
    let Host::Name(name) = &target.host else { return None };
    find_elsewhere_given(name, &config.connect)
}

/// What the running proxy saw of a desk.
fn desk(client: IpAddr, admin: &AdminArg, sources: &Sources) -> Result<Desk, Failure> {
    let all: Tunnels = admin.running(sources)?.ask(&tunnels::path(Some(&client.to_string()), None, ALL))?;
    if all.clients_are_networks {
        warn("ledger.anonymise is on: the tunnels are those of the whole network of this desk");
    }
    Ok(all.desk())
}

/// Returns whether nothing known matches.
fn explain_symptom(text: &str, json: bool) -> Result<bool, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::Usage(
            "--symptom is empty; give what the panel or its log says, as in --symptom 'No ICE candidate'"
                .to_owned(),
        ));
    }
    let answer = symptom::explain(text);
    if answer.cut {
        warn(format_args!("the text is long; its first {LONGEST} characters were compared"));
    }
    if json {
        say_json(&answer)?
    } else {
        say(&answer.to_string())?
    }
    Ok(answer.matches.is_empty())
}

/// Returns whether the log has a failure of the network or the proxy.
fn explain_log(file: &Path, desk: Option<&Desk>, json: bool) -> Result<bool, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let entries = agent_log::read::read(&log_bytes(file).map_err(wrong)?).map_err(wrong)?;
    if entries.is_empty() {
        warn(format_args!("{}: the log has no entries", file.display()));
    }
    let report = agent_log::report(entries, desk);
    if json {
        say_json(&report)?
    } else {
        say(&report.to_string())?
    }
    Ok(report.is_negative())
}

/// The whole file, if it isn't larger than a log can be.
fn log_bytes(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = LARGEST as u64 + 1;
    let read = File::open(file).and_then(|opened| opened.take(limit).read_to_end(&mut bytes));
    read.map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() > LARGEST {
        return Err(format!("is larger than {} MiB, so it isn't a log of the panel", LARGEST >> 20));
    }
    Ok(bytes)
}
