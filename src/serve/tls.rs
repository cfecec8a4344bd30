//! The TLS side of the process: its sessions, which outlive every reload, and the certificate and keys that
//! connections are served with, which follow the files that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;
use zeroize::Zeroizing;

use super::error::ServeError;
use crate::config::Config;
use crate::journal::metrics::Metrics;
use crate::net::control;
use crate::net::watch::Watch;
use crate::plan;
use crate::tls::Shift;
use crate::tls::material::{Serving, TlsFiles};

/// How often sessions that are past the window are erased. A sweep walks through all of them.
const SWEEP: Duration = Duration::from_secs(60);
/// A successor gets no more bytes of sessions: 900,000 of TLS 1.3. While it takes them over nobody accepts, and for
/// that it has ten seconds.
const ESTATE: usize = 64 << 20;
const _: () = assert!(ESTATE <= control::LARGEST);

/// The files of the TLS listener as they were read, and a watch that was made before, so that it notices a
/// file that was replaced in between.
pub(super) struct Watched {
    files: TlsFiles,
    watch: Watch,
}

impl Watched {
    /// Reads them, where there is a TLS listener.
    ///
    /// # Errors
    /// All problems with them at once.
    pub(super) fn read(config: &Config) -> Result<Option<Self>, ServeError> {
        if config.tls.listen.is_empty() {
            return Ok(None);
        }
        let named = plan::tls(config);
        let watch = Watch::new(named.paths());
        let files = TlsFiles::load(named).map_err(|problems| ServeError::Tls(problems.join("\n")))?;
        Ok(Some(Self { files, watch }))
    }
}

/// The TLS side. It exists also while no listener needs it.
pub(super) struct Tls {
    metrics: Arc<Metrics>,
    /// Notified when a file has changed.
    changed: Arc<Notify>,
    /// Set by the first configuration that has a TLS listener.
    running: Option<Running>,
}

struct Running {
    shift: Arc<Shift>,
    serving: Arc<ArcSwap<Serving>>,
    /// Ends the watch of the files; none while no TLS listener needs them.
    watching: Option<DropGuard>,
}

impl Tls {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, changed: Arc::default(), running: None }
    }

    /// Waits until a file that was read has changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What a TLS listener serves its connections with, now and after each change.
    pub(super) fn serving(&self) -> Option<Arc<ArcSwap<Serving>>> {
        self.running.as_ref().map(|running| running.serving.clone())
    }

    /// The sessions that there are, for a successor; of too many the newest.
    pub(super) fn sessions(&self) -> Zeroizing<Vec<u8>> {
        self.running.as_ref().map(|running| running.shift.store().bequeath(ESTATE)).unwrap_or_default()
    }

    /// Takes over the sessions of the process before this one; how many.
    pub(super) fn inherit(&self, sessions: &[u8]) -> usize {
        self.running.as_ref().map_or(0, |running| running.shift.store().inherit(sessions))
    }

    /// Puts what was read in force over the sessions that there are, and watches the files.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub(super) fn follow(&mut self, read: Option<Watched>, sessions: usize) -> Result<(), ServeError> {
        let Some(Watched { files, watch }) = read else {
            if let Some(running) = &mut self.running {
                running.watching = None;
                self.metrics.tls.certificate(None);
            }
            return Ok(());
        };
        let running = match &mut self.running {
            Some(running) => {
                running.serving.store(Arc::new(running.shift.adopt(files)?));
                running
            }
            none => {
                let (shift, serving) = Shift::start(files, sessions)?;
                let counted = shift.clone();
                self.metrics.tls.sessions.count_by(move || counted.store().len());
                tokio::spawn(sweep(shift.clone()));
                let serving = Arc::new(ArcSwap::from_pointee(serving));
                none.insert(Running { shift, serving, watching: None })
            }
        };
        running.watching = Some(watch.follow(self.changed.clone()));
        announce(&running.serving.load(), running.shift.store().window_seconds(), &self.metrics);
        Ok(())
    }

    /// Repeats the warnings about the TLS files.
    pub(super) fn remind(&self) {
        if let Some(running) = self.running.as_ref().filter(|running| running.watching.is_some()) {
            warn_of(&running.serving.load());
        }
    }
}

fn announce(serving: &Serving, window: u64, metrics: &Metrics) {
    warn_of(serving);
    let (file, end) = serving.certificate();
    let begins = serving.certificate_begins();
    metrics.tls.certificate(Some((&file, begins as i64, end as i64)));
    let expires =
        jiff::Timestamp::from_second(end as i64).map_or_else(|_| end.to_string(), |t| t.to_string());
    tracing::info!(
        event = "certificate",
        certificate = %file,
        %expires,
        window = %humantime::format_duration(Duration::from_secs(window)),
        "the TLS listener's certificate, and how long its sessions can be resumed"
    );
}

fn warn_of(serving: &Serving) {
    for warning in serving.warnings() {
        tracing::warn!(event = "tls_warning", "{warning}");
    }
}

/// Sweeps now and then: moka's clock stops while a machine sleeps, so that moka alone would keep some sessions
/// too long, and it erases only when it is used.
async fn sweep(shift: Arc<Shift>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        shift.store().sweep();
    }
}
