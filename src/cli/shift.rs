//! `ccpgate rehearse --shift`: a morning of many agents, with a region and a proxy of its own.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, watch};

use super::Failure;
use super::open_files::open_files;
use super::out::{say, say_json, tell};
use super::progress::bar;
use super::simulate::choice;
use super::stage::{Alone, Signals, files, urls};
use crate::agent::tls;
use crate::catalogue::Choice;
use crate::diagnose::targets::{self, Endpoint};
use crate::egress::own::Own;
use crate::egress::resolver::Resolver;
use crate::egress::url::ParentUrl;
use crate::plan;
use crate::rehearse::Stop;
use crate::rehearse::proxy::Proxy;
use crate::rehearse::script::Cast;
use crate::rehearse::shift::over::Over;
use crate::rehearse::shift::report::Report;
use crate::rehearse::shift::{self, Count, Office, Plan};
use crate::serve::control;
use crate::simulate::Region;
use crate::target::Target;
use crate::wording::count;

/// Plays it; a lost tunnel is a negative answer.
pub(super) fn run(plan: Plan, connect: &Choice, json: bool) -> Result<(), Failure> {
    let what = format!(
        "{} with {}",
        count(u64::from(plan.agents), "agent"),
        count(u64::from(plan.tunnels), "tunnel")
    );
    open_files(&what, plan.files(), |maximum| {
        let most = plan.agents_with(maximum);
        (most > 0).then(|| format!("rehearse {}", count(most, "agent")))
    })?;
    let runtime = Runtime::new().map_err(Failure::Output)?;
    let report = runtime.block_on(Box::pin(morning(plan, connect)));
    runtime.shutdown_background();
    let report = report?;
    match json {
        true => say_json(&report)?,
        false => say(&report.text())?,
    }
    if report.ok { Ok(()) } else { Err(Failure::Negative) }
}

async fn morning(plan: Plan, connect: &Choice) -> Result<Report, Failure> {
    let cannot = |why: String| Failure::Usage(format!("can't rehearse a shift: {why}"));
    let failed = |error: std::io::Error| cannot(error.to_string());
    // Before anything is started that must not be left behind.
    let mut signals = Signals::new().map_err(Failure::Output)?;
    let choice = choice(connect, None, None)?;
    let region = Region::start(&choice.regions[0], 0).await.map_err(failed)?;
    let folder = files(&region, &choice, &sections(plan)).map_err(cannot)?;
    if !control::fits(folder.path()) {
        let folder = folder.path().display();
        let why = format!(
            "{folder} is too long a name for a folder with Unix sockets: set TMPDIR to a shorter one"
        );
        return Err(cannot(why));
    }
    let (certificate, key) = region.certificate("127.0.0.1").map_err(failed)?;
    for (name, text) in [("proxy.pem", certificate), ("proxy.key", key)] {
        fs::write(folder.path().join(name), text).map_err(failed)?;
    }
    let configuration = folder.path().join("ccpgate.toml");
    let proxy = Proxy::start(&configuration, true).await.map_err(cannot)?;

    let Alone { loaded, plan: resolved, trust, authorities } =
        Alone::load(folder.path(), "--shift").map_err(cannot)?;
    let cast = Cast::of(&resolved.policy, &loaded.config.connect, &[]).map_err(cannot)?;
    let resolver = Resolver::new(plan::dns(&loaded.config.dns), Handle::current());
    let office = Arc::new(Office {
        plan,
        egress: plan::egress(&loaded.config, resolved.connect_to, None, resolver, Arc::default()),
        own: Own::default(),
        trust: Arc::new(trust),
        roots: tls::roots(&authorities),
        proxy: url(&proxy, plan.over).map_err(cannot)?,
        hosts: cast.files.iter().chain(&cast.api).filter_map(target).collect(),
        media: cast.media,
        signalling: urls(&region).map_err(cannot)?,
        goodbyes: Semaphore::new(shift::GOODBYES),
        count: Count::default(),
    });
    let reload = || {
        let mut file =
            fs::OpenOptions::new().append(true).open(&configuration).map_err(|error| error.to_string())?;
        file.write_all(b"\n[[allow]]\npattern = \"added.example\"\n").map_err(|error| error.to_string())
    };
    let (stop, stopped) = watch::channel(Stop::Never);
    let bar = bar("{bar:30} {msg}, {elapsed}");
    bar.set_length(plan.length().as_secs());
    let mut playing = std::pin::pin!(shift::run(office.clone(), &proxy, reload, stopped));
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let report = loop {
        tokio::select! {
            report = &mut playing => break report,
            () = signals.next() => {
                stop.send_modify(|stop| *stop = stop.next());
                if *stop.borrow() == Stop::Soon {
                    bar.suspend(|| tell("ends when all agents have left; Ctrl-C again ends it now"));
                }
            }
            _ = tick.tick() => {
                bar.set_position(bar.elapsed().as_secs());
                bar.set_message(format!("{} tunnels, {} lost or failed", office.count.open(), office.count.bad()));
            }
        }
    };
    bar.finish_and_clear();
    report.map_err(cannot)
}

/// What the proxy's configuration has besides: the TLS listener, and room for all.
fn sections(plan: Plan) -> String {
    let connections = plan.agents.saturating_mul(plan.tunnels).saturating_add(1000);
    format!(
        "\n[limits]\nconnections = {connections}\n\n[tls]\nlisten = [\"127.0.0.1:0\"]\n\
         certificate = \"proxy.pem\"\nkey = \"proxy.key\"\n"
    )
}

fn url(proxy: &Proxy, over: Over) -> Result<ParentUrl, String> {
    match (over, proxy.https) {
        (Over::Plain, _) => ParentUrl::parse(&format!("http://{}", proxy.http)),
        (Over::Tls | Over::H2, Some(address)) => ParentUrl::parse(&format!("https://{address}")),
        (Over::Tls | Over::H2, None) => Err("the proxy has no TLS listener".to_owned()),
    }
}

fn target(endpoint: &Endpoint) -> Option<Target> {
    match &endpoint.plan {
        targets::Plan::Tcp(target) => Some(target.clone()),
        _ => None,
    }
}
