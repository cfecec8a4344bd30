//! `ccpgate ranges`: what ip-ranges.json means for this configuration.

mod accept;

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::out::{say, say_json, tell, warn};
use super::{Failure, file_or_input, load};
use crate::config::{Config, Sources};
use crate::plan::Plan;
use crate::policy::{IpTargets, OutsideRanges, Protocol};
use crate::ranges::current::{Current as InUse, InForce};
use crate::ranges::diff::{Diff, Version};
use crate::ranges::read::ADDRESS;
use crate::ranges::select::{Selection, Set, Wanted};
use crate::ranges::show::Shown;
use crate::ranges::{Ranges, admit, day, keep, tell as words};

/// Read ip-ranges.json (Option 2): the prefixes that this configuration needs, what changed, and which
/// version the running proxy takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The prefixes that this configuration needs, aggregated, and how much they open.
    Show {
        /// The file, - for standard input; else the newest of `ranges.file` and of what the running
        /// proxy keeps.
        #[arg(long, value_name = "FILE", value_parser = file_or_input())]
        file: Option<PathBuf>,
        /// As an object.
        #[arg(long)]
        json: bool,
    },
    /// What changed between two versions, and by which day it must be in the firewall.
    ///
    /// Exit code 1 when something was added.
    Diff {
        /// The older file.
        #[arg(value_parser = file_or_input())]
        old: PathBuf,
        /// The newer file; - for standard input.
        #[arg(value_parser = file_or_input())]
        new: PathBuf,
        /// A folder of other versions: they tell more exactly when a prefix appeared.
        #[arg(long, value_name = "FOLDER")]
        history: Option<PathBuf>,
        /// As an object.
        #[arg(long, conflicts_with_all = ["ticket", "ics"])]
        json: bool,
        /// A change request for whoever runs the firewall.
        #[arg(long, conflicts_with = "ics")]
        ticket: bool,
        /// A calendar with an entry for each day on which something is due.
        #[arg(long)]
        ics: bool,
    },
    Accept(accept::Args),
}

/// How a difference is printed.
enum Form {
    Text,
    Json,
    Ticket,
    Calendar,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Command::Show { file, json } => show(file.as_deref(), json, sources),
            Command::Diff { old, new, history, json, ticket, ics } => {
                let form = match (json, ticket, ics) {
                    (true, ..) => Form::Json,
                    (_, true, _) => Form::Ticket,
                    (_, _, true) => Form::Calendar,
                    _ => Form::Text,
                };
                diff(&old, &new, history.as_deref(), &form, sources)
            }
            Command::Accept(args) => args.run(sources),
        }
    }
}

/// The version that a command works with, and what the configuration needs of it.
pub(super) struct Current {
    pub version: Version,
    /// How many names and patterns the proxy lets through.
    pub names: usize,
}

impl Current {
    /// Reads `--file`, or the newest of `ranges.file` and of what the running proxy keeps, and says what
    /// should be thought about.
    pub(super) fn load(file: Option<&Path>, config: &Config, plan: &Plan) -> Result<Self, Failure> {
        let (file, ranges) = match file {
            Some(file) => (file.to_owned(), keep::load(file).map_err(Failure::Usage)?),
            None => newest(config)?,
        };
        let ranges = in_time(&file, ranges).map_err(Failure::Usage)?;
        let version = selected(ranges, config);
        let selection = &version.selection;
        if let Some(unknown) = lacking(&file, selection, config).map_err(Failure::Usage)? {
            warn(unknown);
        }
        let empty = |set| selection.of(set).is_none_or(|selected| selected.table.is_empty());
        if config.connect.media && empty(Set::Media) {
            warn(format_args!("{}: it has no prefix of AMAZON_CONNECT for the voice", file.display()));
        }
        warn_of_age(&version.ranges, config);
        let names = plan.policy.rules().iter().filter(|rule| rule.protocol == Protocol::Tcp).count();
        Ok(Self { version, names })
    }
}

/// The newest version on this machine, and what was passed over.
fn found(config: &Config) -> (Option<(PathBuf, Ranges)>, Vec<String>) {
    let folder = keep::folder(config.ranges.state.as_deref());
    keep::newest(config.ranges.file.as_deref(), folder.as_deref())
}

/// The newest version on this machine.
fn newest(config: &Config) -> Result<(PathBuf, Ranges), Failure> {
    let (found, passed_over) = found(config);
    match found {
        Some(found) => {
            passed_over.iter().for_each(warn);
            Ok(found)
        }
        None if passed_over.is_empty() => Err(Failure::Usage(format!(
            "no ip-ranges.json is named; name one with --file or in ranges.file, fetched from {ADDRESS}"
        ))),
        None => Err(Failure::Usage(passed_over.join("\nccpgate: "))),
    }
}

/// The version that a running proxy with this configuration would know addresses by; none where there is none.
/// Says what is wrong where something depends on it.
pub(super) fn in_use(config: &Config) -> Option<InUse> {
    let (found, passed_over) = found(config);
    passed_over.iter().for_each(warn);
    if found.is_none() && config.policy.ip_targets == IpTargets::Ranges {
        warn(
            "policy.ip_targets = \"ranges\" has no ip-ranges.json to go by here, so every address is denied",
        );
    }
    let wanted = Wanted::new(&config.connect, config.ranges.ec2_global);
    found.map(|(_, ranges)| InUse::new(ranges, Vec::new(), &wanted))
}

/// The ranges that a proxy with this configuration would judge by, where it judges.
pub(super) fn in_force(config: &Config) -> Arc<InForce> {
    let in_force = InForce::default();
    if config.policy.ranges != OutsideRanges::Off {
        in_force.store(in_use(config).map(Arc::new));
    }
    Arc::new(in_force)
}

/// Which regions a file has nothing of, where `connect.regions` names none by itself.
///
/// # Errors
/// In one line that begins with its path, where it names them: it would be of no use.
fn lacking(file: &Path, selection: &Selection, config: &Config) -> Result<Option<String>, String> {
    if selection.unknown_regions.is_empty() {
        return Ok(None);
    }
    let message = format!("{}: it has nothing of {}", file.display(), selection.unknown_regions.join(", "));
    if config.connect.regions.iter().any(|region| region == "*") {
        return Ok(Some(message));
    }
    Err(format!(
        "{message}, which connect.regions names; is the file old, or cut down? Get it from {ADDRESS}"
    ))
}

/// A file that is of use to a proxy with this configuration.
///
/// # Errors
/// In one line that begins with its path.
pub(super) fn of_use(file: &Path, config: &Config) -> Result<(), String> {
    let version = selected(usable(file)?, config);
    lacking(file, &version.selection, config).map(drop)
}

/// A file that a proxy would take, by itself and by this machine's clock.
///
/// # Errors
/// In one line that begins with its path.
fn usable(file: &Path) -> Result<Ranges, String> {
    in_time(file, keep::load(file)?)
}

/// # Errors
/// The version is one of the future by this machine's clock.
fn in_time(file: &Path, ranges: Ranges) -> Result<Ranges, String> {
    match admit::ahead_of_the_clock(&ranges, Timestamp::now()) {
        Some(why) => Err(format!("{}: {why}, or get the file from {ADDRESS}", file.display())),
        None => Ok(ranges),
    }
}

/// Says what should be thought about the version that a running proxy with this configuration would begin with.
pub(super) fn remark(config: &Config) {
    if let (Some((_, ranges)), true) = (found(config).0, config.ranges.is_named()) {
        warn_of_age(&ranges, config);
    }
}

/// A version, and what the configuration needs of it.
fn version(file: &Path, config: &Config) -> Result<Version, Failure> {
    Ok(selected(usable(file).map_err(Failure::Usage)?, config))
}

fn selected(ranges: Ranges, config: &Config) -> Version {
    let wanted = Wanted::new(&config.connect, config.ranges.ec2_global);
    let selection = Selection::new(&ranges, &wanted);
    Version { ranges, selection }
}

fn warn_of_age(ranges: &Ranges, config: &Config) {
    let age = Timestamp::now().duration_since(ranges.created);
    if age.unsigned_abs() > config.ranges.max_age && age.is_positive() {
        let until_then = match config.policy.ranges {
            OutsideRanges::Enforce => ", until when policy.ranges = \"enforce\" only warns",
            OutsideRanges::Off | OutsideRanges::Warn => "",
        };
        warn(format_args!(
            "ip-ranges.json of {} is {} days old (ranges.max_age); get the current one from {ADDRESS}{until_then}",
            ranges.day(),
            age.as_hours() / 24
        ));
    }
}

fn show(file: Option<&Path>, json: bool, sources: &Sources) -> Result<(), Failure> {
    let (loaded, plan) = load::plan(sources)?;
    load::warn_in_short(sources, &loaded.config, &plan);
    let current = Current::load(file, &loaded.config, &plan)?;
    let shown = Shown::new(&current.version.ranges, &current.version.selection, current.names);
    if json { say_json(&shown) } else { say(&shown.to_string()) }
}

fn diff(
    old: &Path,
    new: &Path,
    history: Option<&Path>,
    form: &Form,
    sources: &Sources,
) -> Result<(), Failure> {
    let (loaded, plan) = load::plan(sources)?;
    load::warn_in_short(sources, &loaded.config, &plan);
    let config = &loaded.config;
    let current = Current::load(Some(new), config, &plan)?.version;
    let older = version(old, config)?;
    if let [_, ..] = &older.selection.unknown_regions[..] {
        let unknown = older.selection.unknown_regions.join(", ");
        warn(format_args!(
            "{}: it has nothing of {unknown} yet, so all of it counts as added",
            old.display()
        ));
    }
    let between = match history {
        Some(folder) => others(folder, config, older.ranges.created..current.ranges.created)?,
        None => Vec::new(),
    };
    let today = day(Timestamp::now());
    let diff = Diff::new(&older, &current, &between, today)
        .map_err(|why| Failure::Usage(format!("{}, {}: {why}", old.display(), new.display())))?;
    match form {
        Form::Json => say_json(&diff)?,
        Form::Text => say(&words::text(&diff, today))?,
        Form::Ticket => say(&words::ticket(&diff, today, &current.selection.regions))?,
        Form::Calendar => match words::calendar(&diff, today) {
            Some(calendar) => say(&calendar)?,
            None => tell("nothing was added, so nothing is due: there is no calendar entry"),
        },
    }
    if diff.added.is_empty() { Ok(()) } else { Err(Failure::Negative) }
}

/// The versions in a folder that were made within this time.
fn others(
    folder: &Path,
    config: &Config,
    made: impl RangeBounds<Timestamp>,
) -> Result<Vec<Version>, Failure> {
    let files = keep::versions(folder)
        .map_err(|error| Failure::Usage(format!("{}: can't be read: {error}", folder.display())))?;
    let mut found = Vec::new();
    for file in files {
        match version(&file, config) {
            Ok(other) if made.contains(&other.ranges.created) => found.push(other),
            Ok(_) => {}
            // What else lies there doesn't matter to the answer.
            Err(Failure::Usage(why)) => warn(why),
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}

/// A version with those before it, which tell when its prefixes appeared: those of a folder, else those that
/// the running proxy keeps.
pub(super) fn with_history(
    version: Version,
    history: Option<&Path>,
    config: &Config,
) -> Result<InUse, Failure> {
    let Version { ranges, .. } = version;
    let kept = keep::folder(config.ranges.state.as_deref()).filter(|folder| folder.is_dir());
    let before = match (history, kept) {
        (Some(folder), _) => others(folder, config, ..ranges.created)?,
        // It may be closed to who runs this command; then deadlines aren't known.
        (None, Some(folder)) => others(&folder, config, ..ranges.created).unwrap_or_else(|failure| {
            if let Failure::Usage(why) = failure {
                warn(why);
            }
            Vec::new()
        }),
        (None, None) => Vec::new(),
    };
    let mut before: Vec<Arc<Version>> =
        before.iter().map(|version| Arc::new(version.without_entries())).collect();
    before.sort_by_key(|version| (version.ranges.created, version.ranges.sync_token));
    let wanted = Wanted::new(&config.connect, config.ranges.ec2_global);
    Ok(InUse::new(ranges, before, &wanted))
}
