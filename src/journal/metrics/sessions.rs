//! The gauge of TLS sessions, counted when somebody asks: a scrape right behind a handshake shows its session.

use std::sync::{Arc, OnceLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts};

use super::registrar::{Registrar, VALID};

type Count = Box<dyn Fn() -> u64 + Send + Sync>;

/// How many TLS sessions there are.
#[derive(Clone)]
pub(crate) struct Sessions {
    gauge: IntGauge,
    count: Arc<OnceLock<Count>>,
}

impl Sessions {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        let about = Opts::new("ccpgate_tls_sessions", "TLS sessions in this process's cache.");
        let gauge = IntGauge::with_opts(about).expect(VALID);
        families.keep(Self { gauge, count: Arc::default() })
    }

    /// Lets `count` tell from now on; before that, and without a TLS listener, there are none.
    pub(crate) fn count_by(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        // There is one store in a process, which all reloads keep.
        let _ = self.count.set(Box::new(count));
    }

    /// How many there are now.
    pub(crate) fn now(&self) -> u64 {
        self.count.get().map_or(0, |count| count())
    }
}

impl Collector for Sessions {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(i64::try_from(self.now()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}
