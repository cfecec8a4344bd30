//! From a configuration to what a start or a reload puts in force. All that can fail happens here, before
//! any effect that a client could notice.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::edl;
use super::error::ServeError;
use super::jobs::ranges;
use super::jobs::watch::Settings;
use super::listeners::{Change, Listeners};
use super::tls::Watched;
use crate::config::{self, Config, Sources};
use crate::egress::resolver::Resolver;
use crate::journal::metrics::Metrics;
use crate::net::entrance::Entrance;
use crate::pac::proxies::Advertise;
use crate::plan::{self, Plan};
use crate::proxy::snapshot::Snapshot;
use crate::ranges::current::{Current, InForce};

/// The configuration and what was resolved from it.
pub(super) fn load(sources: &Sources) -> Result<(Config, Plan), ServeError> {
    let loaded = config::load(sources)?;
    let plan = Plan::new(&loaded);
    Ok((loaded.config, plan))
}

/// A configuration that can be put in force. Dropped unused, it leaves nothing behind.
pub(super) struct Prepared {
    pub config: Config,
    pub snapshot: Arc<Snapshot>,
    /// Warnings about the allow list.
    pub warnings: Vec<String>,
    pub tls: Option<Watched>,
    pub edl: edl::Files,
    pub watch: Settings,
    pub ranges: ranges::Settings,
    /// The ranges in force with what this configuration needs of them, where that is something else than before.
    pub reselected: Option<Arc<Current>>,
    pub change: Change,
}

impl Prepared {
    /// Reads the files that the configuration names, and binds the addresses that are new. `in_force` are
    /// the ranges, which outlive every configuration.
    ///
    /// # Errors
    /// [`ServeError::Tls`] when the files of the TLS listener are unusable; they are checked first.
    pub(super) fn new(
        (config, plan): (Config, Plan),
        listeners: &Listeners,
        metrics: &Metrics,
        resolver: impl FnOnce(&config::Dns) -> Resolver,
        in_force: Arc<InForce>,
    ) -> Result<Self, ServeError> {
        let tls = Watched::read(&config)?;
        let edl = edl::Files::read(&config).map_err(|problems| ServeError::Edl(problems.join("\n")))?;
        let parent = plan::parent(&config).map_err(|problems| ServeError::Parent(problems.join("\n")))?;
        let watch = Settings::load(&config).map_err(ServeError::Watch)?;
        let ranges = ranges::Settings::load(&config).map_err(ServeError::Ranges)?;
        let reselected = ranges.reselected(&in_force);
        let change = listeners.prepare(&config)?;
        let advertise = advertised(&config, &change.addresses());
        let warnings = plan.warnings.clone();
        let resolver = resolver(&config.dns);
        let snapshot = Arc::new(Snapshot::new(&config, plan, parent, advertise, metrics, resolver, in_force));
        Ok(Self { config, snapshot, warnings, tls, edl, watch, ranges, reselected, change })
    }
}

/// A resolver for `[dns]`, with an empty cache.
pub(super) fn resolver(dns: &config::Dns) -> Resolver {
    Resolver::new(plan::dns(dns), Handle::current())
}

/// What a PAC file names: the configured addresses with the ports that they really have.
fn advertised(config: &Config, listeners: &[(Entrance, SocketAddr)]) -> Advertise {
    let of =
        |wanted| listeners.iter().filter(|(kind, _)| *kind == wanted).map(|(_, address)| *address).collect();
    Advertise { http: of(Entrance::Http), https: of(Entrance::Https), ..config.into() }
}
