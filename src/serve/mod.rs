//! The life of `ccpgate serve`: start, a loop over signals, the drain. Binding is the first effect; a
//! mistake found before it ends the start with a message, and nothing has happened.
//!
//! What runs beside the loop is spawned where it belongs, and none of it can fail: the sweep of sessions
//! and the watch of the TLS files in `tls`, the sentence for `systemctl status` in `notify`. What has a
//! result that somebody must see is in `jobs`.

mod announce;
pub(crate) mod control;
mod drain;
pub(crate) mod edl;
mod error;
mod farewell;
mod hand_over;
mod jobs;
mod listeners;
pub(crate) mod notify;
mod prepare;
mod reload;
mod shut;
mod takeover;
mod tls;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::control::{Asker, Control};
use self::drain::Why;
use self::edl::Edl;
pub(crate) use self::error::ServeError;
use self::hand_over::{Handed, Step};
use self::listeners::{Change, Changed, Closed, Listeners, Opened};
use self::notify::Manager;
use self::prepare::Prepared;
use self::reload::{Fixed, Loads, Losing};
use self::takeover::{Place, TakeOver};
use self::tls::Tls;
use self::workers::Workers;
use crate::admin::reload::{self as door, Ask, Door};
use crate::admin::{self, Admin};
use crate::config::{Config, Sources};
use crate::journal::access::AccessLog;
use crate::journal::log::{self, Sink};
use crate::journal::metrics::Metrics;
use crate::net::control::Line;
use crate::net::entrance::Entrance;
use crate::net::memory;
use crate::net::passed;
use crate::net::resources;
use crate::plan::Plan;
use crate::proxy::listener::Service;
use crate::proxy::shared::Shared;
use crate::ranges::current::InForce;

/// How often the warnings about the TLS files are repeated: a process that runs for months must still say
/// that its certificate nears its end.
const REMIND: Duration = Duration::from_secs(24 * 3600);
/// How often files that could not be used when they changed are tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT and the drain that follows. `take_over`: the process that serves already, if
/// one does, hands over.
///
/// # Errors
/// When it can't start; once it runs, nothing ends it but a signal.
pub(crate) fn serve(sources: &Sources, take_over: bool) -> Result<(), ServeError> {
    let loaded = prepare::load(sources)?;
    let files = raise_file_limit();
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::stderr(metrics.log_dropped.clone())?;
    log::install(&sink, loaded.0.log.format, loaded.0.log.level);
    // DNS, admin and signals have a runtime of their own: a scrape never waits for a tunnel, and no tunnel
    // waits for a scrape.
    let control =
        runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let made = Made { metrics, sink: sink.clone(), files };
    let result = control.block_on(run(sources, take_over, loaded, made));
    // A look at a file on a network that is gone, which nothing ends, must not hold the end back.
    control.shutdown_background();
    sink.close();
    result
}

/// What a process has before its configuration is in force.
struct Made {
    metrics: Arc<Metrics>,
    sink: Sink,
    /// How many files it may have open.
    files: Option<u64>,
}

async fn run(
    sources: &Sources,
    take_over: bool,
    loaded: (Config, Plan),
    made: Made,
) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let manager = Manager::of_process();
    let (reloads, mut asked) = door::door();
    let state = loaded.0.ranges.state.clone();
    let place = if take_over { takeover::ask(state.as_deref())? } else { takeover::beside(state.as_deref()) };
    let mut server = Server::start(loaded, made, reloads, place)?;
    let (askers, mut asking) = mpsc::channel(1);
    let (steps, mut stepping) = mpsc::channel(1);
    server.open_control(askers);
    // From here on a process that drains sees this one; it may have shut its sockets just before.
    server.listeners.listen_again();
    manager.ready(&notify::state(&server.shared));
    tokio::spawn(manager.clone().follow(server.shared.clone()));
    tokio::spawn(jobs::findings::run(server.shared.clone()));
    let (lists, settings) = (server.edl.lists.clone(), server.ranges.subscribe());
    tokio::spawn(jobs::consumers::run(server.shared.clone(), lists, settings));
    tokio::spawn(jobs::generations::run(server.admin.clone()));
    tokio::spawn(jobs::watch::run(server.shared.clone(), server.watch.subscribe()));
    tokio::spawn(jobs::ranges::run(server.shared.clone(), server.ranges.subscribe(), server.keeper.take()));
    let mut remind = tokio::time::interval_at(tokio::time::Instant::now() + REMIND, REMIND);
    let mut again = tokio::time::interval(AGAIN);
    let why = loop {
        tokio::select! {
            _ = again.tick() => server.try_files_again(),
            _ = remind.tick() => {
                server.tls.remind();
                server.edl.remind();
            }
            _ = signals.reload.recv() => {
                server.reload_told(sources, &manager, Losing::May).await;
            }
            Some(Ask { yes, verdict }) = asked.recv() => {
                let losing = if yes { Losing::May } else { Losing::MayNot };
                // The client that asked may have gone.
                let _ = verdict.send(server.reload_told(sources, &manager, losing).await);
            }
            () = server.tls.changed() => server.reload_tls_files(),
            () = server.edl.changed() => server.reload_edl_files(),
            Some(asker) = asking.recv() => server.give(asker, &steps).await,
            Some(step) = stepping.recv() => match step {
                Step::Gone(pid) => server.abandoned(pid),
                Step::Ready(next) => match server.hand_over(next, &mut signals).await {
                    Handed::Over { going_down: false } => break Why::HandedOver,
                    Handed::Over { going_down: true } => break Why::GoingDown,
                    Handed::Back => {}
                },
            },
            _ = signals.terminate.recv() => break Why::Signal,
            _ = signals.interrupt.recv() => break Why::Signal,
            _ = signals.power.recv() => break Why::GoingDown,
        }
    };
    // A reload that is asked for from now on is refused at once.
    drop(asked);
    // The drain sees so that no step can come any more.
    drop(steps);
    server.drain(&mut signals, &manager, why, asking, stepping).await;
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
        // Log rotation made for other servers sends these two, and by default they would end the process
        // and every call with it. Each handler stays when its stream is dropped.
        for unused in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            drop(signal(unused)?);
        }
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
    edl: Edl,
    /// What the watch works by.
    watch: watch::Sender<jobs::watch::Settings>,
    /// What AWS's ranges are kept current by.
    ranges: watch::Sender<jobs::ranges::Settings>,
    /// What has begun to keep them, until its job goes on with it.
    keeper: Option<jobs::ranges::Keeper>,
    loads: Loads,
    /// What no reload changes.
    fixed: Fixed,
    admin: Arc<Admin>,
    /// Where a successor finds this process.
    control: Option<Control>,
    /// The process that takes over.
    taking_over: Option<u32>,
    /// To the process before this one, which takes back when it breaks early.
    predecessor: Option<Line>,
}

impl Server {
    fn start(
        loaded: (Config, Plan),
        Made { metrics, sink, files }: Made,
        reloads: Door,
        place: Place,
    ) -> Result<Self, ServeError> {
        let Place { id, older, mut takeover } = place;
        let passed = passed::from_manager().map_err(ServeError::Passed)?;
        let offered = takeover.as_mut().map(|takeover| std::mem::take(&mut takeover.offered));
        if takeover.is_some() && passed.iter().any(|passed| passed.was_blocking) {
            tracing::warn!(
                event = "takeover_warning",
                "the service manager passes sockets that block, and the process that accepts from them hangs until \
                 this one is ready: write NonBlocking=yes in the unit"
            );
        }
        let listeners = Listeners::new(workers::count(), passed, offered.unwrap_or_default());
        let in_force = Arc::new(InForce::default());
        let prepared = Prepared::new(loaded, &listeners, &metrics, prepare::resolver, in_force)?;
        // At a start nothing is in force that could be selected anew.
        let Prepared { config, snapshot, warnings, tls, edl, watch, ranges, reselected: _, change } =
            prepared;
        let access = AccessLog::new(sink, config.log.format);
        let fixed = Fixed::new(&config.log);
        let shared = Shared::new(snapshot, metrics.clone(), access, id);
        let edl_lists = Edl::new(shared.clone());
        let admin = Arc::new(Admin::new(shared.clone(), edl_lists.lists.clone(), Instant::now(), reloads));
        let mut server = Self {
            workers: Workers::start(&shared)?,
            shared,
            config,
            listeners,
            tls: Tls::new(metrics),
            edl: edl_lists,
            watch: watch::Sender::new(watch),
            ranges: watch::Sender::new(ranges),
            keeper: None,
            loads: Loads { config: true, tls_files: true, edl_files: true },
            fixed,
            admin,
            control: None,
            taking_over: None,
            predecessor: None,
        };
        server.shared.journal.metrics.configuration(&server.shared.snapshot().fingerprint);
        announce::starting(&server.config, &server.shared.snapshot(), &warnings, files);
        server.keeper = server.ranges.borrow().first(&server.shared.ranges);
        server.tls.follow(tls, server.config.shift.sessions)?;
        server.edl.follow(edl);
        server.admin.generations.follow(older);
        if let Some(takeover) = &mut takeover {
            // The other one accepts no more from here on.
            let (older, sessions) = takeover.ready()?;
            server.admin.generations.keep(&older);
            server.tls.inherit(&sessions);
        }
        server.remember_consumers();
        server.listeners.listen_again();
        server.change_listeners(change);
        server.predecessor = takeover.map(TakeOver::accepting);
        announce::ready(&server.config, &server.listeners.addresses().collect::<Vec<_>>());
        memory::give_back();
        Ok(server)
    }

    /// Starts accept loops for new listeners and ends those of old ones; returns the listeners that close.
    fn change_listeners(&mut self, change: Change) -> Vec<Closed> {
        let Changed { opened, closed } = self.listeners.change(change);
        self.accept(opened);
        closed
    }

    /// Starts the accept loops of listeners.
    fn accept(&mut self, opened: Vec<Opened>) {
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
                    for listener in sockets {
                        tokio::spawn(admin::serve(listener, self.admin.clone(), stop.clone()));
                    }
                }
                Entrance::Edl => {
                    for listener in sockets {
                        let (door, lists) = (self.edl.door.clone(), self.edl.lists.clone());
                        let metrics = self.shared.journal.metrics.clone();
                        tokio::spawn(admin::edl::serve(listener, door, lists, metrics, stop.clone()));
                    }
                }
            }
            announce::listening(kind, address, &all);
        }
    }

    /// Reads and writes down which firewall fetched which list.
    fn remember_consumers(&self) {
        let Some(folder) = self.ranges.borrow().state().cloned() else { return };
        if let Err(why) = self.edl.lists.remember(&folder) {
            jobs::consumers::tell(&why);
        }
    }

    /// Opens the socket by which a successor finds this process, where there is a folder for it.
    fn open_control(&mut self, askers: mpsc::Sender<Asker>) {
        let Some(folder) = control::folder(self.config.ranges.state.as_deref()) else { return };
        match Control::open(&folder, self.admin.clone(), askers) {
            Ok(control) => self.control = Some(control),
            Err(error) => tracing::warn!(
                event = "control_failed",
                folder = %folder.display(),
                %error,
                "no successor can take over from this process: its Unix socket can't be opened"
            ),
        }
    }
}

/// Raises the soft limit of open files to the hard one; returns what is in force.
fn raise_file_limit() -> Option<u64> {
    let (current, maximum) = resources::open_files();
    if resources::raise_open_files().is_ok() { maximum } else { current }
}
