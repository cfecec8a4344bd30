//! `ccpgate firewall verify`: whether the hole is there.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::ValueHint;
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::runtime::{Builder, Handle};

use super::words;
use crate::agent::route::Route;
use crate::cause::Owner;
use crate::cli::out::{say, say_json, warn};
use crate::cli::progress::bar;
use crate::cli::ranges::{self, Current, with_history};
use crate::cli::running::clean;
use crate::cli::table::Table;
use crate::cli::{Failure, load};
use crate::config::Sources;
use crate::diagnose::Network;
use crate::diagnose::verify::judge::{Row, Status};
use crate::diagnose::verify::report::{Deadlines, Report, Verdict, due};
use crate::diagnose::verify::verify;
use crate::egress::own::Own;
use crate::egress::resolver::Resolver;
use crate::export::firewall::Scope;
use crate::plan;
use crate::ranges::day;

/// Test the hole from here: STUN over UDP 3478 into each media prefix that TURN names resolve into today,
/// and TLS to some hosts behind each set for TCP 443.
///
/// Where a prefix is closed it says after which hop, by which day AWS uses it, whose turn it is and what to
/// do. To be run where agents' packets leave. Prefixes that no name resolves into today aren't tried, and
/// never count as open. Exit code 1 when something is closed, or couldn't be tried that agents need today.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to test: all of Option 2 is the media path, and TLS by address.
    #[arg(long, value_parser = words::<Scope>(), default_value = <&str>::from(Scope::Option2))]
    scope: Scope,
    /// ip-ranges.json; else the newest of `ranges.file` and of what the running proxy keeps.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// A folder of earlier versions, which tell by when a prefix is due; else those that the running proxy
    /// keeps.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    history: Option<PathBuf>,
    /// An authority, PEM, that counts as public and as the machine's; default: watch.ca.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// As an object.
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        let config = &loaded.config;
        load::warn_in_short(sources, config, &plan);
        let current = Current::load(self.file.as_deref(), config, &plan)?;
        let current = with_history(current.version, self.history.as_deref(), config)?;
        let (trust, _) = load::trust(self.ca.as_deref(), config)?;
        let parent = load::parent(config)?;
        if !config.connect.media {
            warn("connect.media = false: agents have no media, so UDP 3478 isn't tested");
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::Output)?;
        let in_force = ranges::in_force(config);
        let seen = runtime.block_on(async {
            let resolver = Resolver::new(plan::dns(&config.dns), Handle::current());
            let egress = plan::egress(config, plan.connect_to, parent, resolver, in_force);
            let own = Own::default();
            let network = Network {
                policy: &plan.policy,
                connect: &config.connect,
                route: Route::straight(&egress, &own),
                trust: Arc::new(trust),
                clock: &SystemTime::now,
            };
            let bar = bar("testing {bar:30} {pos}/{len} prefixes and hosts, {elapsed}");
            let progress = |done: usize, all: usize| {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            };
            let seen = Box::pin(verify(&network, &current, self.scope == Scope::Option2, &progress)).await;
            bar.finish_and_clear();
            seen
        });
        // A resolver that hangs in a file system of the network must not hold the answer back.
        runtime.shutdown_background();
        let today = day(Timestamp::now());
        let pending = current.pending(today);
        let oldest = current.history.first().map(|version| version.ranges.create_date.clone());
        let deadlines = Deadlines { pending: &pending, since: oldest, today };
        let report = Report::new(seen, &current, config.connect.media, deadlines);
        if self.json {
            say_json(&report)?;
        } else {
            say(&text(&report, today))?;
        }
        if report.verdict == Verdict::Open { Ok(()) } else { Err(Failure::Negative) }
    }
}

/// For people: the answer, what to do, then everything that was looked at.
fn text(report: &Report, today: Date) -> String {
    let mut text = clean(&report.summary);
    to_do(report, &mut text);
    if !report.prefixes.is_empty() || !report.outside.is_empty() {
        let head = ["status", "prefix", "region", "address", "answer", "after hop", "due", "names"];
        let mut rows: Vec<&Row> = report.prefixes.iter().chain(&report.outside).collect();
        rows.sort_by_key(|row| row.status);
        let rows = rows.into_iter().map(|row| {
            let or = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
            vec![
                <&str>::from(row.status).to_owned(),
                or(row.prefix.map(|prefix| prefix.to_string())),
                or(Some(clean(&row.region)).filter(|region| !region.is_empty())),
                or(row.address.map(|address| address.to_string())),
                or(row.rtt_ms.map(|ms| format!("{ms} ms"))),
                or(row.after_hop.map(|hop| hop.to_string())),
                or(row.due.map(|day| day.to_string())),
                names(row),
            ]
        });
        let _ = write!(text, "\n\nUDP 3478, {}:\n{}", report.of(), Table::new(&head, rows));
    }
    if !report.hosts.is_empty() {
        let head = ["status", "set", "host", "address", "seen"];
        let rows = report.hosts.iter().map(|host| {
            let cause = host.cause.map_or(String::new(), |cause| format!("{}: ", cause.as_str()));
            vec![
                <&str>::from(host.status).to_owned(),
                host.set.unwrap_or("-").to_owned(),
                format!("{}:{}", host.host, host.port),
                host.address.clone().unwrap_or_else(|| "-".to_owned()),
                clean(&format!("{cause}{}", host.detail)),
            ]
        });
        let _ = write!(text, "\n\nTLS:\n{}", Table::new(&head, rows));
    }
    notes(report, today, &mut text);
    text
}

/// Whose turn it is, and what to do: the same once, with all that it is for.
fn to_do(report: &Report, text: &mut String) {
    let mut all: Vec<(&str, &str, Vec<String>)> = Vec::new();
    let mut add = |owner: Option<Owner>, what, why: String| {
        let owner = owner.map_or("", |owner| owner.as_str());
        match all.iter_mut().find(|(known, to_do, _)| *known == owner && *to_do == what) {
            Some((_, _, whys)) => whys.push(why),
            None => all.push((owner, what, vec![why])),
        }
    };
    for row in report.closed().filter(|row| row.prefix.is_some()) {
        add(row.owner, row.remedy.as_deref().unwrap_or_default(), row.detail.clone());
    }
    for row in &report.outside {
        let why = format!("{} resolves to {}, outside the published prefixes", names(row), row.name());
        add(row.owner, row.remedy.as_deref().unwrap_or_default(), why);
    }
    for name in &report.unresolved {
        add(Some(name.owner), name.remedy, format!("{}: {}", name.name, name.detail));
    }
    for host in report.hosts.iter().filter(|host| host.status == Status::Closed) {
        let why = format!("{}:{}: {}", host.host, host.port, host.detail);
        add(host.owner, host.remedy.unwrap_or_default(), why);
    }
    for (owner, what, whys) in all {
        let _ = write!(text, "\nTo do ({owner}): {}", clean(what));
        for why in whys {
            let _ = write!(text, "\n  {}", clean(&why));
        }
    }
}

/// The names of a row, as far as there is room.
fn names(row: &Row) -> String {
    match &row.names[..] {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [one, more @ ..] => format!("{one} and {} more", more.len()),
    }
}

/// What has to be known to read it.
fn notes(report: &Report, today: Date, text: &mut String) {
    let (in_use, idle): (Vec<&Row>, Vec<&Row>) = report
        .prefixes
        .iter()
        .chain(&report.outside)
        .filter(|row| row.status == Status::NotTried)
        .partition(|row| !row.names.is_empty());
    text.push('\n');
    for row in in_use {
        let _ = write!(text, "\n{} wasn't tried: {}.", row.name(), clean(&row.detail));
    }
    if !idle.is_empty() {
        text.push_str(
            "\nPrefixes that no TURN name was seen to lead into aren't tried, and don't count as open; they must be \
             in the firewall all the same.",
        );
    }
    for row in idle {
        if let Some(day) = row.due {
            let _ = write!(text, "\n  {} is {}", row.name(), due(day, today));
        }
    }
    if report.closed().any(|row| row.due.is_none()) {
        match &report.deadlines_since {
            None => text.push_str(
                "\nDeadlines aren't known: no earlier version of ip-ranges.json is kept (ranges.state, or \
                 --history FOLDER). TURN names resolve into what is closed, so calls need it today.",
            ),
            Some(since) => {
                let _ = write!(
                    text,
                    "\nWhat is closed without a day was announced before {since}, the oldest version that is \
                     kept, or its day is long past: calls need it today."
                );
            }
        }
    }
    if report.is_silent() {
        text.push_str(
            "\nNothing answers on UDP 3478 at all: either it is dropped on the way, or these servers answer nobody \
             who has no call. `ccpgate check --stun-control HOST:PORT`, with a STUN server that is known to \
             answer, decides.",
        );
    }
}
