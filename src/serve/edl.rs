//! The lists for firewalls, and the files of `[edl]`, which are followed as those of
//! the TLS listener are.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::error::ServeError;
use crate::admin::edl::Door;
use crate::admin::lists::Lists;
use crate::admin::users::Users;
use crate::config::Config;
use crate::journal::metrics::Metrics;
use crate::net::entrance::Entrance;
use crate::net::watch::Watch;
use crate::proxy::shared::Shared;
use crate::tls::{self, Identity};

/// The files of `[edl]` as they were read.
pub(crate) struct Files {
    door: Door,
    identity: Option<Identity>,
    /// Made before they were read; none where there is nothing to follow.
    watch: Option<Watch>,
    warning: Option<&'static str>,
}

impl Files {
    /// Reads them, where there is a listener.
    ///
    /// # Errors
    /// All problems with them at once, a line each.
    pub(crate) fn read(config: &Config) -> Result<Self, Vec<String>> {
        let edl = &config.edl;
        let mut door = Door { clients: edl.clients.clone(), ..Door::default() };
        if edl.listen.is_empty() {
            return Ok(Self { door, identity: None, watch: None, warning: None });
        }
        let paths = [&edl.certificate, &edl.key, &edl.users].into_iter().flatten().cloned();
        let watch = Some(Watch::new(paths.collect()));
        let mut problems = Vec::new();
        let mut identity = None;
        if let (Some(certificate), Some(key)) = (&edl.certificate, &edl.key) {
            let loaded = Identity::load(certificate, key, &tls::config::provider());
            let served = loaded.map_err(|error| error.to_string()).and_then(|loaded| {
                let config = tls::plain::server(&loaded).map_err(|error| error.to_string())?;
                Ok((loaded, config))
            });
            match served {
                Ok((loaded, config)) => (identity, door.tls) = (Some(loaded), Some(config)),
                Err(why) => problems.push(format!("edl.certificate, edl.key: {why}")),
            }
        }
        if let Some(file) = &edl.users {
            match Users::load(file) {
                Ok(users) => door.users = Some(Arc::new(users)),
                Err(why) => problems.push(why),
            }
        }
        let clear = door.users.is_some() && door.tls.is_none();
        let warning = clear.then_some(
            "edl.users without edl.certificate and edl.key: passwords go over the network in clear text",
        );
        if problems.is_empty() { Ok(Self { door, identity, watch, warning }) } else { Err(problems) }
    }

    /// Warnings about the files, as of now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings(self.identity.as_ref(), self.warning)
    }
}

fn warnings(identity: Option<&Identity>, warning: Option<&str>) -> Vec<String> {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let of = identity.map(|identity| identity.warnings(now)).unwrap_or_default();
    let of = of.into_iter().map(|text| {
        format!("{text}; this is the one of edl.listen, and a firewall that doesn't trust it any more may stop enforcing its lists")
    });
    of.chain(warning.map(str::to_owned)).collect()
}

/// The lists of the process and the listeners' files in force.
pub(super) struct Edl {
    pub lists: Arc<Lists>,
    pub door: Arc<ArcSwap<Door>>,
    metrics: Arc<Metrics>,
    /// Notified when a file has changed.
    changed: Arc<Notify>,
    identity: Option<Identity>,
    warning: Option<&'static str>,
    /// Ends the watch of the files.
    watching: Option<DropGuard>,
}

impl Edl {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let metrics = shared.journal.metrics.clone();
        Self {
            lists: Lists::new(shared),
            door: Arc::default(),
            metrics,
            changed: Arc::default(),
            identity: None,
            warning: None,
            watching: None,
        }
    }

    /// Waits until a file that was read has changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Puts what was read in force, and watches the files.
    pub(super) fn follow(&mut self, files: Files) {
        let Files { door, identity, watch, warning } = files;
        let path = identity.as_ref().map(|identity| identity.path().display().to_string());
        let certificate = identity.as_ref().zip(path.as_deref()).map(|(identity, path)| {
            let [begins, ends] = [identity.not_before(), identity.not_after()];
            (path, begins as i64, ends as i64)
        });
        self.metrics.tls.certificate_of(Entrance::Edl, certificate);
        self.door.store(Arc::new(door));
        (self.identity, self.warning) = (identity, warning);
        self.watching = watch.map(|watch| watch.follow(self.changed.clone()));
        self.remind();
    }

    /// Reads the files again, because one of them was replaced.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), ServeError> {
        self.follow(Files::read(config).map_err(|problems| ServeError::Edl(problems.join("\n")))?);
        Ok(())
    }

    /// Repeats the warnings about the files.
    pub(super) fn remind(&self) {
        for warning in warnings(self.identity.as_ref(), self.warning) {
            tracing::warn!(event = "edl_warning", "{warning}");
        }
    }
}
