//! `ccpgate check`: the network from here to everything that agents' browsers need.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::ValueHint;
use strum::VariantArray;
use tokio::runtime::{Builder, Handle};

use super::out::{say, say_json, say_styled};
use super::pac_source::PacSource;
use super::progress::bar;
use super::via::Via;
use super::{Failure, load, ranges};
use crate::agent::route::Route;
use crate::agent::way::{self, Way};
use crate::config::{Config, Sources};
use crate::diagnose::pac::Pac;
use crate::diagnose::report::{Report, Status};
use crate::diagnose::targets::{Named, WebSocketUrl};
use crate::diagnose::{self, Network, Options, junit, text};
use crate::egress::own::Own;
use crate::egress::printable;
use crate::egress::resolver::Resolver;
use crate::plan::{self, Plan};
use crate::policy::Category;
use crate::target::{DEFAULT_PORT, Target};

/// Test this network against every endpoint in use, and say what agents see where it fails, why, and
/// whose turn it is.
///
/// It goes the proxy's own way: its resolver, source addresses, address rules, connect_to and parent
/// proxy. Exit code 1 when something fails.
#[derive(clap::Args, Default)]
pub(super) struct Args {
    /// Go through this proxy, as agents' browsers do: http:// or https://, host and port; user:password@
    /// before the host where it asks for them.
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    via: Option<String>,
    /// Test this host, too, for example one that falls under a wildcard; may be given again.
    #[arg(long = "host", value_name = "HOST", value_parser = host, allow_hyphen_values = true)]
    hosts: Vec<Named>,
    /// Test this category alone; may be given again.
    #[arg(long = "category", value_name = "NAME", value_parser = category, allow_hyphen_values = true)]
    categories: Vec<Category>,
    /// Open this WebSocket, exchange messages, and hold it; as getWebSocketUrl gives it, for 85 seconds.
    #[arg(long, value_name = "WSS", allow_hyphen_values = true)]
    ws_url: Option<String>,
    /// Hold a silent connection to each endpoint, and the WebSocket, for this long, as in 60s; an hour at
    /// most.
    #[arg(long, value_name = "TIME", value_parser = hold, allow_hyphen_values = true)]
    hold: Option<Duration>,
    /// An authority, PEM, that counts as public and as the machine's; default: watch.ca.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// The PAC file that browsers have, a URL or a file: does it send every listed host to the proxy?
    #[arg(long, value_name = "URL|FILE", value_parser = PacSource::parse, value_hint = ValueHint::FilePath)]
    pac: Option<PacSource>,
    /// A STUN server that is known to answer, port 3478 where none is given: where no media endpoint
    /// answers, it tells a closed port from UDP that is blocked altogether.
    #[arg(long, value_name = "HOST:PORT", value_parser = stun_server, allow_hyphen_values = true)]
    stun_control: Option<Target>,
    /// Rank all Regions by their distance from here. AWS means the distance of the agents' desks.
    #[arg(long, value_name = "all", value_parser = ["all"])]
    regions: Option<String>,
    /// For rehearsals: as if this machine's clock were off by so much, as in 1d or -90s.
    #[arg(long, value_name = "TIME", value_parser = offset, allow_hyphen_values = true, hide = true)]
    clock_offset: Option<Offset>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// The report as JUnit XML: one suite a category, one case an endpoint.
    #[arg(long, conflicts_with = "json")]
    junit: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        load::warn_in_short(sources, &loaded.config, &plan);
        let form = match (self.json, self.junit) {
            (true, _) => Form::Json,
            (_, true) => Form::Junit,
            _ => Form::Text,
        };
        show(&self.report(&loaded.config, plan)?, form)
    }

    /// Tests the network.
    pub(super) fn report(self, config: &Config, plan: Plan) -> Result<Report, Failure> {
        // What may hold a secret is not read by clap, whose errors repeat it.
        let via = self.via.as_deref().map(Via::parse).transpose();
        let via = via.map_err(|why| Failure::Usage(format!("--via: {why}")))?;
        let web_socket = self.ws_url.as_deref().map(WebSocketUrl::parse).transpose();
        let web_socket = web_socket.map_err(|why| Failure::Usage(format!("--ws-url: {why}")))?;
        let (trust, ca) = load::trust(self.ca.as_deref(), config)?;
        let proxy = via.as_ref().map(|via| via.proxy(&ca)).transpose();
        let proxy = proxy.map_err(|why| Failure::Usage(format!("--via: {why}")))?;
        let parent = load::parent(config)?;
        let mut options = Options {
            hosts: self.hosts,
            categories: self.categories,
            web_socket,
            hold: self.hold,
            via: via.as_ref().map(ToString::to_string),
            stun_control: self.stun_control,
            pac: None,
            regions: self.regions.is_some(),
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::Output)?;
        let offset = self.clock_offset.unwrap_or_default();
        let in_force = ranges::in_force(config);
        let report = runtime.block_on(async {
            let resolver = Resolver::new(plan::dns(&config.dns), Handle::current());
            let egress = plan::egress(config, plan.connect_to, parent, resolver, in_force);
            let proxy = proxy.map(|proxy| Way::as_browsers_do(way::through(&egress, proxy)));
            let own = Own::default();
            let trust = Arc::new(trust);
            if let Some(source) = &self.pac {
                let now = offset.apply(SystemTime::now());
                let text = source.read(&egress, &trust, now).await;
                let text = text.map_err(|why| Failure::Usage(format!("--pac: {why}")))?;
                let mut proxies = config.proxy.advertise.clone();
                if let Some(via) = via.as_ref().filter(|_| !proxies.is_empty()) {
                    proxies.push(via.advertised());
                }
                let source = printable(&source.to_string(), 200);
                options.pac = Some(Pac { source, text, proxies, direct: config.pac.direct.clone() });
            }
            let network = Network {
                policy: &plan.policy,
                connect: &config.connect,
                route: Route::via(&egress, &own, proxy.as_ref()),
                trust,
                clock: &|| offset.apply(SystemTime::now()),
            };
            let bar = bar("testing {bar:30} {pos}/{len} endpoints, {elapsed}");
            let progress = |done: usize, all: usize| {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            };
            let report = diagnose::check(&network, &options, &progress).await;
            bar.finish_and_clear();
            Ok(report)
        });
        // A resolver that hangs in a file system of the network must not hold the answer back.
        runtime.shutdown_background();
        report
    }
}

/// How a report is shown.
enum Form {
    Text,
    Json,
    Junit,
}

fn show(report: &Report, form: Form) -> Result<(), Failure> {
    match form {
        Form::Json => say_json(report)?,
        Form::Junit => say(&junit::render(report).map_err(Failure::Usage)?)?,
        Form::Text => say_styled(&text::render(report))?,
    }
    if report.verdict == Status::Failed { Err(Failure::Negative) } else { Ok(()) }
}

pub(super) fn host(text: &str) -> Result<Named, String> {
    Named::parse(text).map_err(|error| format!("{error}; valid are host, host:port or a URL"))
}

pub(super) fn hold(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let valid = "valid are 1s to 1h, as in 60s";
    match humantime::parse_duration(text) {
        Ok(time) if (Duration::from_secs(1)..=LONGEST).contains(&time) => Ok(time),
        Ok(_) => Err(valid.to_owned()),
        Err(error) => Err(format!("{error}; {valid}")),
    }
}

fn stun_server(text: &str) -> Result<Target, String> {
    let text = text.strip_prefix("stun:").unwrap_or(text);
    let valid = "valid are host, host:port and stun:host:port";
    if text.contains('/') {
        return Err(format!("it is a URL; {valid}"));
    }
    let target = Target::parse_human(text).map_err(|error| format!("{error}; {valid}"))?;
    // Nobody runs STUN where HTTPS belongs without saying so.
    let says_port = target.port != DEFAULT_PORT || text.trim().ends_with(":443");
    Ok(if says_port { target } else { Target { port: 3478, ..target } })
}

fn category(text: &str) -> Result<Category, String> {
    let found = Category::VARIANTS.iter().find(|category| category.as_str() == text);
    found.copied().ok_or_else(|| {
        let all: Vec<&str> = Category::VARIANTS.iter().map(|category| category.as_str()).collect();
        format!("no such category; valid are {}", all.join(", "))
    })
}

/// How far the clock is taken to be off.
#[derive(Clone, Copy, Debug, Default)]
struct Offset {
    behind: bool,
    by: Duration,
}

impl Offset {
    fn apply(self, now: SystemTime) -> SystemTime {
        let moved = if self.behind { now.checked_sub(self.by) } else { now.checked_add(self.by) };
        moved.unwrap_or(now)
    }
}

fn offset(text: &str) -> Result<Offset, String> {
    let (behind, time) = match text.strip_prefix('-') {
        Some(time) => (true, time),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match humantime::parse_duration(time) {
        Ok(by) => Ok(Offset { behind, by }),
        Err(error) => Err(format!("{error}; valid are durations such as 1d, 90s or -1h")),
    }
}
