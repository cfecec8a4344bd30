//! `ccpgate rehearse`: a shift's calls before the shift.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueHint;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::out::{say, say_json, say_styled, tell};
use super::via::Via;
use super::{Failure, load, simulate};
use crate::agent::route;
use crate::agent::tls::Trust;
use crate::catalogue::{self, Choice};
use crate::config::{self, Config, Sources};
use crate::diagnose::targets::WebSocketUrl;
use crate::egress::own::Own;
use crate::egress::parent::Parent;
use crate::egress::resolver::Resolver;
use crate::plan::{self, Plan};
use crate::policy::Decision;
use crate::rehearse::proxy::{self, Proxy};
use crate::rehearse::report::{Report, Scope, Setting, report};
use crate::rehearse::script::{Cast, Scene, Signalling};
use crate::rehearse::statistics::Verdict;
use crate::rehearse::tally::Tally;
use crate::rehearse::{self, Amount, Stop, junit, text};
use crate::simulate::Region;
use crate::simulate::faults::Rated;

/// What AWS asks for at least.
const CALLS: u32 = 200;
/// The sequential test ends long before it, unless the true ratio lies between the two that it tells apart.
const LONGEST: u32 = 100_000;

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
    #[arg(long, value_name = "TIME", value_parser = hold, allow_hyphen_values = true)]
    hold: Option<Duration>,
    /// Play whole calls over this WebSocket, as getWebSocketUrl gives it, for 85 seconds, or as
    /// `ccpgate simulate` prints it.
    #[arg(long, value_name = "WSS", allow_hyphen_values = true)]
    ws_url: Option<String>,
    /// Go through this proxy, as agents' browsers do: http:// or https://, host and port; user:password@
    /// before the host where it asks for them.
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    via: Option<String>,
    /// An authority, PEM, that counts as public and as the machine's; default: watch.ca.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// With a Connect region and a proxy of its own, on loopback.
    #[arg(long, conflicts_with_all = ["ws_url", "via", "ca"])]
    simulate: bool,
    /// A fault and the share of calls that it hits, as in ws_cut=0.05; may be given again.
    #[arg(long, value_name = "NAME=RATE", requires = "simulate", allow_hyphen_values = true)]
    fault: Vec<Rated>,
    /// With the same seed the faults fall on the same calls, if these come one at a time.
    #[arg(long, value_name = "NUMBER", requires = "simulate")]
    seed: Option<u64>,
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
        if !self.simulate {
            load::warn_in_short(&loaded.config, &plan);
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
        Setting { scope, through, seed, concurrency, until_sure: self.until_sure }
    }

    /// With a region and a proxy of its own.
    async fn simulated(&self, connect: &Choice, signals: Signals) -> Result<Report, Failure> {
        let cannot = |why: String| Failure::Usage(format!("can't simulate a region: {why}"));
        let choice = simulate::choice(connect, None, None)?;
        let code = &choice.regions[0];
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
        let region = Region::start(code, seed).await.map_err(|error| cannot(error.to_string()))?;
        self.fault.iter().for_each(|rated| region.faults().set(*rated));
        let folder = files(&region, &choice).map_err(cannot)?;
        let configuration = folder.path().join("ccpgate.toml");
        let proxy = Proxy::start(&configuration).await.map_err(cannot)?;

        // What calls are played with knows of nothing but this configuration.
        let sources = Sources { file: Some(configuration), ..Sources::default() };
        let loaded = config::load(&sources).map_err(|error| cannot(error.to_string()))?;
        let plan = Plan::new(&loaded);
        let (trust, _) = Trust::with("--simulate", Some(&folder.path().join("ca.pem"))).map_err(cannot)?;
        let via =
            Via::parse(&format!("http://{}", proxy.http)).and_then(|via| via.proxy(&[])).map_err(cannot)?;
        let signalling = Signalling { url: urls(&region).map_err(cannot)?, simulated: true };
        let scene = self.scene(&loaded.config, plan, None, trust, Some(via), Some(signalling));
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
        // As the running proxy's own rounds, where no flag says otherwise.
        let (key, file) = match &self.ca {
            Some(file) => ("--ca", Some(&**file)),
            None => ("watch.ca", config.watch.ca.as_deref()),
        };
        let (trust, ca) = Trust::with(key, file).map_err(Failure::Usage)?;
        let proxy = via.as_ref().map(|via| via.proxy(&ca)).transpose().map_err(usage("--via"))?;
        let parent = plan::parent(config).map_err(Failure::Usage)?;
        let through = match (&via, &parent) {
            (Some(via), _) => format!("the proxy {via}"),
            (None, Some(parent)) => {
                format!("the way of this configuration, by the parent proxy {}", parent.url())
            }
            (None, None) => "the way of this configuration; --via goes through a running proxy".to_owned(),
        };
        let scope = if url.is_some() { Scope::Whole } else { Scope::WithoutLogin };
        let signalling = url.map(|url| Signalling { url: Box::new(move |_| url.clone()), simulated: false });
        let scene = self.scene(config, plan, parent, trust, proxy, signalling);
        if scene.cast.is_empty() && scene.signalling.is_none() {
            let why = "nothing on the list has a name that could be called; see ccpgate allowlist";
            return Err(Failure::Usage(why.to_owned()));
        }
        if scope == Scope::WithoutLogin && !self.json && !self.junit {
            tell("calls to one host begin ten a second at most");
        }
        let (tally, took, interrupted) = self.play(&Arc::new(scene), signals).await;
        Ok(report(tally, self.setting(scope, through, None), took, interrupted, None))
    }

    fn scene(
        &self,
        config: &Config,
        plan: Plan,
        parent: Option<Parent>,
        trust: Trust,
        proxy: Option<Parent>,
        signalling: Option<Signalling>,
    ) -> Scene {
        let resolver = Resolver::new(plan::dns(&config.dns), Handle::current());
        let cast = Cast::of(&plan.policy, &config.connect);
        let egress = plan::egress(config, plan.connect_to, parent, resolver);
        Scene {
            policy: plan.policy,
            connect: config.connect.clone(),
            via: proxy.map(|proxy| route::through(&egress, proxy)),
            egress,
            own: Own::default(),
            trust: Arc::new(trust),
            cast,
            signalling,
            pace: Some(Default::default()),
            hold: self.hold.unwrap_or_default(),
        }
    }

    /// Plays the calls; says how long it took, and whether somebody ended it.
    async fn play(&self, scene: &Arc<Scene>, mut signals: Signals) -> (Tally, Duration, bool) {
        let amount = self.amount();
        let (stop, stopped) = watch::channel(Stop::Never);
        let bar = bar();
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
                () = signals.next() => match now(&stop) {
                    Stop::Never => {
                        bar.suspend(|| tell("ends when the calls under way have ended; Ctrl-C again ends it now"));
                        stop.send_replace(Stop::Soon);
                    }
                    Stop::Soon | Stop::Now => {
                        stop.send_replace(Stop::Now);
                    }
                },
            }
        };
        bar.finish_and_clear();
        let interrupted = now(&stop) != Stop::Never;
        (tally, begun.elapsed(), interrupted)
    }
}

fn now(stop: &watch::Sender<Stop>) -> Stop {
    *stop.borrow()
}

/// Ctrl-C, and what service managers send.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A folder with the configuration of a proxy that reaches the region, and the region's authority.
fn files(region: &Region, choice: &Choice) -> Result<TempDir, String> {
    let rules = catalogue::resolve(choice).rules;
    let configuration = region.configuration(choice, &rules).map_err(|error| error.to_string())?;
    let folder = tempfile::Builder::new().prefix("ccpgate-rehearse-").tempdir();
    let folder = folder.map_err(|error| error.to_string())?;
    let write = |name: &str, text: String| {
        let file = folder.path().join(name);
        fs::write(&file, text).map_err(|error| format!("{}: can't be written: {error}", file.display()))
    };
    write("ccpgate.toml", configuration + proxy::SECTIONS)?;
    write("ca.pem", region.authority())?;
    Ok(folder)
}

/// A host of its own for each call: connections spread as in life, and each call's name is looked up.
fn urls(region: &Region) -> Result<Box<dyn Fn(u32) -> WebSocketUrl + Send + Sync>, String> {
    let any = region.url("call");
    let template = WebSocketUrl::parse(&any)?;
    let (before, after) = any.split_once("call.").ok_or("its signalling has no host")?;
    let (before, after) = (before.to_owned(), after.to_owned());
    Ok(Box::new(move |number| {
        WebSocketUrl::parse(&format!("{before}call-{number}.{after}")).unwrap_or_else(|_| template.clone())
    }))
}

/// On standard error, and nowhere but on a terminal.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("calling {bar:30} {pos}/{len} calls, {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn hold(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let valid = "valid are 1s to 1h, as in 60s";
    match humantime::parse_duration(text) {
        Ok(time) if (Duration::from_secs(1)..=LONGEST).contains(&time) => Ok(time),
        Ok(_) => Err(valid.to_owned()),
        Err(error) => Err(format!("{error}; {valid}")),
    }
}
