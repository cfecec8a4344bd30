//! What is read again while the process runs: the configuration at SIGHUP or when `ccpgate reload` asks, the
//! files of the TLS listener and those of `[edl]` when one of them changes. Each is put in force whole or not
//! at all, and a metric shows whether that succeeded.

use std::time::Duration;

use super::edl::Files;
use super::error::ServeError;
use super::listeners::Closed;
use super::notify::{self, Manager};
use super::prepare::{Prepared, load, resolver};
use super::tls::Watched;
use super::{Server, announce};
use crate::admin::reload::Verdict;
use crate::config::{self, Config, Sources};
use crate::egress::resolver::Resolver;
use crate::findings::change::{Change, without_clients};
use crate::journal::log::{Format, Level};
use crate::journal::metrics::Reload;
use crate::net::memory;
use crate::policy::replay::Losses;
use crate::proxy::snapshot::Snapshot;
use crate::ranges::current::Current;

/// A listener that a reload took away is closed before the reload is over. This is how long the workers
/// that accept from it have to go through its queue.
const CLOSING: Duration = Duration::from_secs(1);

/// Whether the configuration, the TLS files and those of `[edl]` could be used when they were last read. They
/// count apart: a renewed certificate does not mend a configuration file that is still broken.
#[derive(Clone, Copy)]
pub(super) struct Loads {
    pub config: bool,
    pub tls_files: bool,
    pub edl_files: bool,
}

/// What the process runs on until it ends, whatever a reload brings.
pub(super) struct Fixed {
    format: Format,
    level: Level,
    /// The capacity of the store of TLS sessions; none before there is one.
    sessions: Option<usize>,
}

impl Fixed {
    /// What a process that starts with this log runs on.
    pub(super) fn new(log: &config::Log) -> Self {
        Self { format: log.format, level: log.level, sessions: None }
    }

    /// The keys that this configuration has another value for.
    fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        let differs = [
            ("log.format", self.format != config.log.format),
            ("log.level", self.level != config.log.level),
            ("shift.sessions", self.sessions.is_some_and(|sessions| sessions != config.shift.sessions)),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// Whether a reload may take away what agents use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Losing {
    May,
    MayNot,
}

impl Server {
    /// Reads all TLS files again, because one of them was replaced; a broken one changes nothing.
    pub(super) fn reload_tls_files(&mut self) {
        let sessions = self.config.shift.sessions;
        let followed = Watched::read(&self.config).and_then(|read| self.tls.follow(read, sessions));
        self.count_reload(how(&followed), Loads { tls_files: followed.is_ok(), ..self.loads });
        match followed {
            Ok(()) => {
                self.shared.journal.findings.changed(Change::Certificate);
                tracing::info!(
                    event = "certificate_reloaded",
                    "took over the changed TLS files; sessions go on"
                );
            }
            Err(error) => {
                tracing::error!(event = "reload_failed", %error, "the changed TLS files are not usable; the old ones stay in force");
            }
        }
    }

    /// Reads the files of `[edl]` again, because one of them was replaced; a broken one changes nothing.
    pub(super) fn reload_edl_files(&mut self) {
        let reloaded = self.edl.reload(&self.config);
        self.count_reload(how(&reloaded), Loads { edl_files: reloaded.is_ok(), ..self.loads });
        match reloaded {
            Ok(()) => tracing::info!(event = "edl_reloaded", "took over the changed files of [edl]"),
            Err(error) => {
                tracing::error!(event = "reload_failed", %error, "the changed files of [edl] are not usable; the old ones stay in force");
            }
        }
    }

    /// Reads files again that could not be used when they changed: descriptors may have been scarce, or their
    /// disk away, and nobody would look at a renewed certificate any more. Says nothing before they can be used.
    pub(super) fn try_files_again(&mut self) {
        if !self.loads.tls_files && Watched::read(&self.config).is_ok() {
            self.reload_tls_files();
        }
        if !self.loads.edl_files && Files::read(&self.config).is_ok() {
            self.reload_edl_files();
        }
    }

    /// Puts a changed configuration in force, whole or not at all, and tells the service manager.
    pub(super) async fn reload_told(
        &mut self,
        sources: &Sources,
        manager: &Manager,
        losing: Losing,
    ) -> Verdict {
        manager.reloading();
        let verdict = self.reload(sources, losing).await;
        manager.ready(&notify::state(&self.shared));
        verdict
    }

    async fn reload(&mut self, sources: &Sources, losing: Losing) -> Verdict {
        match self.try_reload(sources, losing).await {
            Ok(differences) => {
                self.count_reload(Reload::Ok, Loads { config: true, tls_files: true, edl_files: true });
                Verdict::taken(differences, self.fixed.needs_restart(&self.config))
            }
            Err((error, loads)) => {
                self.count_reload(Reload::Error, loads);
                self.shared.journal.findings.changed(Change::ReloadRefused);
                tracing::error!(event = "reload_failed", %error, "the reload failed; the running configuration stays");
                let needs_restart = self.fixed.needs_restart(&self.config);
                Verdict::refused(error.to_string(), matches!(error, ServeError::Losses(_)), needs_restart)
            }
        }
    }

    fn count_reload(&mut self, how: Reload, loads: Loads) {
        self.loads = loads;
        let metrics = &self.shared.journal.metrics;
        metrics.reloaded(how);
        metrics.reload_successful.set(i64::from(loads.config && loads.tls_files && loads.edl_files));
        metrics.tls_files_successful.set(i64::from(loads.tls_files));
    }

    /// # Errors
    /// The reason, and what could be read; then nothing has changed.
    async fn try_reload(
        &mut self,
        sources: &Sources,
        losing: Losing,
    ) -> Result<Vec<String>, (ServeError, Loads)> {
        let failed = Loads { config: false, ..self.loads };
        let (config, plan) = load(sources).map_err(|error| (error, failed))?;
        // Where the same files are named as before, the fault is in them; if nothing else has changed
        // either, the configuration that was read is the one in force.
        let same = config == self.config;
        let tls_files = config.tls != self.config.tls && self.loads.tls_files;
        let edl_files = config.edl != self.config.edl && self.loads.edl_files;
        let tls_failed = Loads { config: same, tls_files, ..self.loads };
        let edl_failed = Loads { config: same, edl_files, ..self.loads };
        let (metrics, in_force) = (&self.shared.journal.metrics, self.shared.ranges.clone());
        let resolver = |dns: &config::Dns| self.resolver(dns);
        let prepared = Prepared::new((config, plan), &self.listeners, metrics, resolver, in_force);
        let Prepared { config, snapshot, warnings, tls, edl, watch, ranges, reselected, change } =
            prepared.map_err(|error| match error {
                ServeError::Tls(_) => (error, tls_failed),
                ServeError::Edl(_) => (error, edl_failed),
                _ => (error, failed),
            })?;
        if losing == Losing::MayNot {
            self.loses_nothing(&snapshot, reselected.as_deref()).map_err(|error| (error, failed))?;
        }
        // The first configuration with a TLS listener, at the start or later, has made the store; where there is none
        // yet, this one may make it, and then its value is in force.
        if self.fixed.sessions.is_none() && self.tls.serving().is_some() {
            self.fixed.sessions = Some(self.config.shift.sessions);
        }
        self.tls.follow(tls, config.shift.sessions).map_err(|error| (error, failed))?;
        let old = std::mem::replace(&mut self.config, config);
        let needs_restart = self.fixed.needs_restart(&self.config);
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(event = "needs_restart", "not in force before a restart: {keys}");
        }
        self.shared.replace(snapshot.clone());
        if reselected.is_some() {
            self.shared.ranges.store(reselected);
        }
        self.watch.send_replace(watch);
        self.ranges.send_replace(ranges);
        self.edl.follow(edl);
        let differences = old.differences(&self.config);
        self.shared.journal.findings.changed(Change::Reloaded(differences.clone()));
        let differences = match self.config.ledger.anonymise {
            true => differences.iter().map(|difference| without_clients(difference)).collect(),
            false => differences,
        };
        for Closed { kind, address, mut stopper } in self.change_listeners(change) {
            let _ = tokio::time::timeout(CLOSING, stopper.ended()).await;
            tracing::info!(event = "closed", listener = kind.into_str(), %address, "no longer listening");
        }
        self.shared.journal.metrics.configuration(&snapshot.fingerprint);
        announce::reloaded(&self.config, &snapshot, &warnings);
        drop(old);
        memory::give_back();
        Ok(differences)
    }

    /// `reselected`: the ranges as the new policy needs them, where that is something else than before.
    ///
    /// # Errors
    /// When agents use what the new policy would deny.
    fn loses_nothing(&self, snapshot: &Snapshot, reselected: Option<&Current>) -> Result<(), ServeError> {
        let ledger = &self.shared.journal.ledger;
        let live = ledger.live(|_| true, usize::MAX).items;
        let (ended, since) = ledger.ended(|_| true, usize::MAX);
        let live = live.iter().map(|seat| (seat, seat.began()));
        let ended = ended.items.iter().filter(|end| end.outcome.was_tunnel());
        let ended = ended.map(|end| (&end.seat, Some(end.at)));
        let uses = live.chain(ended).filter_map(|(seat, at)| Some(seat.used(at?)));
        let in_force = self.shared.ranges.load();
        let losses = Losses::of(&snapshot.coming(reselected.or(in_force.as_deref())), uses);
        match losses.is_empty() {
            true => Ok(()),
            false => Err(ServeError::Losses(losses.words(since))),
        }
    }

    /// The running resolver with its cache, unless something in `[dns]` has changed.
    fn resolver(&self, dns: &config::Dns) -> Resolver {
        if *dns != self.config.dns {
            return resolver(dns);
        }
        let running = self.shared.snapshot().egress.resolver.clone();
        running.refresh();
        running
    }
}

fn how(read: &Result<(), ServeError>) -> Reload {
    if read.is_ok() { Reload::Ok } else { Reload::Error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[&str]) -> Config {
        let set = set.iter().map(|flag| flag.to_string()).collect();
        config::load(&Sources { set, ..Sources::default() }).unwrap().config
    }

    #[test]
    fn a_key_needs_a_restart_until_it_is_what_the_process_runs_on() {
        let start = config(&[]);
        let mut fixed = Fixed::new(&start.log);
        assert_eq!(fixed.needs_restart(&start), [] as [&str; 0]);
        let other = config(&["log.format=json", "log.level=debug", "shift.sessions=7", "dns.timeout=2s"]);
        assert_eq!(fixed.needs_restart(&other), ["log.format", "log.level"], "there are no sessions yet");
        fixed.sessions = Some(start.shift.sessions);
        assert_eq!(fixed.needs_restart(&other), ["log.format", "log.level", "shift.sessions"]);
        assert_eq!(fixed.needs_restart(&config(&["log.level=warn"])), ["log.level"]);
        assert_eq!(fixed.needs_restart(&start), [] as [&str; 0], "the old value is back");
    }
}
