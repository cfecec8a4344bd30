//! The families that show what the last round of the watch found.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus::GaugeVec;

use super::registrar::Registrar;
use crate::findings::watch::{ProbeStatus, Round};
use crate::lock::lock;

pub(super) struct WatchMetrics {
    success: GaugeVec,
    duration: GaugeVec,
    loss: GaugeVec,
    /// The labels that have series: category, host, protocol.
    shown: Mutex<BTreeSet<[String; 3]>>,
}

impl WatchMetrics {
    pub(super) fn new(families: &Registrar<'_>) -> Self {
        Self {
            success: families.fractions(
                "ccpgate_probe_success",
                "Whether the last round of the watch reached the endpoint.",
                &["category", "host", "protocol"],
            ),
            duration: families.fractions(
                "ccpgate_probe_duration_seconds",
                "How long the endpoint took in the last round of the watch.",
                &["category", "host", "protocol"],
            ),
            loss: families.fractions(
                "ccpgate_probe_loss_ratio",
                "Share of the Bindings to a media endpoint that the last round of the watch lost.",
                &["host"],
            ),
            shown: Mutex::default(),
        }
    }

    /// Shows a round; none: nothing. Endpoints that are no longer tested go: hosts are those of the
    /// configuration and the catalogue, which a reload changes.
    pub(super) fn show(&self, round: Option<&Round>) {
        let mut now = BTreeSet::new();
        for probe in round.iter().flat_map(|round| &round.probes) {
            if probe.status == ProbeStatus::Untested {
                continue;
            }
            let labels = [probe.category.as_str(), &probe.host, probe.protocol.into()];
            let reached = matches!(probe.status, ProbeStatus::Ok | ProbeStatus::Degraded);
            self.success.with_label_values(&labels).set(f64::from(u8::from(reached)));
            // What this round has no value for must not go on showing the last one's.
            match probe.took_ms {
                Some(took) => self.duration.with_label_values(&labels).set(took as f64 / 1000.0),
                None => drop(self.duration.remove_label_values(&labels)),
            }
            match probe.loss {
                Some(loss) => self.loss.with_label_values(&[&probe.host]).set(loss),
                None => drop(self.loss.remove_label_values(&[&probe.host])),
            }
            now.insert(labels.map(str::to_owned));
        }
        let mut shown = lock(&self.shown);
        for gone in shown.difference(&now) {
            let labels = [&*gone[0], &*gone[1], &*gone[2]];
            // One that took no time has no such series.
            let _ = self.success.remove_label_values(&labels);
            let _ = self.duration.remove_label_values(&labels);
            let _ = self.loss.remove_label_values(&[&*gone[1]]);
        }
        *shown = now;
    }
}
