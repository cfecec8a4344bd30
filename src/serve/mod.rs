//! The life of `ccpgate serve`: start, a loop over signals, the drain. Binding is the first effect; a
//! mistake found before it ends the start with a message, and nothing has happened.
//!
//! What runs beside the loop is spawned where it belongs, and none of it can fail: the session counter
//! and the watch of the TLS files in `tls`, the sentence for `systemctl status` in `notify`. What has a
//! result that somebody must see is in `jobs`.

mod announce;
mod drain;
mod error;
mod jobs;
mod listeners;
pub(crate) mod notify;
mod prepare;
mod reload;
mod tls;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

pub(crate) use self::error::ServeError;
use self::listeners::{Change, Changed, Closed, Listeners, Opened};
use self::notify::Manager;
use self::prepare::Prepared;
use self::reload::{Loads, Losing};
use self::tls::Tls;
use self::workers::Workers;
use crate::admin::reload::{self as door, Ask, Door};
use crate::admin::{self, Admin};
use crate::config::{Config, Sources};
use crate::journal::access::AccessLog;
use crate::journal::log::{self, Sink};
use crate::journal::metrics::Metrics;
use crate::net::entrance::Entrance;
use crate::net::passed;
use crate::plan::Plan;
use crate::proxy::listener::Service;
use crate::proxy::shared::Shared;
use crate::ranges::current::InForce;

/// How often the warnings about the TLS files are repeated: a process that runs for months must still say
/// that its certificate nears its end.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Runs until SIGTERM or SIGINT and the drain that follows.
///
/// # Errors
/// When it can't start; once it runs, nothing ends it but a signal.
pub(crate) fn serve(sources: &Sources) -> Result<(), ServeError> {
    let (config, plan) = prepare::load(sources)?;
    let files = raise_file_limit();
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::stderr(metrics.log_dropped.clone())?;
    log::install(&sink, config.log.format, config.log.level);
    // DNS, admin and signals have a runtime of their own: a scrape never waits for a tunnel, and no tunnel
    // waits for a scrape.
    let control =
        runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let result = control.block_on(run(sources, (config, plan), metrics, &sink, files));
    sink.close();
    result
}

async fn run(
    sources: &Sources,
    loaded: (Config, Plan),
    metrics: Arc<Metrics>,
    sink: &Sink,
    files: Option<u64>,
) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let manager = Manager::of_process();
    let (reloads, mut asked) = door::door();
    let mut server = Server::start(loaded, metrics, sink, files, reloads)?;
    manager.ready(&notify::state(&server.shared));
    tokio::spawn(manager.clone().follow(server.shared.clone()));
    tokio::spawn(jobs::findings::run(server.shared.clone()));
    tokio::spawn(jobs::watch::run(server.shared.clone(), server.watch.subscribe()));
    tokio::spawn(jobs::ranges::run(server.shared.clone(), server.ranges.subscribe()));
    let mut remind = tokio::time::interval_at(tokio::time::Instant::now() + REMIND, REMIND);
    let going_down = loop {
        tokio::select! {
            _ = remind.tick() => server.tls.remind(),
            _ = signals.reload.recv() => {
                server.reload_told(sources, &manager, Losing::May).await;
            }
            Some(Ask { yes, verdict }) = asked.recv() => {
                let losing = if yes { Losing::May } else { Losing::MayNot };
                // Whoever asked may have gone.
                let _ = verdict.send(server.reload_told(sources, &manager, losing).await);
            }
            () = server.tls.changed() => server.reload_tls_files(),
            _ = signals.terminate.recv() => break false,
            _ = signals.interrupt.recv() => break false,
            _ = signals.power.recv() => break true,
        }
    };
    // A reload that is asked for from now on is refused at once.
    drop(asked);
    server.drain(&mut signals, &manager, going_down).await;
    Ok(())
}

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// The machine goes down; the units' `ExecStop=` sends it.
    power: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            power: signal(SignalKind::from_raw(libc::SIGPWR))?,
        })
    }
}

/// The running process: the configuration in force, and the parts that it is in force in.
struct Server {
    shared: Arc<Shared>,
    config: Config,
    workers: Workers,
    listeners: Listeners,
    tls: Tls,
    /// What the watch works by.
    watch: watch::Sender<jobs::watch::Settings>,
    /// What AWS's ranges are kept current by.
    ranges: watch::Sender<jobs::ranges::Settings>,
    loads: Loads,
    started: Instant,
    reloads: Door,
}

impl Server {
    fn start(
        loaded: (Config, Plan),
        metrics: Arc<Metrics>,
        sink: &Sink,
        files: Option<u64>,
        reloads: Door,
    ) -> Result<Self, ServeError> {
        let passed = passed::from_manager().map_err(ServeError::Passed)?;
        let listeners = Listeners::new(workers::count(), passed);
        let in_force = Arc::new(InForce::default());
        let prepared = Prepared::new(loaded, &listeners, &metrics, prepare::resolver, in_force)?;
        let Prepared { config, snapshot, warnings, tls, watch, ranges, change } = prepared;
        let access = AccessLog::new(sink.clone(), config.log.format);
        let shared = Shared::new(snapshot, metrics.clone(), access);
        let mut server = Self {
            workers: Workers::start(&shared)?,
            shared,
            config,
            listeners,
            tls: Tls::new(metrics),
            watch: watch::Sender::new(watch),
            ranges: watch::Sender::new(ranges),
            loads: Loads { config: true, tls_files: true },
            started: Instant::now(),
            reloads,
        };
        server.shared.journal.metrics.configuration(&server.shared.snapshot().fingerprint);
        announce::starting(&server.config, &server.shared.snapshot(), &warnings, files);
        server.ranges.borrow().first(&server.shared.ranges);
        server.tls.follow(tls, server.config.shift.sessions)?;
        server.change_listeners(change);
        announce::ready(&server.config, &server.listeners.addresses().collect::<Vec<_>>());
        Ok(server)
    }

    /// Starts accept loops for new listeners and ends those of old ones; returns the listeners that close.
    fn change_listeners(&mut self, change: Change) -> Vec<Closed> {
        let Changed { opened, closed } = self.listeners.change(change);
        let all: Vec<_> = self.listeners.addresses().collect();
        self.shared.own.set(all.iter().map(|(_, address)| *address).collect());
        for Opened { kind, address, sockets, stop } in opened {
            match kind {
                Entrance::Http => self.workers.accept(sockets, &Service::Http, &stop),
                Entrance::Https => {
                    // Always there: `Tls::follow` runs before a TLS listener opens.
                    if let Some(serving) = self.tls.serving() {
                        self.workers.accept(sockets, &Service::Https(serving), &stop);
                    }
                }
                Entrance::Admin => {
                    let admin = Arc::new(Admin::new(self.shared.clone(), self.started, self.reloads.clone()));
                    for listener in sockets {
                        tokio::spawn(admin::serve(listener, admin.clone(), stop.clone()));
                    }
                }
            }
            announce::listening(kind, address, &all);
        }
        closed
    }
}

/// Raises the soft limit of open files to the hard one; returns what is in force.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}
