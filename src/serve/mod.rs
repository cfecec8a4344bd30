//! The life of `ccpgate serve`: bind, announce, run, reload, drain. Binding is the first effect;
//! whatever is wrong before it ends with a message and nothing has happened.

mod announce;
mod going;
mod listeners;
pub(crate) mod notify;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::{self, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use self::notify::Manager;
use crate::admin::{self, Admin};
use crate::config::{self, Config, ConfigErrors, Sources};
use crate::egress::resolver::{self, Resolver};
use crate::journal::access::AccessLog;
use crate::journal::log::{self, Sink};
use crate::journal::metrics::Metrics;
use crate::pac::proxies::Advertise;
use crate::plan::{self, Plan};
use crate::proxy::https::Https;
use crate::proxy::listener::{Http, Stop, accept_all};
use crate::proxy::shared::Shared;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::timer;
use crate::tls::Shift;
use crate::tls::material::{self, Material, Serving};
use crate::tls::watch::Watch;
use listeners::{Change, Changed, Closed, Kind, Listeners, Opened};

/// After SIGTERM a connection that was just made may still begin its request.
const LATECOMERS: Duration = Duration::from_secs(1);
/// What was cut at the end of the drain still writes its last line.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A listener that a reload took away is closed before the reload is over: so long at most do those
/// who accept from it need to go through its queue.
const CLOSING: Duration = Duration::from_secs(1);

/// How often the files of the TLS listener are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);
const COUNT_SESSIONS: Duration = Duration::from_secs(1);
/// Erasing walks through all sessions: once in so many counts.
const COUNTS_TO_A_SWEEP: u32 = 60;
/// A process that runs for months still says that its certificate nears its end.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Why `serve` can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{key}: can't listen on {address}: {error}{hint}")]
    Bind { key: &'static str, address: SocketAddr, error: io::Error, hint: String },
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Parent(String),
    #[error("the TLS provider refuses the configuration: {0}")]
    Provider(#[from] rustls::Error),
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

impl ServeError {
    /// Whether the same start may succeed later, without anybody's change to a file: an address that
    /// another process still holds, or too few descriptors.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Config(_) | Self::Tls(_) | Self::Parent(_) | Self::Provider(_) => false,
            // Not a right that is missing, nor what is no address to listen on.
            Self::Bind { error, .. } => {
                !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
            }
            Self::Start(_) => true,
        }
    }
}

/// The configuration and what was resolved from it.
struct Ready {
    config: Config,
    plan: Plan,
}

fn load(sources: &Sources) -> Result<Ready, ServeError> {
    let loaded = config::load(sources)?;
    let plan = Plan::new(&loaded);
    Ok(Ready { config: loaded.config, plan })
}

/// Runs until SIGTERM or SIGINT and the drain that follows.
///
/// # Errors
/// When it can't start; once it runs, nothing ends it but a signal.
pub fn serve(sources: &Sources) -> Result<(), ServeError> {
    let loaded = load(sources)?;
    let files = raise_file_limit();
    let metrics = Arc::new(Metrics::new());
    let sink = Sink::stderr(metrics.log_dropped.clone())?;
    log::install(&sink, loaded.config.log.format, loaded.config.log.level);
    // DNS, admin and signals have a runtime of their own: a scrape never waits for a tunnel, nor
    // the other way round.
    let control =
        runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let result = control.block_on(run(sources, loaded, metrics, &sink, files));
    sink.close();
    result
}

async fn run(
    sources: &Sources,
    loaded: Ready,
    metrics: Arc<Metrics>,
    sink: &Sink,
    files: Option<u64>,
) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let manager = Manager::of_process();
    let (file_changed, mut changed_files) = unbounded_channel();
    let mut server = Server::start(loaded, metrics, sink, files, file_changed)?;
    manager.ready(&notify::state(&server.shared));
    tokio::spawn(manager.clone().follow(server.shared.clone()));
    let mut remind = tokio::time::interval_at(tokio::time::Instant::now() + REMIND, REMIND);
    let going_down = loop {
        tokio::select! {
            _ = remind.tick() => server.remind(),
            _ = signals.reload.recv() => {
                manager.reloading();
                server.reload(sources).await;
                manager.ready(&notify::state(&server.shared));
            }
            Some(()) = changed_files.recv() => server.files_changed(),
            _ = signals.terminate.recv() => break false,
            _ = signals.interrupt.recv() => break false,
            _ = signals.power.recv() => break true,
        }
    };
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

/// A listener for a worker to accept from.
struct Post {
    listener: StdListener,
    /// Over TLS with this, else plain.
    https: Option<Https>,
    stop: Stop,
}

struct Server {
    shared: Arc<Shared>,
    config: Config,
    workers: Vec<UnboundedSender<Post>>,
    listeners: Listeners,
    /// From the first configuration on that has a TLS listener; its sessions outlive every reload.
    tls: Option<Tls>,
    /// Tells the main loop that a file of the TLS listener has changed.
    file_changed: UnboundedSender<()>,
    /// Whether what was read last is what is in force.
    loaded: Loads,
    started: Instant,
}

/// The two things that are read again while the process runs, each with its own success: a renewed
/// certificate says nothing about a configuration file that is still broken.
#[derive(Clone, Copy)]
struct Loads {
    config: bool,
    tls_files: bool,
}

/// The TLS side: sessions, and what connections are served with.
struct Tls {
    shift: Arc<Shift>,
    serving: Arc<ArcSwap<Serving>>,
    /// Ends when files are watched anew.
    watching: CancellationToken,
}

impl Tls {
    fn service(&self) -> Https {
        Https(self.serving.clone())
    }
}

impl Server {
    fn start(
        loaded: Ready,
        metrics: Arc<Metrics>,
        sink: &Sink,
        files: Option<u64>,
        file_changed: UnboundedSender<()>,
    ) -> Result<Self, ServeError> {
        let Ready { config, plan } = loaded;
        let material = tls_material(&config)?;
        let parent = plan::parent(&config).map_err(ServeError::Parent)?;
        let listeners = Listeners::new(cores());
        let change = listeners.prepare(&config)?;
        let advertise = advertised(&config, &change.addresses());
        let (warnings, sessions) = (plan.warnings.clone(), config.shift.sessions);
        let snapshot = Snapshot::new(&config, plan, parent, advertise, &metrics, resolver(&config.dns));
        let access = AccessLog::new(sink.clone(), config.log.format);
        let shared = Shared::new(Arc::new(snapshot), metrics, access);
        let workers = start_workers(&shared)?;
        let mut server = Self {
            shared,
            config,
            workers,
            listeners,
            tls: None,
            file_changed,
            loaded: Loads { config: true, tls_files: true },
            started: Instant::now(),
        };
        announce::starting(&server.config, &server.shared.snapshot(), &warnings, files);
        server.follow_tls(material, sessions)?;
        server.change_listeners(change);
        announce::ready(&server.config, &server.listeners.addresses().collect::<Vec<_>>());
        Ok(server)
    }

    /// Starts accepting where it is new, and ends it where it is over; returns what closes.
    fn change_listeners(&mut self, change: Change) -> Vec<Closed> {
        let Changed { opened, closed } = self.listeners.change(change);
        let all: Vec<_> = self.listeners.addresses().collect();
        self.shared.own.set(all.iter().map(|(_, address)| *address).collect());
        for Opened { kind, address, sockets, stop } in opened {
            match kind {
                Kind::Http | Kind::Https => {
                    for (worker, listener) in self.workers.iter().zip(sockets) {
                        let https = self.tls.as_ref().filter(|_| kind == Kind::Https).map(Tls::service);
                        // A worker ends only with the process.
                        let _ = worker.send(Post { listener, https, stop: stop.clone() });
                    }
                }
                Kind::Admin => {
                    let admin = Arc::new(Admin { shared: self.shared.clone(), started: self.started });
                    for listener in sockets {
                        tokio::spawn(admin::serve(listener, admin.clone(), stop.clone()));
                    }
                }
            }
            announce::listening(kind, address, &all);
        }
        closed
    }

    /// Puts new TLS material in force over the sessions that there are, and watches its files.
    ///
    /// # Errors
    /// Then nothing has changed.
    fn follow_tls(&mut self, read: Option<(Watch, Material)>, sessions: usize) -> Result<(), ServeError> {
        let Some((watch, material)) = read else {
            if let Some(tls) = &self.tls {
                tls.watching.cancel();
                self.shared.metrics.certificate(None);
            }
            return Ok(());
        };
        let watching = CancellationToken::new();
        let serving = match &mut self.tls {
            Some(tls) => {
                let serving = Arc::new(material::follow(&tls.shift, material)?);
                tls.serving.store(serving.clone());
                std::mem::replace(&mut tls.watching, watching.clone()).cancel();
                serving
            }
            None => {
                let (shift, serving) = material::begin(material, sessions)?;
                tokio::spawn(count_sessions(shift.clone(), self.shared.metrics.clone()));
                let serving = Arc::new(serving);
                let current = Arc::new(ArcSwap::new(serving.clone()));
                self.tls = Some(Tls { shift, serving: current, watching: watching.clone() });
                serving
            }
        };
        self.watch_tls(watch, watching, &serving);
        Ok(())
    }

    fn watch_tls(&self, watch: Watch, watching: CancellationToken, serving: &Serving) {
        warn_of(serving);
        let (file, end) = serving.certificate();
        let begins = serving.certificate_begins();
        self.shared.metrics.certificate(Some((&file, begins as i64, end as i64)));
        let expires =
            jiff::Timestamp::from_second(end as i64).map_or_else(|_| end.to_string(), |t| t.to_string());
        tracing::info!(
            event = "certificate",
            certificate = %file,
            %expires,
            window = %humantime::format_duration(Duration::from_secs(self.tls.as_ref().map_or(0, |t| t.shift.store().window_seconds()))),
            "the TLS listener's certificate, and how long its sessions can be resumed"
        );
        let changed = self.file_changed.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = watching.cancelled() => {}
                () = watch.run(LOOK_AT_FILES, |_| { let _ = changed.send(()); }) => {}
            }
        });
    }

    /// Says again what was said of the TLS files when they were read.
    fn remind(&self) {
        if let Some(tls) = self.tls.as_ref().filter(|_| !self.config.tls.listen.is_empty()) {
            warn_of(&tls.serving.load());
        }
    }

    /// A file of the TLS listener was replaced: reads all of them again; a broken one changes nothing.
    fn files_changed(&mut self) {
        let sessions = self.config.shift.sessions;
        let followed = tls_material(&self.config).and_then(|material| self.follow_tls(material, sessions));
        self.count(followed.is_ok(), Loads { tls_files: followed.is_ok(), ..self.loaded });
        match followed {
            Ok(()) => tracing::info!(
                event = "certificate_reloaded",
                "took over the changed TLS files; sessions go on"
            ),
            Err(error) => {
                tracing::error!(event = "reload_failed", %error, "the changed TLS files are not usable; the old ones stay in force");
            }
        }
    }

    /// Counts a reload, and shows what the last reading of each has come to.
    fn count(&mut self, ok: bool, loaded: Loads) {
        self.loaded = loaded;
        self.shared.metrics.reloaded(ok, loaded.config && loaded.tls_files, loaded.tls_files);
    }

    /// Puts a changed configuration in force, whole or not at all.
    async fn reload(&mut self, sources: &Sources) {
        match self.try_reload(sources).await {
            Ok(()) => self.count(true, Loads { config: true, tls_files: true }),
            Err((error, loaded)) => {
                self.count(false, loaded);
                tracing::error!(event = "reload_failed", %error, "the reload failed; the running configuration stays");
            }
        }
    }

    /// The one that runs, cache and all, unless something in `[dns]` has changed.
    fn resolver_for(&self, dns: &config::Dns) -> Resolver {
        if *dns != self.config.dns {
            return resolver(dns);
        }
        let running = self.shared.snapshot().egress.resolver.clone();
        running.refresh();
        running
    }

    /// # Errors
    /// With the reason, and what has failed to load; nothing has changed then.
    async fn try_reload(&mut self, sources: &Sources) -> Result<(), (ServeError, Loads)> {
        let failed = Loads { config: false, ..self.loaded };
        let Ready { config, plan } = load(sources).map_err(|error| (error, failed))?;
        // Files that are named as before are at fault themselves; if nothing else has changed either,
        // the configuration that was read is the one in force.
        let unusable = Loads {
            config: config == self.config,
            tls_files: config.tls != self.config.tls && self.loaded.tls_files,
        };
        let material = tls_material(&config).map_err(|error| (error, unusable))?;
        // Whatever can fail comes first; then nothing has changed.
        let failed = |error| (error, failed);
        let parent = plan::parent(&config).map_err(|error| failed(ServeError::Parent(error)))?;
        let change = self.listeners.prepare(&config).map_err(failed)?;
        let advertise = advertised(&config, &change.addresses());
        let warnings = plan.warnings.clone();
        let resolver = self.resolver_for(&config.dns);
        let snapshot = Snapshot::new(&config, plan, parent, advertise, &self.shared.metrics, resolver);
        self.follow_tls(material, config.shift.sessions).map_err(failed)?;
        let old = std::mem::replace(&mut self.config, config);
        if (old.log.format, old.log.level) != (self.config.log.format, self.config.log.level) {
            tracing::warn!(event = "needs_restart", "log.format and log.level take effect at the next start");
        }
        if old.shift.sessions != self.config.shift.sessions {
            tracing::warn!(event = "needs_restart", "shift.sessions takes effect at the next start");
        }
        self.shared.replace(Arc::new(snapshot));
        for Closed { kind, address, mut stopper } in self.change_listeners(change) {
            let _ = tokio::time::timeout(CLOSING, stopper.ended()).await;
            tracing::info!(event = "closed", listener = kind.into_str(), %address, "no longer listening");
        }
        for warning in warnings {
            tracing::warn!(event = "policy_warning", "{warning}");
        }
        let snapshot = self.shared.snapshot();
        announce::remark(&self.config, &snapshot.policy);
        announce::parent(&snapshot);
        let rules = snapshot.policy.rules().len();
        tracing::info!(
            event = "reloaded",
            config = snapshot.source,
            rules,
            "reloaded; live tunnels go on as they are"
        );
        Ok(())
    }

    /// Says that it leaves, for `limits.lame_duck`; then takes no new work, lets live tunnels run on
    /// for a time that counts from the signal, and cuts them.
    async fn drain(mut self, signals: &mut Signals, manager: &Manager, going_down: bool) {
        let signalled = Instant::now();
        let (shared, limits) = (self.shared.clone(), self.config.limits.clone());
        let limit = limits.drain;
        let Signals { terminate, interrupt, power, .. } = signals;
        shared.metrics.draining.set(1);
        shared.drain.leave();
        let second = async {
            tokio::select! {
                () = ended_now(terminate, going_down) => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(second);
        // A machine that goes down has a minute for all of it.
        let lame_duck =
            if going_down { limits.lame_duck.min(limits.reboot_drain / 2) } else { limits.lame_duck };
        let (mut hurry, mut told) = (false, going_down);
        if !lame_duck.is_zero() {
            manager.stopping(&notify::state(&shared));
            tracing::info!(
                event = "lame_duck",
                limit = %humantime::format_duration(lame_duck),
                "leaving: /readyz says no, and connections are still accepted for limits.lame_duck"
            );
            tokio::select! {
                () = tokio::time::sleep(lame_duck) => {}
                () = &mut second => hurry = true,
                Some(()) = power.recv() => told = true,
            }
        }
        let spent = signalled.elapsed();
        let reboot = if going_down { limits.reboot_drain.saturating_sub(spent) } else { limits.reboot_drain };
        let time = going::Time { drain: limit.saturating_sub(spent), reboot };
        shared.drain.begin();
        manager.stopping(&notify::state(&shared));
        tracing::info!(
            event = "draining",
            tunnels = shared.busy_now(),
            limit = %humantime::format_duration(limit),
            "draining: no new connections; live tunnels go on; a second signal ends them now"
        );
        self.listeners.close_proxies();
        let quiet = async {
            let deadline = Instant::now() + LATECOMERS;
            while shared.admission.occupied() > 0 && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            shared.idle().await;
        };
        let ended = !hurry
            && tokio::select! {
                () = quiet => true,
                () = time.over(&shared, power, told) => false,
                () = second => false,
            };
        if !ended {
            tracing::warn!(
                event = "cutting",
                tunnels = shared.busy_now(),
                "cutting the tunnels that still live"
            );
            shared.drain.cut_all();
            let _ = tokio::time::timeout(LAST_WORDS, shared.idle()).await;
        }
        tracing::info!(event = "stopped", "stopped");
    }
}

/// A signal to end now. The first one after SIGPWR isn't: it is the service manager's own.
async fn ended_now(terminate: &mut Signal, going_down: bool) {
    if going_down {
        terminate.recv().await;
    }
    terminate.recv().await;
}

/// What the TLS listener needs, where there is one. The watch is older than the reading, so that a
/// file replaced in between is noticed.
fn tls_material(config: &Config) -> Result<Option<(Watch, Material)>, ServeError> {
    if config.tls.listen.is_empty() {
        return Ok(None);
    }
    let watch = Watch::new(Material::files(config));
    let material = Material::load(config).map_err(|problems| ServeError::Tls(problems.join("\n")))?;
    Ok(Some((watch, material)))
}

fn warn_of(serving: &Serving) {
    for warning in serving.warnings() {
        tracing::warn!(event = "tls_warning", "{warning}");
    }
}

/// Shows how many sessions there are, and now and then drops what no clock but ours can expire.
async fn count_sessions(shift: Arc<Shift>, metrics: Arc<Metrics>) {
    let mut tick = tokio::time::interval(COUNT_SESSIONS);
    for count in 1_u32.. {
        tick.tick().await;
        if count.is_multiple_of(COUNTS_TO_A_SWEEP) {
            shift.store().sweep();
        }
        metrics.tls_sessions.set(shift.store().len() as i64);
    }
}

/// What a PAC file names: the configured addresses with the ports that they really have.
fn advertised(config: &Config, listeners: &[(Kind, SocketAddr)]) -> Advertise {
    let of =
        |wanted| listeners.iter().filter(|(kind, _)| *kind == wanted).map(|(_, address)| *address).collect();
    Advertise { http: of(Kind::Http), https: of(Kind::Https), ..Advertise::from_config(config) }
}

fn resolver(dns: &config::Dns) -> Resolver {
    let config::Dns { hosts, servers, timeout, edns } = dns.clone();
    Resolver::new(resolver::Options { hosts, servers, timeout, edns }, Handle::current())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// One event loop for each core, on a thread of its own: a tunnel never changes threads, and
/// workers share nothing but the sockets that they accept from.
fn start_workers(shared: &Arc<Shared>) -> io::Result<Vec<UnboundedSender<Post>>> {
    (0..cores())
        .map(|i| {
            let (posts, mut received) = unbounded_channel::<Post>();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let shared = shared.clone();
            thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                runtime.block_on(async move {
                    tokio::spawn(timer::keep());
                    while let Some(Post { listener, https, stop }) = received.recv().await {
                        let shared = shared.clone();
                        match https {
                            Some(https) => tokio::spawn(accept_all(listener, https, shared, stop)),
                            None => tokio::spawn(accept_all(listener, Http, shared, stop)),
                        };
                    }
                });
            })?;
            Ok(posts)
        })
        .collect()
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
