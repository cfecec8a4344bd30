//! The life of `ccpgate serve`: bind, announce, run, reload, drain. Binding is the first effect;
//! whatever is wrong before it ends with a message and nothing has happened.

mod going;

use std::collections::HashMap;
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

use crate::admin::{self, Admin};
use crate::advertise::{self, Advertise, Remark};
use crate::config::{self, Config, ConfigErrors, Sources};
use crate::log::access::AccessLog;
use crate::log::{self, Sink};
use crate::metrics::Metrics;
use crate::notify::{self, Manager};
use crate::policy::Policy;
use crate::proxy::beat;
use crate::proxy::gate::Gate;
use crate::proxy::https::Https;
use crate::proxy::listener::{Http, accept_all, bind};
use crate::snapshot::{Plan, Snapshot};
use crate::tls::Shift;
use crate::tls::material::{self, Material, Serving};
use crate::tls::watch::Watch;

/// After SIGTERM a connection that was just made may still begin its request.
const LATECOMERS: Duration = Duration::from_secs(1);
/// What was cut at the end of the drain still writes its last line.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
    #[error("dns.servers: the system's resolver configuration can't be used: {0}")]
    Resolver(String),
    #[error("{key}: can't listen on {address}: {error}")]
    Bind { key: &'static str, address: SocketAddr, error: io::Error },
    #[error("{0}")]
    Tls(String),
    #[error("the TLS provider refuses the configuration: {0}")]
    Provider(#[from] rustls::Error),
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
}

impl ServeError {
    /// Whether the same start may succeed later, without anybody's change to a file: an address that
    /// another process still holds, too few descriptors, a resolver's file that isn't there yet.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Config(_) | Self::Tls(_) | Self::Provider(_) => false,
            // Not a right that is missing, nor what is no address to listen on.
            Self::Bind { error, .. } => {
                !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
            }
            Self::Resolver(_) | Self::Start(_) => true,
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
    let plan = Plan::new(&loaded)?;
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
    manager.ready(&notify::state(&server.gate));
    tokio::spawn(manager.clone().follow(server.gate.clone()));
    let mut remind = tokio::time::interval_at(tokio::time::Instant::now() + REMIND, REMIND);
    let going_down = loop {
        tokio::select! {
            _ = remind.tick() => server.remind(),
            _ = signals.reload.recv() => {
                manager.reloading();
                server.reload(sources);
                manager.ready(&notify::state(&server.gate));
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

/// Which kind of listener an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Http,
    Https,
    Admin,
}

impl Kind {
    const fn key(self) -> &'static str {
        match self {
            Self::Http => "proxy.listen",
            Self::Https => "tls.listen",
            Self::Admin => "admin.listen",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Admin => "admin",
        }
    }
}

/// A bound address; `configured` may have port 0, `actual` has the real one.
struct Bound {
    /// The socket, once for each worker; empty once they have it.
    sockets: Vec<StdListener>,
    actual: SocketAddr,
    stop: CancellationToken,
}

type Listeners = HashMap<(Kind, SocketAddr), Bound>;

/// A listener for a worker to accept from.
struct Post {
    listener: StdListener,
    /// Over TLS with this, else plain.
    https: Option<Https>,
    stop: CancellationToken,
}

struct Server {
    gate: Arc<Gate>,
    config: Config,
    workers: Vec<UnboundedSender<Post>>,
    listeners: Listeners,
    /// From the first configuration on that has a TLS listener; its sessions outlive every reload.
    tls: Option<Tls>,
    /// Tells the main loop that a file of the TLS listener has changed.
    file_changed: UnboundedSender<()>,
    started: Instant,
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
        let listeners = bind_missing(&config, &Listeners::new())?;
        let advertise = advertised(&config, listeners.iter().map(|(key, bound)| (*key, bound.actual)));
        let (warnings, sessions) = (plan.warnings.clone(), config.shift.sessions);
        let snapshot = Snapshot::new(&config, plan, advertise, &metrics, &Handle::current())
            .map_err(ServeError::Resolver)?;
        let access = AccessLog::new(sink.clone(), config.log.format);
        let gate = Gate::new(Arc::new(snapshot), metrics, access);
        let workers = start_workers(&gate)?;
        let mut server = Self {
            gate,
            config,
            workers,
            listeners: Listeners::new(),
            tls: None,
            file_changed,
            started: Instant::now(),
        };
        server.announce(&warnings, files);
        server.follow_tls(material, sessions)?;
        server.open(listeners);
        server.say_what_next();
        Ok(server)
    }

    /// Starts accepting on new listeners.
    fn open(&mut self, listeners: Listeners) {
        for ((kind, configured), mut bound) in listeners {
            let address = bound.actual;
            let mut sockets = std::mem::take(&mut bound.sockets).into_iter();
            match kind {
                Kind::Http | Kind::Https => {
                    for (worker, listener) in self.workers.iter().zip(sockets) {
                        let https = self.tls.as_ref().filter(|_| kind == Kind::Https).map(Tls::service);
                        // A worker ends only with the process.
                        let _ = worker.send(Post { listener, https, stop: bound.stop.clone() });
                    }
                }
                Kind::Admin => {
                    let admin = Arc::new(Admin { gate: self.gate.clone(), started: self.started });
                    if let Some(listener) = sockets.next() {
                        tokio::spawn(admin::serve(listener, admin, bound.stop.clone()));
                    }
                }
            }
            tracing::info!(event = "listening", listener = kind.as_str(), %address, "listening");
            self.listeners.insert((kind, configured), bound);
        }
        self.gate.set_own(self.listeners.values().map(|b| b.actual).collect());
    }

    fn announce(&self, warnings: &[String], files: Option<u64>) {
        let snapshot = self.gate.snapshot();
        let connect = &self.config.connect;
        tracing::info!(
            event = "starting",
            version = crate::VERSION,
            config = snapshot.source,
            rules = snapshot.policy.rules().len(),
            mode = self.config.policy.mode.as_str(),
            tls = self.config.policy.tls.as_str(),
            "ccpgate allows Amazon Connect in {} for instances {}, and denies all else",
            connect.regions.join(", "),
            connect.instances.join(", "),
        );
        for warning in warnings {
            tracing::warn!(event = "policy_warning", "{warning}");
        }
        remark(&self.config, &snapshot.policy);
        let wanted = (self.config.limits.connections as u64).saturating_mul(2) + 200;
        if let Some(files) = files.filter(|f| *f < wanted) {
            tracing::warn!(
                event = "file_limit",
                limit = files,
                wanted,
                "the limit of open files is too low for limits.connections: raise LimitNOFILE"
            );
        }
    }

    fn say_what_next(&self) {
        let of = |kind| self.listeners.iter().find(move |((k, _), _)| *k == kind).map(|(_, b)| b.actual);
        let pac = of(Kind::Http).map(|a| format!("http://{a}/proxy.pac"));
        let pac = pac.or_else(|| of(Kind::Https).map(|a| format!("https://{a}/proxy.pac")));
        if let (Some(pac), Some(admin)) = (pac, of(Kind::Admin)) {
            tracing::info!(
                event = "ready",
                %pac,
                metrics = %format!("http://{admin}/metrics"),
                "ready; point browsers at the PAC file, and ask `ccpgate explain HOST` why a host is denied"
            );
        }
    }

    /// Puts new TLS material in force over the sessions that there are, and watches its files.
    ///
    /// # Errors
    /// Then nothing has changed.
    fn follow_tls(&mut self, read: Option<(Watch, Material)>, sessions: usize) -> Result<(), ServeError> {
        let Some((watch, material)) = read else {
            if let Some(tls) = &self.tls {
                tls.watching.cancel();
                self.gate.metrics.certificate(None);
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
                tokio::spawn(count_sessions(shift.clone(), self.gate.metrics.clone()));
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
        self.gate.metrics.certificate(Some((&file, end as i64)));
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
        self.gate.metrics.reloaded(followed.is_ok());
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

    /// Puts a changed configuration in force, whole or not at all.
    fn reload(&mut self, sources: &Sources) {
        match self.try_reload(sources) {
            Ok(()) => self.gate.metrics.reloaded(true),
            Err(error) => {
                self.gate.metrics.reloaded(false);
                tracing::error!(event = "reload_failed", %error, "the reload failed; the running configuration stays");
            }
        }
    }

    fn try_reload(&mut self, sources: &Sources) -> Result<(), ServeError> {
        let Ready { config, plan } = load(sources)?;
        let material = tls_material(&config)?;
        // Whatever can fail comes first; then nothing has changed.
        let added = bind_missing(&config, &self.listeners)?;
        let wanted = addresses(&config);
        let kept = self.listeners.iter().filter(|(key, _)| wanted.contains(key));
        let actual = kept.chain(&added).map(|(key, bound)| (*key, bound.actual));
        let advertise = advertised(&config, actual);
        let warnings = plan.warnings.clone();
        let snapshot = Snapshot::new(&config, plan, advertise, &self.gate.metrics, &Handle::current())
            .map_err(ServeError::Resolver)?;
        self.follow_tls(material, config.shift.sessions)?;
        let old = std::mem::replace(&mut self.config, config);
        if (old.log.format, old.log.level) != (self.config.log.format, self.config.log.level) {
            tracing::warn!(event = "needs_restart", "log.format and log.level take effect at the next start");
        }
        if old.shift.sessions != self.config.shift.sessions {
            tracing::warn!(event = "needs_restart", "shift.sessions takes effect at the next start");
        }
        self.gate.replace(Arc::new(snapshot));
        let (kept, removed): (Listeners, Listeners) =
            std::mem::take(&mut self.listeners).into_iter().partition(|(key, _)| wanted.contains(key));
        self.listeners = kept;
        self.open(added);
        for ((kind, _), bound) in removed {
            bound.stop.cancel();
            let address = bound.actual;
            tracing::info!(event = "closed", listener = kind.as_str(), %address, "no longer listening");
        }
        for warning in warnings {
            tracing::warn!(event = "policy_warning", "{warning}");
        }
        let snapshot = self.gate.snapshot();
        remark(&self.config, &snapshot.policy);
        let rules = snapshot.policy.rules().len();
        tracing::info!(
            event = "reloaded",
            config = snapshot.source,
            rules,
            "reloaded; live tunnels go on as they are"
        );
        Ok(())
    }

    /// Takes no new work, lets live tunnels run on for a time, then cuts them.
    async fn drain(mut self, signals: &mut Signals, manager: &Manager, going_down: bool) {
        let (gate, limit) = (self.gate.clone(), self.config.limits.drain);
        let time = going::Time { drain: limit, reboot: self.config.limits.reboot_drain };
        gate.metrics.draining.set(1);
        gate.drain.begin();
        manager.stopping(&notify::state(&gate));
        tracing::info!(
            event = "draining",
            tunnels = gate.busy_now(),
            limit = %humantime::format_duration(limit),
            "draining: no new connections; live tunnels go on; a second signal ends them now"
        );
        self.listeners.retain(|(kind, _), bound| {
            if *kind != Kind::Admin {
                bound.stop.cancel();
            }
            *kind == Kind::Admin
        });
        let quiet = async {
            let deadline = Instant::now() + LATECOMERS;
            while gate.admission.occupied() > 0 && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            gate.idle().await;
        };
        let ended = tokio::select! {
            () = quiet => true,
            () = time.over(&gate, &mut signals.power, going_down) => false,
            () = ended_now(&mut signals.terminate, going_down) => false,
            _ = signals.interrupt.recv() => false,
        };
        if !ended {
            tracing::warn!(
                event = "cutting",
                tunnels = gate.busy_now(),
                "cutting the tunnels that still live"
            );
            gate.drain.cut_all();
            let _ = tokio::time::timeout(LAST_WORDS, gate.idle()).await;
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

/// Says what should be known of the PAC file.
fn remark(config: &Config, policy: &Policy) {
    for remark in advertise::remarks(config, policy) {
        match remark {
            Remark::Warning(text) => tracing::warn!(event = "pac_warning", "{text}"),
            Remark::Note(text) => tracing::info!(event = "pac_note", "{text}"),
        }
    }
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

fn addresses(config: &Config) -> Vec<(Kind, SocketAddr)> {
    let http = config.proxy.listen.iter().map(|a| (Kind::Http, *a));
    let https = config.tls.listen.iter().map(|a| (Kind::Https, *a));
    http.chain(https).chain([(Kind::Admin, config.admin.listen)]).collect()
}

/// Binds what the configuration names and `present` lacks; all of it or none.
fn bind_missing(config: &Config, present: &Listeners) -> Result<Listeners, ServeError> {
    let mut bound = Listeners::new();
    for (kind, address) in addresses(config) {
        if present.contains_key(&(kind, address)) {
            continue;
        }
        let failed = |error| ServeError::Bind { key: kind.key(), address, error };
        let socket = bind(address).map_err(failed)?;
        let actual = socket.local_addr().map_err(failed)?;
        let workers = if kind == Kind::Admin { 1 } else { cores() };
        let copies = (1..workers).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>();
        let mut sockets = copies.map_err(failed)?;
        sockets.push(socket);
        bound.insert((kind, address), Bound { sockets, actual, stop: CancellationToken::new() });
    }
    Ok(bound)
}

/// What a PAC file names: the configured addresses with the ports that they really have.
fn advertised(config: &Config, actual: impl Iterator<Item = ((Kind, SocketAddr), SocketAddr)>) -> Advertise {
    let actual: HashMap<_, _> = actual.collect();
    let of = |kind, listen: &[SocketAddr]| {
        listen.iter().filter_map(|a| actual.get(&(kind, *a)).copied()).collect::<Vec<_>>()
    };
    Advertise {
        http: of(Kind::Http, &config.proxy.listen),
        https: of(Kind::Https, &config.tls.listen),
        ..Advertise::from_config(config)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// One event loop for each core, on a thread of its own: a tunnel never changes threads, and
/// workers share nothing but the sockets that they accept from.
fn start_workers(gate: &Arc<Gate>) -> io::Result<Vec<UnboundedSender<Post>>> {
    (0..cores())
        .map(|i| {
            let (posts, mut received) = unbounded_channel::<Post>();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let gate = gate.clone();
            thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                runtime.block_on(async move {
                    tokio::spawn(beat::keep());
                    while let Some(Post { listener, https, stop }) = received.recv().await {
                        let gate = gate.clone();
                        match https {
                            Some(https) => tokio::spawn(accept_all(listener, https, gate, stop)),
                            None => tokio::spawn(accept_all(listener, Http, gate, stop)),
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
