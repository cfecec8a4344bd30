//! `ccpgate rehearse`: a shift's calls before the shift.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueHint;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use super::open_files::open_files;
use super::out::{say, say_json, say_styled, tell};
use super::progress::bar;
use super::stage::{Alone, Signals, each_call, files, urls};
use super::via::Via;
use super::{Failure, load, ranges, shift, simulate};
use crate::agent::tls::Trust;
use crate::agent::way::{self, Way};
use crate::catalogue::Choice;
use crate::config::{Config, Sources};
use crate::diagnose::targets::{Named, WebSocketUrl};
use crate::egress::own::Own;
use crate::egress::parent::Parent;
use crate::egress::resolver::Resolver;
use crate::plan::{self, Plan};
use crate::policy::Decision;
use crate::rehearse::proxy::Proxy;
use crate::rehearse::report::{Report, Scope, Setting, report};
use crate::rehearse::script::{Cast, Scene, Signalling};
use crate::rehearse::shift::Plan as Morning;
use crate::rehearse::shift::over::Over;
use crate::rehearse::statistics::Verdict;
use crate::rehearse::tally::Tally;
use crate::rehearse::{self, Amount, Stop, junit, text};
use crate::simulate::Region;
use crate::simulate::faults::Rated;
use crate::wording::count;

/// What AWS asks for at least.
const CALLS: u32 = 200;
/// The sequential test ends long before it, unless the true ratio lies between the two that it tells apart.
const LONGEST: u32 = 100_000;

/// Open files of this process besides those of calls, and of a call with both ends of what it opens.
const FILES: u64 = 100;
const FILES_OF_A_CALL: u64 = 8;

/// All calls come from one address.
const LIMITS: &str = "\n[limits]\nconnections_per_client = 20000\n";

/// Play agents' calls, and judge the share that fails by AWS's line of 2 %: stay with Option 1, the names
/// on the allow list, or consider Option 2, address ranges past the proxy.
///
/// With --simulate it starts a Connect region and a proxy of its own on loopback and needs no network. Else
/// it goes the way of this configuration's proxy, as `check` does, or through --via a proxy; without a
/// login a call is then what AWS answers to strangers, unless --ws-url has a WebSocket. Exit code 1 when
/// the verdict is to consider Option 2.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many calls; default: 200. With --until-sure: at most so many.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: Option<u32>,
    /// How many calls at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2000))]
    concurrency: u16,
    /// Go on until a sequential test knows, with as few calls as can be.
    #[arg(long)]
    until_sure: bool,
    /// Keep each call up for this long, as in 60s, with a heartbeat every 10 s; an hour at most.
    #[arg(long, value_name = "TIME", value_parser = super::check::hold, allow_hyphen_values = true)]
    hold: Option<Duration>,
    /// Play whole calls over this WebSocket, as getWebSocketUrl gives it, for 85 seconds, or as
    /// `ccpgate simulate` prints it.
    #[arg(long, value_name = "WSS", allow_hyphen_values = true)]
    ws_url: Option<String>,
    /// Go through this proxy, as agents' browsers do: http:// or https://, host and port; user:password@
    /// before the host where it asks for them.
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    via: Option<String>,
    /// A host that falls under a wildcard of the list, as of the signalling, to be called as well without a
    /// login; may be given again.
    #[arg(long = "host", value_name = "HOST", value_parser = super::check::host, allow_hyphen_values = true)]
    hosts: Vec<Named>,
    /// An authority, PEM, that counts as public and as the machine's; default: watch.ca.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// With a Connect region and a proxy of its own, on loopback.
    #[arg(long, conflicts_with_all = ["ws_url", "via", "ca", "hosts"])]
    simulate: bool,
    /// A fault and the share of calls that it hits, as in ws_cut=0.05; may be given again.
    #[arg(long, value_name = "NAME=RATE", requires = "simulate", allow_hyphen_values = true)]
    fault: Vec<Rated>,
    /// With the same seed the faults fall on the same calls, if these come one at a time.
    #[arg(long, value_name = "NUMBER", requires = "simulate")]
    seed: Option<u64>,
    /// Play the morning of so many agents over a region and a proxy of its own: forty tunnels each, calls,
    /// breaks, a reload, and an upgrade in the middle. Exit code 1 when a tunnel is lost.
    #[arg(
        long,
        value_name = "AGENTS",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with_all = ["calls", "concurrency", "until_sure", "hold", "ws_url", "via", "ca", "hosts", "fault", "junit"],
    )]
    shift: Option<u32>,
    /// Tunnels of each agent.
    #[arg(long, value_name = "NUMBER", requires = "shift", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tunnels: u32,
    /// What browsers speak to the proxy: HTTP/1.1 without TLS, HTTP/1.1 over TLS, or HTTP/2 over TLS.
    #[arg(
        long,
        value_name = "plain|tls|h2",
        hide_possible_values = true,
        requires = "shift",
        default_value = "tls"
    )]
    over: Over,
    /// How many times faster than in life the half hour goes by; heartbeats come as in life.
    #[arg(long, value_name = "NUMBER", requires = "shift", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=120))]
    scale: u16,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// The report as JUnit XML: the verdict, and the time of each phase.
    #[arg(long, conflicts_with = "json")]
    junit: bool,
}

impl Args {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let (loaded, plan) = load::plan(sources)?;
        if let Some(agents) = self.shift {
            let plan = Morning { agents, tunnels: self.tunnels, over: self.over, scale: self.scale.into() };
            return shift::run(plan, &loaded.config.connect, self.json);
        }
        let at_once = u64::from(self.concurrency);
        let needed = FILES + FILES_OF_A_CALL * at_once;
        open_files(&format!("{} at a time", count(at_once, "call")), needed, |maximum| {
            let most = maximum.saturating_sub(FILES) / FILES_OF_A_CALL;
            (most > 0).then(|| format!("choose --concurrency {most}"))
        })?;
        if !self.simulate {
            load::warn_in_short(sources, &loaded.config, &plan);
        }
        let runtime = Runtime::new().map_err(Failure::Output)?;
        let report = runtime.block_on(async {
            // Before anything is started that must not be left behind.
            let signals = Signals::new().map_err(Failure::Output)?;
            match self.simulate {
                true => self.simulated(&loaded.config.connect, signals).await,
                false => self.real(&loaded.config, plan, signals).await,
            }
        });
        // A resolver that hangs in a file system of the network must not hold the answer back.
        runtime.shutdown_background();
        self.show(&report?)
    }

    fn show(&self, report: &Report) -> Result<(), Failure> {
        let machine = self.json || self.junit;
        if machine && report.setting.scope == Scope::WithoutLogin {
            tell(text::WITHOUT_LOGIN);
        }
        match (self.json, self.junit) {
            (true, _) => say_json(report)?,
            (_, true) => say(&junit::render(report).map_err(Failure::Usage)?)?,
            _ => say_styled(&text::render(report))?,
        }
        if report.verdict == Verdict::Consider { Err(Failure::Negative) } else { Ok(()) }
    }

    fn amount(&self) -> Amount {
        let calls = self.calls.unwrap_or(if self.until_sure { LONGEST } else { CALLS });
        Amount { calls, at_once: self.concurrency.into(), until_sure: self.until_sure }
    }

    fn setting(&self, scope: Scope, through: String, seed: Option<u64>) -> Setting {
        let concurrency = self.concurrency.into();
        Setting { scope, through, protocol: None, seed, concurrency, until_sure: self.until_sure }
    }

    /// With a region and a proxy of its own.
    async fn simulated(&self, connect: &Choice, signals: Signals) -> Result<Report, Failure> {
        let cannot = |why: String| Failure::Usage(format!("can't simulate a region: {why}"));
        let choice = simulate::choice(connect, None, None)?;
        let code = &choice.regions[0];
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
        let region = Region::start(code, seed).await.map_err(|error| cannot(error.to_string()))?;
        self.fault.iter().for_each(|rated| region.faults().set(*rated));
        let folder = files(&region, &choice, LIMITS).map_err(cannot)?;
        let configuration = folder.path().join("ccpgate.toml");
        let proxy = Proxy::start(&configuration, false).await.map_err(cannot)?;

        let Alone { loaded, plan, trust, .. } = Alone::load(folder.path(), "--simulate").map_err(cannot)?;
        let via =
            Via::parse(&format!("http://{}", proxy.http)).and_then(|via| via.proxy(&[])).map_err(cannot)?;
        let signalling = Signalling { url: urls(&region).map_err(cannot)?, simulated: true };
        let scene = self.scene(&loaded.config, plan, None, trust, Some(via), Some(signalling))?;
        let scene = Arc::new(Scene { pace: None, ..scene });
        let (tally, took, interrupted) = self.play(&scene, signals).await;
        let cost = proxy.cost();
        let through = format!("a proxy of its own and a simulated {code}, seed {seed}");
        Ok(report(tally, self.setting(Scope::Whole, through, Some(seed)), took, interrupted, cost))
    }

    /// Over the network of this machine.
    async fn real(&self, config: &Config, plan: Plan, signals: Signals) -> Result<Report, Failure> {
        let usage = |key: &'static str| move |why: String| Failure::Usage(format!("{key}: {why}"));
        // What may hold a secret is not read by clap, whose errors repeat it.
        let via = self.via.as_deref().map(Via::parse).transpose().map_err(usage("--via"))?;
        let url = self.ws_url.as_deref().map(WebSocketUrl::parse).transpose().map_err(usage("--ws-url"))?;
        if let Some(target) = url.as_ref().map(|url| &url.target)
            && let Decision::Denied { .. } = plan.policy.decide(target)
        {
            let why = format!("the list doesn't let {target} through: see ccpgate explain {target}");
            return Err(usage("--ws-url")(why));
        }
        let (trust, ca) = load::trust(self.ca.as_deref(), config)?;
        let proxy = via.as_ref().map(|via| via.proxy(&ca)).transpose().map_err(usage("--via"))?;
        let parent = load::parent(config)?;
        let through = match (&via, &parent) {
            (Some(via), _) => format!("the proxy {via}"),
            (None, Some(parent)) => {
                let some = if config.egress.proxy_for.is_empty() {
                    ""
                } else {
                    " for the hosts of egress.proxy_for"
                };
                format!("the way of this configuration, by the parent proxy {}{some}", parent.url())
            }
            (None, None) => "the way of this configuration; --via goes through a running proxy".to_owned(),
        };
        let scope = if url.is_some() { Scope::Whole } else { Scope::WithoutLogin };
        let signalling = url.map(|url| Signalling { url: each_call(url), simulated: false });
        let scene = self.scene(config, plan, parent, trust, proxy, signalling)?;
        if scene.cast.is_empty() && scene.signalling.is_none() {
            let why = "nothing on the list has a name that could be called; see ccpgate allowlist";
            return Err(Failure::Usage(why.to_owned()));
        }
        if scope == Scope::WithoutLogin && scene.cast.transport.is_empty() {
            tell("no host of the signalling is known; --host names one that your agents use");
        }
        let scene = Arc::new(scene);
        let (tally, took, interrupted) = self.play(&scene, signals).await;
        let protocol = scene.via.as_ref().and_then(Way::protocol);
        let setting = Setting { protocol, ..self.setting(scope, through, None) };
        Ok(report(tally, setting, took, interrupted, None))
    }

    fn scene(
        &self,
        config: &Config,
        plan: Plan,
        parent: Option<Parent>,
        trust: Trust,
        proxy: Option<Parent>,
        signalling: Option<Signalling>,
    ) -> Result<Scene, Failure> {
        let resolver = Resolver::new(plan::dns(&config.dns), Handle::current());
        let cast = Cast::of(&plan.policy, &config.connect, &self.hosts);
        let cast = cast.map_err(|why| Failure::Usage(format!("--host: {why}")))?;
        let egress = plan::egress(config, plan.connect_to, parent, resolver, ranges::in_force(config));
        Ok(Scene {
            policy: plan.policy,
            connect: config.connect.clone(),
            via: proxy.map(|proxy| Way::as_browsers_do(way::through(&egress, proxy))),
            egress,
            own: Own::default(),
            trust: Arc::new(trust),
            cast,
            signalling,
            pace: Some(Default::default()),
            hold: self.hold.unwrap_or_default(),
        })
    }

    /// Plays the calls; says how long it took, and whether somebody ended it.
    async fn play(&self, scene: &Arc<Scene>, mut signals: Signals) -> (Tally, Duration, bool) {
        let amount = self.amount();
        let (stop, stopped) = watch::channel(Stop::Never);
        let bar = bar("calling {bar:30} {pos}/{len} calls, {msg}, {elapsed}");
        let progress = |tally: &Tally| {
            let all = if amount.until_sure { tally.calls_until_sure() } else { amount.calls };
            bar.set_length(all.into());
            bar.set_position(tally.calls().into());
            bar.set_message(format!("{} failed", tally.failed()));
        };
        progress(&Tally::default());
        let begun = Instant::now();
        let mut playing = std::pin::pin!(rehearse::run(scene.clone(), amount, stopped, progress));
        let tally = loop {
            tokio::select! {
                tally = &mut playing => break tally,
                () = signals.next() => {
                    stop.send_modify(|stop| *stop = stop.next());
                    if *stop.borrow() == Stop::Soon {
                        bar.suspend(|| tell("ends when the calls under way have ended; Ctrl-C again ends it now"));
                    }
                }
            }
        };
        bar.finish_and_clear();
        let interrupted = *stop.borrow() != Stop::Never;
        (tally, begun.elapsed(), interrupted)
    }
}
