//! `rehearse --shift`: a morning of many agents, in less time. They log in within five minutes, make calls,
//! have their breaks; in the middle the proxy is reloaded, and then another process takes over from it.
//!
//! [`desk`] is one agent, [`over`] what its browser speaks to the proxy, [`report`] what came of it. Everybody's
//! TLS sessions with the proxy are resumed as browsers do, and each has an address of its own.

mod desk;
pub(crate) mod over;
pub(crate) mod report;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use rustls::RootCertStore;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Stop;
use super::proxy::Proxy;
use super::report::Cost;
use crate::agent::tls::Trust;
use crate::diagnose::targets::WebSocketUrl;
use crate::egress::Egress;
use crate::egress::own::Own;
use crate::egress::url::ParentUrl;
use crate::lock::lock;
use crate::target::Target;
use desk::Desk;
use over::Over;
use report::Report;

/// What happens when, in minutes from nine o'clock.
const LOGGED_IN: f64 = 5.0;
/// Between these two nobody comes or goes.
const QUIET: [f64; 2] = [6.0, 11.0];
/// A quarter of the agents has the first break, another one the second.
const BREAKS: [[f64; 2]; 2] = [[11.0, 14.0], [22.0, 25.0]];
const RELOAD: f64 = 12.0;
/// Another process takes over, as in an upgrade: tunnels that live stay with the old one, new ones come to
/// the new one.
const REPLACED: f64 = 16.0;
const ASKED: f64 = 29.0;
const OVER: f64 = 30.0;
/// So many tunnels end at a time: everybody in one instant would be a storm of last messages, and those that wait
/// for a core too long would count as lost.
pub(crate) const GOODBYES: usize = 200;
/// Between two calls of an agent.
const CALLS: f64 = 3.0;

/// What isn't a tunnel's.
const OTHER_FILES: u64 = 500;

/// How many agents, how fast, and by what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub agents: u32,
    /// Of each agent.
    pub tunnels: u32,
    pub over: Over,
    /// So many times faster than in life. Heartbeats come as in life.
    pub scale: f64,
}

impl Plan {
    /// How long so many minutes are.
    fn minutes(self, minutes: f64) -> Duration {
        Duration::from_secs_f64(minutes * 60.0 / self.scale)
    }

    /// How long it takes.
    pub(crate) fn length(self) -> Duration {
        self.minutes(OVER)
    }

    /// The open files that the proxy needs, and this process as well with both ends of what the proxy joins.
    pub(crate) fn files(self) -> u64 {
        u64::from(self.agents) * self.files_each() + OTHER_FILES
    }

    /// The agents that so many open files are enough for.
    pub(crate) fn agents_with(self, files: u64) -> u64 {
        files.saturating_sub(OTHER_FILES) / self.files_each()
    }

    fn files_each(self) -> u64 {
        let tunnels = u64::from(self.tunnels);
        match self.over {
            Over::Plain | Over::Tls => tunnels * 2,
            // While a connection goes away there is another one.
            Over::H2 => tunnels + 2,
        }
    }
}

/// Everything that agents work with.
pub(crate) struct Office {
    pub plan: Plan,
    /// How addresses are dialled and media is reached.
    pub egress: Egress,
    pub own: Own,
    pub trust: Arc<Trust>,
    /// Who vouches for the proxy and for the region.
    pub roots: RootCertStore,
    /// The address of the proxy, whichever process accepts there.
    pub proxy: ParentUrl,
    /// Where tunnels lead to, in turns.
    pub hosts: Vec<Target>,
    pub media: Vec<Target>,
    /// The signalling of an agent.
    pub signalling: Box<dyn Fn(u32) -> WebSocketUrl + Send + Sync>,
    /// A place for each tunnel that ends: see [`GOODBYES`].
    pub goodbyes: Semaphore,
    pub count: Count,
}

/// What has happened so far.
#[derive(Default)]
pub(crate) struct Count {
    /// Set-up times, in microseconds: those of the first five minutes, and all others.
    peak: Mutex<Vec<u32>>,
    later: Mutex<Vec<u32>>,
    open: AtomicU32,
    lost: AtomicU32,
    failed: AtomicU32,
    calls: AtomicU32,
    failed_calls: AtomicU32,
    /// The first of each, in words.
    words: Mutex<Vec<String>>,
}

impl Count {
    /// Tunnels that are open.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Tunnels that were lost, and those that didn't come about.
    pub(crate) fn bad(&self) -> u32 {
        self.lost.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    fn add(list: &Mutex<Vec<u32>>, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        lock(list).push(took);
    }

    /// Counts what went wrong, and keeps the first words of it.
    fn note(&self, counter: &AtomicU32, words: String) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.say(words);
    }

    fn say(&self, words: String) {
        const KEPT: usize = 5;
        let mut kept = lock(&self.words);
        if kept.len() < KEPT && !kept.contains(&words) {
            kept.push(words);
        }
    }

    fn times(list: &Mutex<Vec<u32>>) -> Vec<u32> {
        lock(list).clone()
    }
}

/// What the proxy told in the course of the morning.
#[derive(Default)]
struct Told {
    idle: Cost,
    logged_in: Cost,
    quiet: [Cost; 2],
    reloaded: bool,
    /// Tunnels that were open when another process took over.
    drained: u32,
    /// Live tunnels of the processes shortly before the end, those of the newest first. None: no process took
    /// over.
    generations: Option<Vec<u64>>,
    handshakes: f64,
    resumed: f64,
}

/// Plays the morning. `reload` changes the configuration; `stop` ends it early, once the agents have left or at once.
///
/// # Errors
/// When the proxy isn't there any more.
pub(crate) async fn run(
    office: Arc<Office>,
    first: &Proxy,
    reload: impl FnOnce() -> Result<(), String>,
    mut stop: watch::Receiver<Stop>,
) -> Result<Report, String> {
    let plan = office.plan;
    let gone = || "the proxy has ended".to_owned();
    let (leave, leaving) = watch::channel(false);
    let mut told = Told { idle: first.cost().ok_or_else(gone)?, ..Told::default() };
    let begun = Instant::now();
    let mut desks = JoinSet::new();
    for number in 0..plan.agents {
        desks.spawn(Desk::work(office.clone(), number, begun, leaving.clone()));
    }
    let at = |minute: f64| sleep_until(begun + plan.minutes(minute));
    // It serves until all have left.
    let mut successor = None;
    let morning = async {
        at(LOGGED_IN).await;
        told.logged_in = first.cost().ok_or_else(gone)?;
        for (cost, minute) in told.quiet.iter_mut().zip(QUIET) {
            at(minute).await;
            *cost = first.cost().ok_or_else(gone)?;
        }
        at(RELOAD).await;
        reload()?;
        first.signal(Signal::HUP).map_err(|error| error.to_string())?;
        at(REPLACED).await;
        let names = ["ccpgate_reloads_total{result=\"ok\"}"];
        let reloads = first.metrics(&office.egress, &office.trust, names).await.ok_or_else(gone)?;
        told.reloaded = reloads == [1.0];
        told.drained = office.count.open();
        match first.successor().await {
            Ok(next) => successor = Some(next),
            Err(why) => office.count.say(format!("no process took over: {why}")),
        }
        at(ASKED).await;
        let last = successor.as_ref().unwrap_or(first);
        let (egress, trust) = (&office.egress, &office.trust);
        if successor.is_some() {
            told.generations = Some(last.generations(egress, trust).await.ok_or_else(gone)?);
        }
        // The last one tells what all have counted.
        let names = ["ccpgate_tls_handshakes_total", "ccpgate_tls_handshakes_total{resumed=\"true\"}"];
        [told.handshakes, told.resumed] = last.metrics(egress, trust, names).await.ok_or_else(gone)?;
        at(OVER).await;
        Ok::<(), String>(())
    };
    let interrupted = tokio::select! {
        ended = morning => {
            ended?;
            false
        }
        _ = stop.wait_for(|stop| *stop != Stop::Never) => true,
    };
    leave.send_replace(true);
    let left = async { while desks.join_next().await.is_some() {} };
    // Agents who are given up go with their tasks.
    let interrupted = tokio::select! {
        () = left => interrupted,
        Ok(_) = stop.wait_for(|stop| *stop == Stop::Now) => true,
    };
    Ok(Report::new(&office, told, begun.elapsed(), interrupted))
}
