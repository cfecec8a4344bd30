//! `ccpgate config`: check, show, schema.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::out::{say, say_json, warn};
use super::running::AdminArg;
use super::seen::Tunnels;
use super::{Failure, credentials, load, ranges, tunnels};
use crate::agent::tls::Trust;
use crate::config::{self, Config, Loaded, Sources};
use crate::egress::fetch::Authorities;
use crate::plan::{self, Plan};
use crate::policy::replay::{Losses, Use};
use crate::policy::{IpTargets, Protocol};
use crate::ranges::keep::State;
use crate::serve::edl;
use crate::tls::material::TlsFiles;
use crate::wording::count;

/// Of the tunnels that a ledger remembers.
const ALL: u32 = 100_000;

/// Validate, show or describe the configuration.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Validate the configuration and say what it amounts to; all problems at once.
    ///
    /// With --against-live exit code 1 when it would deny what agents use.
    Check {
        /// Hold the targets that agents used, by the running proxy's ledger, against this configuration.
        #[arg(long)]
        against_live: bool,
        #[command(flatten)]
        admin: AdminArg,
        /// As an object.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective configuration with where each value came from.
    Show {
        /// As an object.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration's JSON Schema.
    Schema,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Command::Check { against_live, admin, json } => {
                check(sources, against_live.then_some(&admin), json)
            }
            Command::Show { json } => show(sources, json),
            Command::Schema => say_json(&config::schema()),
        }
    }
}

fn show(sources: &Sources, json: bool) -> Result<(), Failure> {
    let (loaded, plan) = load::plan(sources)?;
    load::warn_in_short(sources, &loaded.config, &plan);
    if json { say_json(&Shown { schema_version: 1, keys: loaded.to_json() }) } else { say(&loaded.to_toml()) }
}

/// Each key with its value and source, beside the version of this form.
#[derive(Serialize)]
struct Shown {
    schema_version: u32,
    #[serde(flatten)]
    keys: Value,
}

fn check(sources: &Sources, against_live: Option<&AdminArg>, json: bool) -> Result<(), Failure> {
    let loaded = load_with_files(sources)?;
    load::note_sources(sources);
    let plan = Plan::new(&loaded);
    load::warn_of(&plan);
    load::remark(&loaded.config, &plan);
    ranges::remark(&loaded.config);
    let mut summary = Summary::new(&loaded.config, &plan);
    if !json {
        say(&summary.words())?;
    }
    summary.against_live =
        against_live.map(|admin| held_against_live(admin, &loaded.config, &plan)).transpose()?;
    let live = summary.against_live.as_ref();
    if let Some(live) = live.filter(|live| live.losses.unjudged > 0) {
        warn(format_args!(
            "ledger.anonymise is on: clients are known by their networks alone, and proxy.clients has a part of {} \
             that agents use; whether it has all of those agents, `ccpgate reload` knows",
            count(live.losses.unjudged, "network")
        ));
    }
    match live {
        _ if json => say_json(&summary)?,
        Some(live) if live.losses.is_empty() => {
            say(&format!("denies nothing that agents used since {:.0}", live.since))?;
        }
        Some(live) => say(&live.losses.words(live.since))?,
        None => {}
    }
    if live.is_none_or(|live| live.losses.is_empty()) { Ok(()) } else { Err(Failure::Negative) }
}

/// What agents used, held against a configuration.
#[derive(Serialize)]
struct Live {
    /// What was used before is not known.
    since: Timestamp,
    #[serde(flatten)]
    losses: Losses,
}

/// Finds the targets that agents used and that would be denied.
fn held_against_live(admin: &AdminArg, config: &Config, plan: &Plan) -> Result<Live, Failure> {
    let running = admin.running_by(config)?;
    let tunnels: Tunnels = running.ask(&tunnels::path(None, None, ALL))?;
    let since = tunnels.complete_since.unwrap_or_else(Timestamp::now);
    let used: Vec<_> = tunnels.used().collect();
    let uses = used.iter().map(|(target, client, at)| Use { target, client: *client, at: *at });
    let current = match config.policy.ip_targets {
        IpTargets::Ranges => ranges::in_use(config),
        IpTargets::Off => None,
    };
    Ok(Live { since, losses: Losses::of(&plan.coming(config, current.as_ref()), uses) })
}

/// What a valid configuration amounts to.
#[derive(Serialize)]
struct Summary<'a> {
    schema_version: u32,
    /// Where it came from.
    source: String,
    valid: bool,
    regions: &'a [String],
    instances: &'a [String],
    patterns: Patterns,
    mode: String,
    tls: String,
    deny: usize,
    listen: Vec<String>,
    tls_listen: Vec<String>,
    admin: String,
    edl_listen: Vec<String>,
    against_live: Option<Live>,
}

/// How many there are: through the proxy, and past it.
#[derive(Serialize)]
struct Patterns {
    tcp: usize,
    udp: usize,
}

impl<'a> Summary<'a> {
    fn new(config: &'a Config, plan: &Plan) -> Self {
        let rules = plan.policy.rules();
        let tcp = rules.iter().filter(|r| r.protocol == Protocol::Tcp).count();
        Self {
            schema_version: 1,
            source: plan.source.to_string(),
            valid: true,
            regions: &config.connect.regions,
            instances: &config.connect.instances,
            patterns: Patterns { tcp, udp: rules.len() - tcp },
            mode: config.policy.mode.to_string(),
            tls: config.policy.tls.to_string(),
            deny: plan.policy.deny().len(),
            listen: config.proxy.listen.iter().map(ToString::to_string).collect(),
            tls_listen: config.tls.listen.iter().map(ToString::to_string).collect(),
            admin: config.admin.listen.to_string(),
            edl_listen: config.edl.listen.iter().map(ToString::to_string).collect(),
            against_live: None,
        }
    }

    fn words(&self) -> String {
        let tls = self.tls_listen.iter().map(|address| format!("{address} over TLS"));
        let listen: Vec<String> = self.listen.iter().cloned().chain(tls).collect();
        let lists: String = self.edl_listen.iter().map(|address| format!(", lists on {address}")).collect();
        format!(
            "{}: valid\n\
             allows {} patterns through the proxy and {} past it over UDP, for {} in {}\n\
             policy.mode = {}, policy.tls = {}, {} deny patterns\n\
             listens on {}, admin on {}{lists}\n",
            self.source,
            self.patterns.tcp,
            self.patterns.udp,
            self.instances.join(", "),
            self.regions.join(", "),
            self.mode,
            self.tls,
            self.deny,
            listen.join(", "),
            self.admin,
        )
    }
}

/// Reads the files of a section; every problem with them.
type Read = fn(&Config) -> Result<(), Vec<String>>;

/// The sections that name files.
const FILES: [(&str, Read); 5] = [
    ("tls", tls_files),
    ("egress", parent_files),
    ("ranges", ranges_files),
    ("watch", watch_file),
    ("edl", edl_files),
];

/// Loads the configuration and reads the files that it names, and reports the problems of both at once.
fn load_with_files(sources: &Sources) -> Result<Loaded, Failure> {
    let usage = |problems: Vec<String>| Failure::Usage(problems.join("\nccpgate: "));
    match config::load(sources) {
        Ok(loaded) => {
            let problems: Vec<String> =
                FILES.iter().filter_map(|(_, files)| files(&loaded.config).err()).flatten().collect();
            if problems.is_empty() { Ok(loaded) } else { Err(usage(problems)) }
        }
        Err(errors) => {
            let mut problems = vec![errors.to_string()];
            for (section, files) in FILES {
                let rest = errors.rest_if_sound(section);
                problems.extend(rest.and_then(|config| files(config).err()).into_iter().flatten());
            }
            Err(usage(problems))
        }
    }
}

/// Whether some of these files are among systemd's credentials, and can't be read here; says so.
fn kept_away(what: &str, files: impl Iterator<Item = PathBuf>) -> bool {
    let kept: Vec<_> = files.filter(|file| credentials::is_kept(file)).collect();
    if !kept.is_empty() {
        warn(credentials::not_checked(what, &kept));
    }
    !kept.is_empty()
}

/// Reads what the TLS listener would, so that a reload after a clean check succeeds.
///
/// # Errors
/// Every problem with the files.
fn tls_files(config: &Config) -> Result<(), Vec<String>> {
    if config.tls.listen.is_empty() {
        return Ok(());
    }
    let named = plan::tls(config);
    if kept_away("the TLS files", named.paths().into_iter()) {
        return Ok(());
    }
    TlsFiles::load(named)?.warnings().iter().for_each(warn);
    Ok(())
}

/// Reads what the listeners for firewalls would.
fn edl_files(config: &Config) -> Result<(), Vec<String>> {
    let edl = &config.edl;
    let files = [&edl.certificate, &edl.key, &edl.users].into_iter().flatten().cloned();
    if !edl.listen.is_empty() && kept_away("the files of [edl]", files) {
        return Ok(());
    }
    edl::Files::read(config)?.warnings().iter().for_each(warn);
    Ok(())
}

/// Reads ip-ranges.json, and what else the running proxy needs to keep it current.
fn ranges_files(config: &Config) -> Result<(), Vec<String>> {
    let ranges = &config.ranges;
    let mut problems = Vec::new();
    if let Some(file) = &ranges.file {
        problems.extend(ranges::of_use(file, config).err().map(|why| format!("ranges.file: {why}")));
    }
    problems.extend(Authorities::load("ranges.ca", ranges.ca.as_deref()).err());
    if let Some(folder) = &ranges.state {
        problems.extend(State::check(folder).err().map(|why| format!("ranges.state: {why}")));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Reads the authority that the watch would count as public.
fn watch_file(config: &Config) -> Result<(), Vec<String>> {
    Trust::with("watch.ca", config.watch.ca.as_deref()).map(drop).map_err(|why| vec![why])
}

/// Reads what the parent proxy needs, for the same reason.
fn parent_files(config: &Config) -> Result<(), Vec<String>> {
    let files = [&config.egress.proxy_credentials, &config.egress.proxy_ca].into_iter().flatten().cloned();
    if config.egress.proxy.is_some() && kept_away("the files of egress.proxy", files) {
        return Ok(());
    }
    let parent = plan::parent(config)?;
    if let Some(warning) = parent.as_ref().and_then(|parent| parent.warnings()) {
        warn(warning);
    }
    Ok(())
}
